"""The engine on vLLM against the engine of our own. Skipped where vLLM is not installed."""

import itertools
from contextlib import contextmanager
from unittest import mock

import pytest
import torch

from modelops.contract import Delta, EndCause, FinishReason, Refused, Sampling
from modelops.engine import reference_engine
from modelops.engine.vllm_plugin import vllm_engine
from modelops.engine.vllm_plugin.rights import PUBLIC_SLOT
from modelops.errors import EngineError
from tests.modelops import worlds
from tests.modelops.engine.rig import PROMPTS, Rig, SwitchableAuthority, removal_sets

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.xdist_group("vllm"),  # one process pays for its start
    pytest.mark.filterwarnings("default"),  # other people's
]

NEWS, NOTES, BIRCH = worlds.EXPERT_NAMES
SAMPLINGS = (
    Sampling(max_tokens=10, temperature=0, top_logprobs=3),
    Sampling(max_tokens=10, temperature=1, seed=5, top_p=0.9),
    Sampling(max_tokens=10, temperature=0.7, seed=6, frequency_penalty=0.5, stop=("th",)),
)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """The tiny world in sizes that vLLM's kernels take."""
    return worlds.build(tmp_path_factory.mktemp("wide"), hidden_size=128, intermediate_size=80)


def rig_on(make, world, **settings):
    refs = {name: worlds.ExpertRef(name, digest) for name, digest in world.experts.items()}
    authority = SwitchableAuthority(live=frozenset(refs.values()))
    engine = make(world.store, world.anchor_digest, authority, **settings)
    for ref in refs.values():
        engine.load(ref)
    return Rig(world, engine, authority, refs)


@pytest.fixture(scope="module")
def served(wide):
    """One engine on vLLM for all tests here: it takes seconds to start."""
    rig = rig_on(vllm_engine, wide, max_rows=6, max_queue=500, step_tokens=16, places=3)
    yield rig
    rig.engine.close()


@pytest.fixture
def ours(wide):
    return rig_on(reference_engine, wide, max_queue=500)


@pytest.fixture
def vllm(served):
    """The engine as it was made: every expert loaded, nothing withdrawn."""
    served.run()
    served.authority.__dict__.update(
        revoked=set(), has_lease=True, holding=True, policy_epoch=1, run_out=set()
    )
    for ref in served.refs.values():
        served.engine.load(ref)
    return served


def asked(rig, cases):
    ids = [rig.ask(names, prompt, **fields) for names, prompt, fields in cases]
    rig.run()
    return ids


def assert_same_answers(vllm, ours, cases):
    """Token for token, and counted alike."""
    for one, other in zip(asked(vllm, cases), asked(ours, cases), strict=True):
        done, wanted = vllm.last(one), ours.last(other)
        assert vllm.tokens(one) == ours.tokens(other)
        assert vllm.text(one) == ours.text(other)
        assert done.finish_reason is wanted.finish_reason
        assert done.tally.routed == wanted.tally.routed
        assert done.tally.mass == pytest.approx(wanted.tally.mass, abs=1e-3)
        assert _shares(vllm, one) == pytest.approx(_shares(ours, other), abs=1e-3)


def _shares(rig, order_id):
    deltas = [m for m in rig.heard[order_id] if isinstance(m, Delta)]
    routed = [token.get(name, 0) for m in deltas for token in m.routing for name in rig.refs]
    chosen = [token.logprob for m in deltas for token in m.chosen]
    scored = [token.logprob for m in deltas for token in m.scored if token.logprob is not None]
    return [*routed, *chosen, *scored]


def test_every_allowed_set_answers_token_for_token_as_the_reference_engine(wide, vllm, ours):
    cases = [
        (names, prompt, {"top_k": k, "sampling": sampling, "trace_routing": True})
        for (names, k), prompt, sampling in itertools.product(
            itertools.product(removal_sets(wide), (1, 2, 3)), PROMPTS[1:4], SAMPLINGS
        )
    ]
    # Six at a time, so that each batch is mixed and more wait than run.
    assert_same_answers(vllm, ours, cases)


