"""The lease inside the step: asked before computing, asked again before handing over."""

import dataclasses

from modelops.contract import EndCause, FinishReason, RefusalReason, Refused
from modelops.engine import lease
from tests.modelops.engine.rig import Rig, assert_nothing_after, make_rig

NEWS, NOTES, BIRCH = "alder-news", "alder-notes", "birch-archive"


def two_begun(tiny) -> tuple[Rig, str, str]:
    """A rig three steps into one licensed and one public-only stream."""
    rig = make_rig(tiny)
    licensed, public = rig.ask((NEWS, BIRCH)), rig.ask(())
    rig.run(steps=4)
    assert rig.tokens(licensed)
    assert rig.tokens(public)
    return rig, licensed, public


def assert_expired_warrant_releases_nothing(rig: Rig, order_id: str) -> None:
    """The warrant is good when the step begins and gone when it ends: nothing may come out."""
    before = len(rig.tokens(order_id))
    rig.authority.holding = False
    rig.run(steps=3)
    assert_nothing_after(rig, order_id, before)


def test_without_a_warrant_licensed_rows_end_and_public_ones_go_on(tiny):
    rig, licensed, public = two_begun(tiny)
    before = len(rig.tokens(licensed))
    rig.authority.has_lease = False
    rig.run()
    done = rig.last(licensed)
    assert (done.finish_reason, done.cause) == (FinishReason.CONTENT_FILTER, EndCause.LEASE_LOST)
    assert_nothing_after(rig, licensed, before)
    assert rig.last(public).finish_reason is FinishReason.LENGTH
    assert len(rig.tokens(public)) == 10


def test_without_a_warrant_a_waiting_licensed_order_is_refused_and_may_retry(tiny):
    rig = make_rig(tiny)
    rig.authority.has_lease = False
    licensed, public = rig.ask((NEWS,)), rig.ask(())
    rig.run()
    refused = rig.last(licensed)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.retry) == (RefusalReason.NO_LEASE, True)
    assert rig.last(public).finish_reason is FinishReason.LENGTH


def test_a_warrant_that_expires_between_compute_and_release_discards_the_token(tiny):
    rig, licensed, public = two_begun(tiny)
    public_before = len(rig.tokens(public))
    assert_expired_warrant_releases_nothing(rig, licensed)
    assert rig.engine.stats().rows_discarded == 3
    assert len(rig.tokens(public)) > public_before


def test_a_discarded_step_is_computed_again_and_leaves_no_trace(tiny):
    rig, licensed, _ = two_begun(tiny)
    rig.authority.holding = False
    rig.run(steps=2)
    rig.authority.holding = True
    rig.run()
    calm = make_rig(tiny)
    undisturbed = calm.ask((NEWS, BIRCH))
    calm.run()
    assert rig.tokens(licensed) == calm.tokens(undisturbed)
    assert rig.last(licensed).tally == calm.last(undisturbed).tally


def test_the_warrant_is_asked_once_a_step_and_held_against_each_hand_over(tiny):
    rig = make_rig(tiny)
    for _ in range(3):
        rig.ask((NEWS,))
    rig.run(steps=4)
    rig.authority.asked.clear()
    rig.run(steps=1)
    assert rig.authority.asked == ["warrant", "holds", "holds", "holds"]


def test_a_row_that_lost_an_expert_in_a_new_policy_epoch_is_aborted(tiny):
    rig, licensed, public = two_begun(tiny)
    kept = rig.ask((NEWS,))
    rig.run(steps=2)
    before = len(rig.tokens(licensed))
    rig.authority.revoked.add(BIRCH)
    rig.authority.policy_epoch = 2
    rig.run()
    done = rig.last(licensed)
    assert done.finish_reason is FinishReason.CONTENT_FILTER
    assert (done.cause, done.expert) == (EndCause.CONSENT_WITHDRAWN, BIRCH)
    assert_nothing_after(rig, licensed, before)
    assert rig.last(kept).policy_epoch == 2
    assert rig.last(public).finish_reason is FinishReason.LENGTH


def test_a_licence_that_runs_out_by_itself_is_noticed_at_the_next_renewal(tiny):
    rig, licensed, public = two_begun(tiny)
    rig.authority.run_out.add(BIRCH)  # same policy epoch: time alone has passed
    rig.run(steps=1)
    before = len(rig.tokens(licensed))
    rig.authority.renewals += 1
    rig.run()
    done = rig.last(licensed)
    assert (done.cause, done.expert) == (EndCause.LICENCE_ENDED, BIRCH)
    assert_nothing_after(rig, licensed, before)
    assert rig.last(public).finish_reason is FinishReason.LENGTH


def test_its_keys_and_values_are_wiped(tiny):
    rig, licensed, _ = two_begun(tiny)
    arena = rig.engine._backend.forward._arena
    row = next(s.row for s in rig.engine._backend.scheduler.live if s.order_id == licensed)
    assert arena.keys_LRPHW[1][row].any()
    rig.authority.has_lease = False
    rig.run()
    for half in (*arena.keys_LRPHW, *arena.values_LRPHW):
        assert not half.any(), "expected an idle arena to hold zeros only"


def test_an_expert_that_is_not_live_is_refused_whatever_permits_says(tiny):
    rig = make_rig(tiny)
    rig.authority.live = frozenset()
    order = rig.ask((NEWS,))
    rig.run()
    assert rig.last(order).reason is RefusalReason.NOT_PERMITTED


def test_an_order_decided_under_a_later_policy_epoch_is_not_begun(tiny):
    rig = make_rig(tiny)
    order = rig.ask((NEWS,), policy_epoch=7)
    rig.run()
    assert rig.last(order).reason is RefusalReason.STALE_EPOCH
    assert rig.last(order).retry


def test_an_order_decided_earlier_is_decided_again(tiny):
    rig = make_rig(tiny)
    rig.authority.policy_epoch = 3
    rig.authority.revoked.add(NEWS)
    lost, kept = rig.ask((NEWS,), policy_epoch=1), rig.ask((NOTES,), policy_epoch=1)
    rig.run()
    assert rig.last(lost).reason is RefusalReason.NOT_PERMITTED
    assert rig.last(kept).policy_epoch == 3


def test_nothing_licensed_is_released_without_a_warrant(tiny):
    rig = make_rig(tiny)
    sequence = rig.engine._intake.examine(rig.order((NEWS,)), print)
    assert not lease.may_release(sequence, None, rig.authority)
    public = dataclasses.replace(sequence, order=rig.order(()))
    assert lease.may_release(public, None, rig.authority)
