"""Masked in a mixed batch is the same as alone, as never loaded, and as physically removed."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelops.contract import Delta, FinishReason, Sampling
from modelops.engine.linear import Layout
from tests.modelops.engine.rig import (
    PROMPTS,
    assert_denied_change_nothing,
    assert_masked_is_never_loaded,
    assert_same_bits,
    make_rig,
    removal_sets,
    stock_answer,
    with_nan_expert,
)
from tests.modelops.worlds import EXPERT_NAMES

LAYOUTS = list(Layout)


@pytest.fixture(params=["fp32", "bf16"])
def either(request, tiny):
    """The tiny world in either precision: what is promised bit for bit holds in both."""
    return tiny if request.param == "fp32" else request.getfixturevalue("tiny_bf16")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_removal_set_in_one_batch_equals_alone_and_stock_generate(tiny, layout):
    rig = make_rig(tiny, layout=layout, max_rows=8)
    orders = [
        rig.order(names, PROMPTS[i % len(PROMPTS)]) for i, names in enumerate(removal_sets(tiny))
    ]
    for order in orders:
        rig.submit(order)
    rig.run()
    for order in orders:
        assert_same_bits(rig, order.order_id, rig, rig.alone(order))
        names = [ref.name for ref in order.allowed]
        ids, logits_NV = stock_answer(tiny, names, order.prompt, order.sampling.max_tokens)
        ours_NV = torch.stack(rig.logits[order.order_id])
        mine = rig.tokens(order.order_id)
        assert mine == ids, f"{names}: expected the tokens of generate(), found others"
        assert (ours_NV - logits_NV).abs().max() <= 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_removal_set_in_one_batch_equals_alone_in_bf16(tiny_bf16, layout):
    rig = make_rig(tiny_bf16, layout=layout, max_rows=8)
    orders = [
        rig.order(names, PROMPTS[i % len(PROMPTS)])
        for i, names in enumerate(removal_sets(tiny_bf16))
    ]
    for order in orders:
        rig.submit(order)
    rig.run()
    for order in orders:
        assert_same_bits(rig, order.order_id, rig, rig.alone(order))


def test_bf16_is_as_exact_as_stock_in_bf16(tiny_bf16):
    ours = stock = 0.0
    for names in removal_sets(tiny_bf16):
        rig = make_rig(tiny_bf16)
        for prompt in PROMPTS:
            order = rig.ask(names, prompt, sampling=Sampling(1, temperature=0))
            rig.run()
            _, exact_NV = stock_answer(tiny_bf16, names, prompt, 1, dtype=torch.float32)
            _, stock_NV = stock_answer(tiny_bf16, names, prompt, 1)
            ours += float((rig.logits[order][0] - exact_NV[0]).abs().mean())
            stock += float((stock_NV[0].float() - exact_NV[0]).abs().mean())
    assert 0 < ours <= 1.2 * stock


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_logits_equal_stock_for_every_top_k(tiny, top_k):
    rig = make_rig(tiny)
    for names in removal_sets(tiny):
        mine = rig.ask(names, PROMPTS[3], top_k=top_k)
        rig.run()
        ids, logits_NV = stock_answer(tiny, names, PROMPTS[3], 10, top_k)
        assert rig.tokens(mine) == ids
        assert (torch.stack(rig.logits[mine]) - logits_NV).abs().max() <= 1e-5


def test_rows_with_different_top_k_share_a_batch(either):
    rig = make_rig(either)
    orders = [rig.order(EXPERT_NAMES, top_k=k) for k in (1, 2, 3, 4)]
    for order in orders:
        rig.submit(order)
    rig.run()
    for order in orders:
        assert_same_bits(rig, order.order_id, rig, rig.alone(order))
    assert len({tuple(rig.tokens(order.order_id)) for order in orders}) > 1


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nan_weights_of_denied_experts_change_nothing(either, tmp_path, layout, top_k):
    clean = make_rig(either, layout=layout)
    poisoned = make_rig(either, ("alder-news",), layout=layout)
    for name in ("alder-notes", "birch-archive"):
        poisoned.engine.load(with_nan_expert(either, tmp_path / name, name))
    assert_denied_change_nothing(clean, poisoned, ("alder-news",), top_k)


def test_nan_weights_do_reach_the_output_of_who_is_allowed_them(tiny, tmp_path):
    rig = make_rig(tiny, ())
    ref = with_nan_expert(tiny, tmp_path / "nan", "birch-archive")
    rig.refs["birch-archive"] = ref
    rig.authority.live = frozenset(rig.refs.values())
    rig.engine.load(ref)
    order = rig.ask(("birch-archive",))
    rig.run()
    assert rig.last(order).finish_reason is FinishReason.ERROR
    assert rig.tokens(order) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("names", [("alder-news",), ("alder-notes", "birch-archive"), ()])
def test_a_masked_expert_equals_one_never_loaded_bit_for_bit(either, layout, names):
    assert_masked_is_never_loaded(either, names, layout=layout)


def test_the_order_of_loading_does_not_matter(either):
    forth, back = make_rig(either, EXPERT_NAMES), make_rig(either, tuple(reversed(EXPERT_NAMES)))
    a, b = forth.ask(EXPERT_NAMES), back.ask(EXPERT_NAMES)
    forth.run()
    back.run()
    assert_same_bits(forth, a, back, b)


asks = st.tuples(
    st.sets(st.sampled_from(EXPERT_NAMES)),
    st.text(min_size=1, max_size=60),
    st.builds(
        Sampling,
        max_tokens=st.integers(1, 12),
        temperature=st.sampled_from([0.0, 0.7, 1.5]),
        top_p=st.sampled_from([0.3, 1.0]),
        seed=st.integers(0, 2**40),
        top_k=st.sampled_from([0, 3]),
        presence_penalty=st.sampled_from([0.0, 0.5]),
        repetition_penalty=st.sampled_from([1.0, 1.2]),
    ),
    st.integers(1, 5),
)


@given(st.lists(asks, min_size=2, max_size=6), st.integers(1, 40))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_batched_row_equals_the_same_row_alone(either, batch, chunk):
    rig = make_rig(either, max_rows=4, max_length=128, prefill_chunk=chunk)
    orders = [
        rig.order(sorted(names), prompt, sampling=sampling, top_k=k)
        for names, prompt, sampling, k in batch
    ]
    for order in orders:
        rig.submit(order)
    rig.run()
    for order in orders:
        alone = rig.alone(order)
        if isinstance(rig.heard[alone][0], Delta):
            assert_same_bits(rig, order.order_id, rig, alone)
        assert rig.text(order.order_id) == rig.text(alone)


def test_rows_that_come_and_go_do_not_disturb_each_other(either):
    rig = make_rig(either, max_rows=3, prefill_chunk=8)
    orders = [
        rig.order(names, PROMPTS[i % 5], sampling=Sampling(max_tokens=3 + 5 * (i % 4), seed=i))
        for i, names in enumerate(removal_sets(either) * 2)
    ]
    for i, order in enumerate(orders):
        rig.submit(order)
        rig.run(steps=i % 4)
    rig.run()
    for order in orders:
        assert_same_bits(rig, order.order_id, rig, rig.alone(order))