def test_prompts_are_scored_alike(vllm, ours):
    sampling = Sampling(max_tokens=1, temperature=0)
    cases = [((NEWS, BIRCH), PROMPTS[3], {"score_prompt": True, "sampling": sampling})]
    assert_same_answers(vllm, ours, cases)


@contextmanager
def broken_birch(vllm):
    """An expert whose weights are not numbers: one product with them, be it times 0, shows."""
    slots, slot = vllm.engine._backend._slots, list(vllm.engine._backend.names()).index(BIRCH)
    for layer in slots._layers:
        layer.w13_weight.data[slot] = layer.w2_weight.data[slot] = torch.nan
    yield
    vllm.engine.unload(BIRCH)


DENIED_BIRCH = [(names, PROMPTS[1], {"top_k": 3}) for names in ((), (NEWS,), (NEWS, NOTES))]


def test_a_denied_experts_weights_are_never_read(vllm, ours):
    with broken_birch(vllm):
        allowed = vllm.ask((BIRCH,), PROMPTS[1], top_k=2)
        assert_same_answers(vllm, ours, DENIED_BIRCH)
        done = vllm.last(allowed)
        assert done.finish_reason is FinishReason.ERROR
        assert "finite" in done.detail


def test_an_empty_place_left_at_a_denied_expert_is_caught(vllm, ours):
    """Mutant: its weight is 0, and nobody sends it to the public expert instead."""
    rights = vllm.engine._backend._rights
    route, birch = rights.route, list(vllm.engine._backend.names()).index(BIRCH)

    def leaving(logits_TE):
        weights_TK, chosen_TK = route(logits_TE)
        return weights_TK, chosen_TK.masked_fill(weights_TK == 0, birch)

    with (
        broken_birch(vllm),
        mock.patch.object(rights, "route", leaving),
        pytest.raises(AssertionError),
    ):
        assert_same_answers(vllm, ours, DENIED_BIRCH)


def test_a_withdrawal_ends_wipes_and_unloads_and_touches_nobody_else(vllm, ours):
    long = Sampling(max_tokens=40, temperature=0)
    hit = vllm.ask((NEWS, BIRCH), sampling=long)
    other = vllm.ask((NOTES,), PROMPTS[1], sampling=long)
    vllm.run(6)
    before, backend = len(vllm.heard[hit]), vllm.engine._backend
    blocks = backend._vllm.blocks_of(backend._begun[hit].inner_id)
    caches = backend._vllm._runner.kv_caches
    slot = list(backend.names()).index(BIRCH)
    assert all(kept[blocks].any() for kept in caches)
    ack = vllm.engine.withdraw(BIRCH, 2)
    assert ack.was_loaded
    assert ack.streams_ended == (hit,)
    assert ack.freed_bytes > 0
    assert not any(kept[blocks].any() for kept in caches)
    for block in backend._vllm.model.governed:
        held = block.experts.routed_experts
        for weight in (held.w13_weight, held.w2_weight, block.gate.weight):
            assert not weight[slot].any()
            assert weight[PUBLIC_SLOT].any()
    vllm.run()
    assert [type(m) for m in vllm.heard[hit][before:]] == [type(vllm.last(hit))]
    assert vllm.last(hit).finish_reason is FinishReason.CONTENT_FILTER
    wanted = ours.ask((NOTES,), PROMPTS[1], sampling=long)
    ours.run()
    assert vllm.tokens(other) == ours.tokens(wanted)
    late = vllm.ask((BIRCH,))
    vllm.run()
    assert isinstance(vllm.last(late), Refused)


def test_an_expert_comes_back_while_others_are_served(vllm, ours):
    vllm.engine.withdraw(BIRCH, 2)
    running = vllm.ask((NEWS,), sampling=Sampling(max_tokens=20, temperature=0))
    vllm.run(3)
    vllm.engine.load(vllm.refs[BIRCH])
    assert_same_answers(vllm, ours, [((BIRCH, NEWS), PROMPTS[1], {"top_k": 3})])
    assert len(vllm.tokens(running)) == 20 or vllm.last(running).finish_reason == "stop"


