"""Withdrawal while streams run: at once, nothing late, nothing left, nobody else disturbed."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from modelops.contract import (
    Delta,
    EndCause,
    ExpertRef,
    FinishReason,
    RefusalReason,
    Sampling,
)
from modelops.errors import RoutingGuardError
from tests.modelops.engine.rig import (
    PROMPTS,
    assert_recomputed_as_if_fresh,
    assert_same_bits,
    make_rig,
)

NEWS, NOTES, BIRCH = "alder-news", "alder-notes", "birch-archive"
LONG = Sampling(max_tokens=60, temperature=0)


def wait_for(condition, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.001)


def started(tiny, **settings):
    rig = make_rig(tiny, **settings)
    rig.engine.start()
    return rig


def test_withdrawal_under_load_lets_no_token_out_and_disturbs_nobody(tiny):
    rig = started(tiny, max_rows=12)
    sets = [(NEWS,), (NEWS, BIRCH), (BIRCH,), (), (NOTES,), (NOTES, BIRCH)] * 2
    orders = [rig.order(s, PROMPTS[i % 5], sampling=LONG) for i, s in enumerate(sets)]
    for order in orders:
        rig.submit(order)
    wait_for(lambda: all(len(rig.tokens(o.order_id)) > 3 for o in orders))
    ack = rig.engine.withdraw(BIRCH, policy_epoch=2)
    at_return = {o.order_id: len(rig.heard[o.order_id]) for o in orders}
    hit = {o.order_id for o in orders if BIRCH in [r.name for r in o.allowed]}
    assert set(ack.streams_ended) == hit
    assert ack.was_loaded
    assert ack.freed_bytes > 0
    spared = [o for o in orders if o.order_id not in hit]
    wait_for(lambda: all(rig.last_or_none(o.order_id) for o in spared))
    rig.engine.close()
    for order_id in hit:
        done = rig.last(order_id)
        assert len(rig.heard[order_id]) == at_return[order_id], "something came after the ack"
        assert done.finish_reason is FinishReason.CONTENT_FILTER
        assert (done.cause, done.expert) == (EndCause.CONSENT_WITHDRAWN, BIRCH)
    calm = make_rig(tiny)
    for order in spared:
        alone = calm.alone(order)
        assert rig.tokens(order.order_id) == calm.tokens(alone)
        assert rig.last(order.order_id).tally.routed == calm.last(alone).tally.routed


def test_a_running_step_is_abandoned_at_the_next_layer(tiny):
    rig = make_rig(tiny)
    order, other = rig.ask((BIRCH,)), rig.ask((NEWS,))
    rig.run(steps=3)
    before = len(rig.tokens(order))
    reached, go_on = threading.Event(), threading.Event()
    run = rig.engine._backend.bank.run
    layers = []

    def slow(layer, lane, x_ND):
        layers.append(layer)
        reached.set()
        go_on.wait(5)
        return run(layer, lane, x_ND)

    rig.engine._backend.bank.run = slow
    rig.engine.start()
    assert reached.wait(5)
    withdrawing = threading.Thread(target=rig.engine.withdraw, args=(BIRCH, 2))
    withdrawing.start()
    wait_for(lambda: rig.engine._interrupted)
    layers.clear()
    rig.engine._backend.bank.run = run
    go_on.set()
    withdrawing.join(5)
    assert not withdrawing.is_alive()
    wait_for(lambda: rig.last_or_none(other))
    rig.engine.close()
    assert 1 not in layers, "the second layer of the abandoned step was computed"
    assert rig.engine.stats().steps_abandoned == 1
    assert len(rig.tokens(order)) == before
    assert rig.last(order).cause is EndCause.CONSENT_WITHDRAWN
    calm = make_rig(tiny)
    alone = calm.ask((NEWS,))
    calm.run()
    assert rig.tokens(other) == calm.tokens(alone)


def test_after_a_withdrawal_the_weights_and_the_rows_are_gone(tiny):
    rig = make_rig(tiny)
    order = rig.ask((BIRCH,), sampling=LONG)
    rig.run(steps=5)
    ack = rig.engine.withdraw(BIRCH, 2)
    size = sum(t.nbytes for t in _expert_tensors(tiny, BIRCH))
    assert ack.freed_bytes == size
    assert rig.engine.loaded() == {rig.refs[NEWS], rig.refs[NOTES]}
    assert BIRCH not in rig.engine._backend.bank.names()
    arena = rig.engine._backend.forward._arena
    assert not any(half.any() for half in (*arena.keys_LRPHW, *arena.values_LRPHW))
    assert rig.last(order).cause is EndCause.CONSENT_WITHDRAWN


def test_a_waiting_order_of_the_expert_is_refused_and_a_later_one_too(tiny):
    rig = make_rig(tiny, max_rows=1)
    rig.ask((NEWS,))
    waiting = rig.ask((BIRCH,))
    rig.run(steps=2)
    rig.engine.withdraw(BIRCH, 2)
    later = rig.ask((BIRCH,))
    rig.run()
    assert rig.last(waiting).reason is RefusalReason.NOT_PERMITTED
    assert rig.last(later).reason is RefusalReason.EXPERT_UNAVAILABLE
    assert rig.last(later).retry


def test_withdrawing_what_is_not_loaded_is_acknowledged_as_such(tiny):
    rig = make_rig(tiny, (NEWS,))
    ack = rig.engine.withdraw(BIRCH, 9)
    assert (ack.was_loaded, ack.streams_ended, ack.freed_bytes) == (False, (), 0)
    assert (ack.expert, ack.policy_epoch) == (BIRCH, 9)


def test_withdrawing_from_inside_a_delivery_does_not_lock_up(tiny):
    rig = make_rig(tiny)
    acks = []
    order = rig.order((BIRCH,), sampling=LONG)

    def deliver(message):
        if isinstance(message, Delta):
            acks.append(rig.engine.withdraw(BIRCH, 2))

    rig.engine.submit(order, deliver)
    rig.engine.start()
    wait_for(lambda: acks)
    rig.engine.close()
    assert [ack.streams_ended for ack in acks] == [(order.order_id,)]


def recomputing(tiny, **fields):
    """A rig in which BIRCH was withdrawn in the middle of an answer that may go on without."""
    rig = make_rig(tiny)
    fields = {"sampling": LONG, "recompute_without": (BIRCH,), **fields}
    order, other = rig.ask((NEWS, BIRCH), **fields), rig.ask((NEWS, NOTES), sampling=LONG)
    rig.run(steps=9)
    return rig, order, other, rig.engine.withdraw(BIRCH, 2)


def test_an_answer_whose_licence_allows_it_is_computed_again_without_the_expert(tiny):
    rig, order, other, ack = recomputing(tiny)
    assert (ack.streams_ended, ack.streams_recomputed) == ((), (order,))
    assert not rig.engine._backend.bank.names().count(BIRCH)
    rig.run()
    assert_recomputed_as_if_fresh(rig, make_rig(tiny, (NEWS,)), order, (NEWS,))
    done = rig.last(order)
    assert (done.finish_reason, done.tally.completion_tokens) == (FinishReason.LENGTH, 60)
    calm = make_rig(tiny)
    alone = calm.ask((NEWS, NOTES), sampling=LONG)
    calm.run()
    assert_same_bits(rig, other, calm, alone)


def test_nothing_of_the_row_is_left_when_the_withdrawal_returns(tiny):
    rig, order, other, _ = recomputing(tiny)
    sequence = rig.engine._open[order]
    arena = rig.engine._backend.forward._arena
    for half in (*arena.keys_LRPHW, *arena.values_LRPHW):
        assert not half[sequence.row].any()
        assert half[rig.engine._open[other].row].any()


def test_a_new_policy_epoch_has_an_answer_recomputed_too(tiny):
    rig = make_rig(tiny)
    order = rig.ask((NEWS, BIRCH), sampling=LONG, recompute_without=(BIRCH,))
    rig.run(steps=9)
    rig.authority.revoked.add(BIRCH)
    rig.authority.policy_epoch = 2
    rig.run()
    assert_recomputed_as_if_fresh(rig, make_rig(tiny, (NEWS,)), order, (NEWS,))
    assert rig.last(order).policy_epoch == 2


def test_only_what_the_order_may_lose_is_outlived_and_nothing_that_was_voided(tiny):
    rig = make_rig(tiny)
    lasting, mixed = (
        rig.ask((NEWS, BIRCH), sampling=LONG, recompute_without=names)
        for names in ((NEWS, BIRCH), (BIRCH,))
    )
    rig.run(steps=9)
    rig.authority.revoked |= {NEWS, BIRCH}
    rig.authority.policy_epoch = 2
    rig.run(steps=2)
    assert rig.last(mixed).finish_reason is FinishReason.CONTENT_FILTER
    assert rig.last_or_none(lasting) is None

    rig = make_rig(tiny)
    order = rig.ask((NEWS, BIRCH), sampling=LONG, recompute_without=(BIRCH,))
    rig.run(steps=9)
    rig.authority.voided.add(BIRCH)
    assert rig.engine.withdraw(BIRCH, 2).streams_ended == (order,)


def test_words_held_back_are_not_handed_over_after_a_withdrawal(tiny):
    probe = make_rig(tiny)
    plain = probe.ask((NEWS, BIRCH), sampling=LONG)
    probe.run()
    text = probe.text(plain)
    # Everything could be the beginning of this stop string for a while, and never is one.
    stop = text[4:40] + "!"
    held = replace(LONG, stop=(stop,))
    rig, order, _, _ = recomputing(tiny, sampling=held, trace_routing=True)
    before = rig.text(order)
    assert before == text[: len(before)] == text[:4]
    rig.run()
    (at,) = [n for n, m in enumerate(rig.heard[order]) if getattr(m, "recomputed_without", ())]
    assert "".join(m.text for m in rig.heard[order][:at]) == before
    deltas = rig.heard[order][:-1]
    assert all(len(delta.routing) == len(delta.token_ids) for delta in deltas)
    assert not any(BIRCH in parts for delta in deltas[at:] for parts in delta.routing)
    assert_recomputed_as_if_fresh(rig, make_rig(tiny, (NEWS,)), order, (NEWS,))


def test_a_recomputed_answer_that_no_longer_fits_ends(tiny):
    rig = make_rig(tiny)
    n = len(tiny.tokenizer.encode(PROMPTS[0]).ids)
    whole = Sampling(max_tokens=128 - n, seed=4)
    order = rig.ask((NEWS, BIRCH), sampling=whole, recompute_without=(BIRCH,))
    rig.run(steps=20)
    rig.engine._intake.encode_plain = lambda text: [5] * len(text.encode())
    rig.engine.withdraw(BIRCH, 2)
    rig.run()
    assert rig.last(order).cause is EndCause.CONSENT_WITHDRAWN


def test_a_fault_is_no_reason_to_go_on_without_an_expert(tiny):
    rig = make_rig(tiny)
    order = rig.ask((BIRCH,), sampling=LONG, recompute_without=(BIRCH,))
    rig.run(steps=4)
    rig.authority.has_lease = False
    rig.run()
    assert rig.last(order).cause is EndCause.LEASE_LOST


def withdrawn_in_a_delivery(rig):
    """The reader of the step's first row withdraws BIRCH; returns the order of its second row."""
    first = rig.order((NEWS,), sampling=LONG)
    acks = []

    def deliver(message):
        if isinstance(message, Delta) and not acks and rig.tokens(second):
            acks.append(rig.engine.withdraw(BIRCH, 2))

    rig.engine.submit(first, deliver)
    second = rig.ask((NEWS, BIRCH), sampling=LONG, recompute_without=(BIRCH,))
    rig.run()
    assert [ack.streams_recomputed for ack in acks] == [(second,)]
    return second


