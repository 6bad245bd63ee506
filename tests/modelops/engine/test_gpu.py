"""The promises of bits on a GPU: what does not depend on the batch there. Skipped without one.

That a row in a batch equals the same row alone is promised on the CPU only: a GPU's library picks
its kernels by the number of rows.
"""

import pytest
import torch

from modelops.contract import FinishReason
from tests.modelops.engine.rig import (
    PROMPTS,
    assert_denied_change_nothing,
    assert_same_bits,
    make_rig,
    removal_sets,
    stock_answer,
    with_nan_expert,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
]


@pytest.fixture(params=["fp32", "bf16"])
def either(request, tiny):
    return tiny if request.param == "fp32" else request.getfixturevalue("tiny_bf16")


def test_a_masked_expert_equals_one_never_loaded_bit_for_bit(either):
    for names in removal_sets(either):
        full, bare = make_rig(either, device="cuda"), make_rig(either, names, device="cuda")
        for prompt in PROMPTS:
            a, b = full.ask(names, prompt), bare.ask(names, prompt)
            full.run()
            bare.run()
            assert_same_bits(full, a, bare, b)


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_nan_weights_of_denied_experts_change_nothing(either, tmp_path, top_k):
    clean = make_rig(either, device="cuda")
    poisoned = make_rig(either, ("alder-news",), device="cuda")
    for name in ("alder-notes", "birch-archive"):
        poisoned.engine.load(with_nan_expert(either, tmp_path / name, name))
    assert_denied_change_nothing(clean, poisoned, ("alder-news",), top_k)


def test_tokens_are_those_of_stock_on_the_cpu(tiny):
    rig = make_rig(tiny, device="cuda")
    for names in removal_sets(tiny):
        order = rig.ask(names, PROMPTS[1])
        rig.run()
        ids, _ = stock_answer(tiny, names, PROMPTS[1], 10)
        assert rig.tokens(order) == ids


def test_a_withdrawal_zeroes_the_slot_and_ends_the_stream(tiny):
    rig = make_rig(tiny, device="cuda")
    order = rig.ask(("birch-archive",))
    rig.run(steps=3)
    rig.engine.withdraw("birch-archive", 2)
    pool = rig.engine._backend.bank._pool
    slot = pool._free[-1]
    assert not pool._inward[slot].any()
    assert rig.last(order).finish_reason is FinishReason.CONTENT_FILTER
