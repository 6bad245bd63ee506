"""Reuse of what prompts begin with: the same bits, no leak between rights, gone at withdrawal."""

import pytest

from modelops.contract import Sampling
from tests.modelops.engine.rig import (
    GREEDY,
    assert_recomputed_as_if_fresh,
    assert_reuse_changes_nothing,
    make_rig,
)
from tests.modelops.worlds import EXPERT_NAMES

NEWS, NOTES, BIRCH = EXPERT_NAMES
LONG = "what was printed. Edda trains an expert, and Birch Archive keeps it for a year, and so on"
SETS = [(NEWS,), (BIRCH,), (), (NEWS, BIRCH), EXPERT_NAMES]


def make(tiny, prefix_bytes=10**7, **settings):
    return make_rig(tiny, prefill_chunk=8, prefix_bytes=prefix_bytes, **settings)


def prefilled(rig):
    """How many prompt tokens the engine computes from now on, counted as it runs."""
    run, counted = rig.engine._backend.forward.run, [0]

    def counting(plan, is_interrupted):
        if plan.is_prefill:
            counted[0] += (plan.end - plan.start) * len(plan.sequences)
        return run(plan, is_interrupted)

    rig.engine._backend.forward.run = counting
    return counted


def test_reused_is_recomputed_bit_for_bit(tiny):
    asks = [
        {"names": SETS[-1], "prompt": LONG[:end], "sampling": GREEDY, "top_k": k}
        for end in (80, 80, 60, 88, 33, 2)
        for k in (2, 4)
    ]
    reusing = make(tiny)
    counted = prefilled(reusing)
    assert_reuse_changes_nothing(reusing, make(tiny, 0), asks)
    whole = sum(len(tiny.tokenizer.encode(ask["prompt"]).ids) for ask in asks)
    assert counted[0] < whole / 2


def test_a_beginning_is_never_reused_for_other_rights(tiny):
    asks = [{"names": names, "prompt": LONG, "top_k": 2} for names in SETS]
    assert_reuse_changes_nothing(make(tiny), make(tiny, 0), asks)


def test_other_experts_per_token_compute_their_own_beginning(tiny):
    asks = [{"names": EXPERT_NAMES, "prompt": LONG, "top_k": k} for k in (1, 2, 3, 4)]
    assert_reuse_changes_nothing(make(tiny), make(tiny, 0), asks)


def test_nothing_is_kept_unless_asked_for(tiny):
    rig = make(tiny, 0)
    counted = prefilled(rig)
    for _ in range(2):
        rig.ask((NEWS,), LONG)
        rig.run()
    assert counted[0] == 2 * len(tiny.tokenizer.encode(LONG).ids)
    assert rig.engine._backend.prefixes.size_bytes == 0


def test_the_store_stays_within_its_bytes_and_keeps_what_was_used_last(tiny):
    chunk_bytes = 2 * 2 * 8 * 32 * 4  # keys and values, 2 layers, 8 tokens, width 32, fp32
    rig = make(tiny, 3 * chunk_bytes)
    prompts = [f"{name} {LONG}"[:20] for name in ("Alder", "Birch", "Cato", "Dara", "Edda")]
    for prompt in prompts:
        rig.ask((NEWS,), prompt, sampling=Sampling(1))
        rig.run()
        assert 0 < rig.engine._backend.prefixes.size_bytes <= 3 * chunk_bytes
    counted = prefilled(rig)
    for prompt in (prompts[-1], prompts[0]):
        rig.ask((NEWS,), prompt, sampling=Sampling(1))
        rig.run()
    ids = [len(tiny.tokenizer.encode(prompt).ids) for prompt in (prompts[-1], prompts[0])]
    assert ids[1] <= counted[0] < sum(ids)


def test_a_prompt_that_is_scored_is_computed_whole(tiny):
    rig = make(tiny)
    for _ in range(2):
        order = rig.ask((NEWS,), LONG, score_prompt=True)
        rig.run()
        scored = [token for m in rig.heard[order][:-1] for token in m.scored]
        assert len(scored) == len(tiny.tokenizer.encode(LONG).ids)


@pytest.mark.parametrize("leave", ["withdraw", "unload"])
def test_what_an_expert_had_a_part_in_goes_with_it(tiny, leave):
    rig = make(tiny)
    for names in SETS:
        rig.ask(names, LONG)
        rig.run()
    store = rig.engine._backend.prefixes
    with_birch = [chunk for chunk in store._chunks.values() if BIRCH in chunk.experts]
    before = store.size_bytes
    freed = rig.engine.withdraw(BIRCH, 2).freed_bytes if leave == "withdraw" else 0
    if leave == "unload":
        freed = rig.engine.unload(BIRCH)
    gone = before - store.size_bytes
    assert gone == sum(chunk.halves.nbytes for chunk in with_birch) > 0
    assert freed > gone
    assert not any(chunk.halves.any() for chunk in with_birch)
    assert not any(BIRCH in chunk.experts for chunk in store._chunks.values())


def test_an_expert_that_came_back_starts_anew(tiny):
    rig = make(tiny)
    rig.ask((BIRCH,), LONG)
    rig.run()
    rig.engine._backend.bank.detach(BIRCH)  # past the engine, so that the store was told nothing
    rig.engine.load(rig.refs[BIRCH])
    counted = prefilled(rig)
    rig.ask((BIRCH,), LONG)
    rig.run()
    assert counted[0] == len(tiny.tokenizer.encode(LONG).ids)


def test_a_recomputed_answer_may_begin_with_what_is_kept(tiny):
    rig = make(tiny)
    prompt = "Alder Press prints"
    for names in ((NEWS,), (NEWS, BIRCH)):
        order = rig.ask(
            names,
            prompt,
            sampling=Sampling(max_tokens=60, temperature=0),
            recompute_without=(BIRCH,),
        )
        rig.run(steps=14)
    rig.engine.withdraw(BIRCH, 2)
    rig.run()
    assert_recomputed_as_if_fresh(rig, make(tiny, 0), order, (NEWS,))