def test_an_answer_that_may_goes_on_without_the_expert(vllm, ours):
    """As the reference engine goes on: from the words that were handed over, and nothing else."""
    heard = []
    for rig in (vllm, ours):
        order_id = rig.ask(
            (NEWS, BIRCH),
            PROMPTS[1],
            top_k=3,
            recompute_without=(BIRCH,),
            sampling=Sampling(max_tokens=30, temperature=0.8, seed=3, presence_penalty=0.4),
        )
        while len(rig.tokens(order_id)) < 8:
            rig.run(1)
        ack = rig.engine.withdraw(BIRCH, 2)
        assert ack.streams_recomputed == (order_id,)
        rig.run()
        (marked,) = [m for m in rig.heard[order_id] if getattr(m, "recomputed_without", ())]
        after = rig.heard[order_id][rig.heard[order_id].index(marked) :]
        heard.append((rig.tokens(order_id)[:8], [t for m in after[:-1] for t in m.token_ids]))
        assert rig.last(order_id).finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert heard[0] == heard[1]


def test_what_policy_holds_back_comes_out_unchanged_once_it_may(vllm, ours):
    order_id = vllm.ask((NEWS,), PROMPTS[1], sampling=SAMPLINGS[1])
    vllm.run(3)
    so_far = vllm.tokens(order_id)
    vllm.authority.holding = False
    vllm.run(3)
    assert vllm.tokens(order_id) == so_far
    vllm.authority.holding, vllm.authority.policy_epoch = True, 2
    vllm.run()
    wanted = ours.ask((NEWS,), PROMPTS[1], sampling=SAMPLINGS[1])
    ours.run()
    assert vllm.tokens(order_id) == ours.tokens(wanted)
    assert vllm.last(order_id).tally.routed == ours.last(wanted).tally.routed


def test_what_is_held_back_is_lost_with_the_permission(vllm):
    order_id = vllm.ask((NEWS,), PROMPTS[1])
    vllm.run(3)
    so_far = vllm.tokens(order_id)
    vllm.authority.holding = False
    vllm.run(2)
    vllm.authority.__dict__.update(holding=True, policy_epoch=2, revoked={NEWS})
    vllm.run()
    assert vllm.tokens(order_id) == so_far
    assert vllm.last(order_id).cause is EndCause.CONSENT_WITHDRAWN


def test_more_places_than_the_engine_has_are_refused(vllm):
    order_id = vllm.ask((NEWS, NOTES, BIRCH), top_k=4)
    assert isinstance(vllm.last_or_none(order_id) or _after_a_step(vllm, order_id), Refused)
    assert "places" in vllm.last(order_id).detail


def _after_a_step(rig, order_id):
    rig.run()
    return rig.last(order_id)


def test_a_step_that_never_asked_for_its_rights_stops_the_engine(wide, served):
    """Mutant: vLLM prepares its steps in another place than the one that was hooked."""
    rig = rig_on(vllm_engine, wide, max_rows=2)  # a second one in the same process
    runner = rig.engine._backend._vllm._runner
    runner._prepare_inputs = type(runner)._prepare_inputs.__get__(runner)
    order_id = rig.ask((NEWS,))
    rig.run()
    assert rig.last(order_id).finish_reason is FinishReason.ERROR
    assert "opened" in rig.engine.stats().fault
    rig.engine.close()


def test_more_experts_than_slots_are_refused(wide):
    with pytest.raises(EngineError, match="slots"):
        rig_on(vllm_engine, wide, max_rows=2, slots=3, places=2)


@pytest.mark.parametrize("sizes", [{"hidden_size": 48}, {}], ids=["experts", "attention"])
def test_an_anchor_that_vllms_kernels_do_not_take_is_refused(tmp_path, sizes):
    with pytest.raises(EngineError, match="reference engine"):
        rig_on(vllm_engine, worlds.build(tmp_path, **sizes), max_rows=2)