def test_an_answer_recomputed_in_the_middle_of_a_delivery_gets_no_late_token(tiny):
    rig = make_rig(tiny)
    order = withdrawn_in_a_delivery(rig)
    assert_recomputed_as_if_fresh(rig, make_rig(tiny, (NEWS,)), order, (NEWS,))


def test_the_acknowledgement_says_when_and_how_long(tiny):
    before = time.time()
    ack = make_rig(tiny).engine.withdraw(BIRCH, 2)
    assert before <= ack.done_at <= time.time()
    assert 0 < ack.took_s <= time.time() - before + 1


def test_an_expert_may_come_back_and_serves_as_before(tiny):
    rig = make_rig(tiny)
    first = rig.ask((BIRCH,))
    rig.run()
    rig.engine.withdraw(BIRCH, 2)
    rig.engine.load(rig.refs[BIRCH])
    again = rig.ask((BIRCH,))
    rig.run()
    assert rig.tokens(first) == rig.tokens(again)


def test_a_generation_is_never_given_again(tiny):
    rig = make_rig(tiny)
    bank, ref = rig.engine._backend.bank, rig.refs[BIRCH]
    old = bank.generations((ref,))
    rig.engine.unload(BIRCH)
    rig.engine.load(ref)
    assert bank.generations((ref,)) != old
    with pytest.raises(Exception, match="unloaded since"):
        bank.lanes(old)


def test_a_load_between_steps_leaves_running_streams_as_they_were(tiny):
    rig = make_rig(tiny, (BIRCH,))
    order = rig.ask((BIRCH,))
    rig.run(steps=4)
    rig.engine.load(rig.refs[NEWS])  # sorts before birch-archive, so its lane moves
    rig.run()
    calm = make_rig(tiny, (BIRCH,))
    alone = calm.ask((BIRCH,))
    calm.run()
    assert all(
        torch.equal(a, b) for a, b in zip(rig.logits[order], calm.logits[alone], strict=True)
    )


@pytest.mark.parametrize("steps", [0, 3], ids=["waiting", "running"])
def test_what_a_stream_may_use_is_unloaded_only_after_its_end(tiny, steps):
    rig = make_rig(tiny)
    order = rig.ask((BIRCH,))
    rig.run(steps=steps)
    assert rig.engine.unload(BIRCH) == 0
    assert rig.engine.unload(NEWS) > 0
    rig.run()
    assert rig.last(order).cause is EndCause.NONE
    assert rig.engine.unload(BIRCH) > 0
    assert rig.engine.unload(BIRCH) == 0


def test_an_engine_retires_once_nobody_is_answered_and_refuses_from_then_on(tiny):
    rig = make_rig(tiny)
    order = rig.ask((BIRCH,))
    assert not rig.engine.retire()
    rig.run()
    assert rig.last(order).cause is EndCause.NONE
    assert rig.engine.retire()
    refused = rig.last(rig.ask(()))
    assert (refused.reason, refused.retry) == (RefusalReason.OVERLOADED, True)


def test_an_order_for_another_revision_is_unavailable(tiny):
    rig = make_rig(tiny)
    rig.refs[BIRCH] = ExpertRef(BIRCH, "0" * 64)
    rig.authority.live = frozenset(rig.refs.values())
    order = rig.ask((BIRCH,))
    rig.run()
    assert rig.last(order).reason is RefusalReason.EXPERT_UNAVAILABLE


def test_a_wrong_router_stops_the_engine_for_good(tiny):
    rig = make_rig(tiny)

    def wrong(*_):
        raise RoutingGuardError("expected nothing, found a test")

    rig.engine._backend.forward._hidden = wrong
    order = rig.ask((BIRCH,))
    rig.run()
    assert rig.last(order).cause is EndCause.ENGINE_FAULT
    assert rig.engine.stats().fault
    later = rig.ask(())
    rig.run()
    assert rig.last(later).reason is RefusalReason.OVERLOADED


def _expert_tensors(tiny, name):
    from modelops.artefacts.tensors import load

    return load(tiny.bundles[name] / "weights.safetensors").values()
