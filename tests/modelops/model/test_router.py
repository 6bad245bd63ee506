"""The router: an expert that is not allowed might as well not exist.

T tokens, D width, E experts, K places. The mutants at the end are the mistakes other routers make;
each must be caught by the same checks the real one passes.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.errors import RoutingGuardError
from modelops.model import flexolmo, router

SEEDS = st.integers(0, 2**31)


def removed(logits_TE, allowed_E, top_k, choose=router.route):
    """The choice of a router that has only the allowed rows, in the indices of the whole."""
    whole_E = allowed_E.nonzero().squeeze(1)
    logits_TR = logits_TE[:, allowed_E].contiguous()
    weights_TK, experts_TK = choose(logits_TR, torch.ones_like(logits_TR, dtype=torch.bool), top_k)
    is_real_TK = experts_TK != router.NO_EXPERT
    return weights_TK, torch.where(is_real_TK, whole_E[experts_TK.clamp(min=0)], router.NO_EXPERT)


def assert_same_choice(masked, alone):
    """Bit-equal in the places both have; any further place of the masked router is empty."""
    (weights_TK, experts_TK), (fewer_TK, chosen_TK) = masked, alone
    K = fewer_TK.shape[1]
    assert torch.equal(weights_TK[:, :K], fewer_TK)
    assert torch.equal(experts_TK[:, :K], chosen_TK)
    assert (experts_TK[:, K:] == router.NO_EXPERT).all()
    assert (weights_TK[:, K:] == 0).all()


def scene(seed, width=32, dtype=torch.float32):
    """Hidden states, router rows, an allowed set with expert 0, and a top_k, from one seed."""
    chance = torch.Generator().manual_seed(seed)
    T = int(torch.randint(1, 24, (), generator=chance))
    E = int(torch.randint(2, 40, (), generator=chance))
    hidden_TD = torch.randn(T, width, generator=chance).to(dtype)
    rows_ED = (torch.randn(E, width, generator=chance) * 0.5).to(dtype)
    allowed_E = torch.rand(E, generator=chance) > 0.5
    allowed_E[0] = True
    return hidden_TD, rows_ED, allowed_E, int(torch.randint(1, E + 3, (), generator=chance))


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from([32, 33, 64]), st.sampled_from([torch.float32, torch.bfloat16]))
def test_masking_rows_is_bit_for_bit_having_removed_them(seed, width, dtype):
    hidden_TD, rows_ED, allowed_E, top_k = scene(seed, width, dtype)
    logits_TE = router.logits(hidden_TD, rows_ED)
    logits_TR = router.logits(hidden_TD, rows_ED[allowed_E])
    assert torch.equal(logits_TE[:, allowed_E], logits_TR)
    masked = router.route(logits_TE, allowed_E.expand_as(logits_TE), top_k)
    assert_same_choice(masked, removed(logits_TE, allowed_E, top_k))


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_every_row_of_a_mixed_batch_is_routed_as_if_alone(seed):
    hidden_TD, rows_ED, _, top_k = scene(seed)
    logits_TE = router.logits(hidden_TD, rows_ED)
    allowed_TE = torch.rand(logits_TE.shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    allowed_TE[:, 0] = True
    weights_TK, experts_TK = router.route(logits_TE, allowed_TE, top_k)
    for t in range(len(hidden_TD)):
        alone = removed(logits_TE[t : t + 1], allowed_TE[t], top_k)
        assert_same_choice((weights_TK[t : t + 1], experts_TK[t : t + 1]), alone)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_what_stands_in_a_denied_row_never_matters(seed):
    hidden_TD, rows_ED, allowed_E, top_k = scene(seed)
    honest = router.logits(hidden_TD, rows_ED)
    for poison in (torch.nan, torch.inf, -torch.inf, 1e30):
        rows_ED[~allowed_E] = poison
        poisoned = router.logits(hidden_TD, rows_ED)
        allowed_TE = allowed_E.expand_as(honest)
        for left, right in zip(
            router.route(honest, allowed_TE, top_k),
            router.route(poisoned, allowed_TE, top_k),
            strict=True,
        ):
            assert torch.equal(left, right)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_only_allowed_experts_are_chosen_and_each_once(seed):
    hidden_TD, rows_ED, allowed_E, top_k = scene(seed)
    logits_TE = router.logits(hidden_TD, rows_ED)
    weights_TK, experts_TK = router.route(logits_TE, allowed_E.expand_as(logits_TE), top_k)
    places = min(top_k, int(allowed_E.sum()))
    for weights_K, experts_K in zip(weights_TK, experts_TK, strict=True):
        chosen = experts_K[:places].tolist()
        assert len(set(chosen)) == places
        assert allowed_E[chosen].all()
        assert (experts_K[places:] == router.NO_EXPERT).all()
        assert weights_K.sum() <= 1 + 1e-6
        assert (weights_K.diff() <= 0).all()


def test_with_all_experts_allowed_it_is_the_stock_router(tiny):
    model = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, top_k=3)
    gate = model.model.layers[1].mlp.gate
    hidden_TD = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits_TE, weights_TK, experts_TK = gate(hidden_TD)
        ours = router.logits(hidden_TD, gate.weight)
    torch.testing.assert_close(ours, logits_TE, atol=1e-5, rtol=0)
    mine_TK, chosen_TK = router.route(logits_TE, torch.ones_like(logits_TE, dtype=torch.bool), 3)
    assert torch.equal(chosen_TK, experts_TK)
    torch.testing.assert_close(mine_TK, weights_TK, atol=1e-6, rtol=0)


def test_tied_experts_are_taken_in_their_order_with_or_without_the_denied_ones():
    logits_TE = torch.zeros(1, 6)
    allowed_E = torch.tensor([True, False, True, True, False, True])
    _, experts_TK = router.route(logits_TE, allowed_E.unsqueeze(0), 3)
    assert experts_TK.tolist() == [[0, 2, 3]]
    _, chosen_TK = removed(logits_TE, allowed_E, 3)
    assert chosen_TK.tolist() == [[0, 2, 3]]


def test_weights_that_vanish_still_hold_their_place():
    weights_TK, experts_TK = router.route(
        torch.tensor([[0.0, 300.0, 0.0]]), torch.tensor([[True, True, False]]), 3
    )
    assert experts_TK.tolist() == [[1, 0, -1]]
    assert weights_TK.tolist() == [[1.0, 0.0, 0.0]]


def test_a_token_allowed_the_public_expert_only_runs_it_with_full_weight():
    weights_TK, experts_TK = router.route(
        torch.tensor([[-5.0, 9.0]]), torch.tensor([[True, False]]), 2
    )
    assert weights_TK.tolist() == [[1.0, 0.0]]
    assert experts_TK.tolist() == [[0, -1]]


def test_the_choice_comes_in_the_dtype_of_the_logits():
    logits_TE = torch.randn(3, 4).bfloat16()
    weights_TK, experts_TK = router.route(logits_TE, torch.ones(3, 4, dtype=torch.bool), 2)
    assert weights_TK.dtype == torch.bfloat16
    assert experts_TK.dtype == torch.int64


@pytest.mark.parametrize(
    ("allowed_TE", "top_k", "message"),
    [
        (torch.ones(1, 4, dtype=torch.bool), 2, "own row"),
        (torch.ones(3, 5, dtype=torch.bool), 2, "own row"),
        (torch.ones(3, 4), 2, "boolean"),
        (torch.ones(3, 4, dtype=torch.bool), 0, "top_k"),
        (torch.tensor([[True] * 4, [False] * 4, [True] * 4]), 2, "at least the public expert"),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error_not_a_guess(allowed_TE, top_k, message):
    with pytest.raises(RoutingGuardError, match=message):
        router.route(torch.zeros(3, 4), allowed_TE, top_k)


def mask_after_softmax(logits_TE, allowed_TE, top_k):
    """Mutant: denied experts stay in the denominator."""
    shares_TE = logits_TE.softmax(-1).masked_fill(~allowed_TE, 0)
    return shares_TE.topk(min(top_k, logits_TE.shape[-1]))


def mask_after_choice(logits_TE, allowed_TE, top_k):
    """Mutant: denied experts take places, and only then lose their weight."""
    weights_TK, experts_TK = logits_TE.softmax(-1).topk(min(top_k, logits_TE.shape[-1]))
    return weights_TK * allowed_TE.gather(1, experts_TK), experts_TK


def minus_infinity_only(logits_TE, allowed_TE, top_k):
    """Mutant: right weights, but places left over go to denied experts, which are then run."""
    shares_TE = logits_TE.masked_fill(~allowed_TE, -torch.inf).softmax(-1)
    return shares_TE.topk(min(top_k, logits_TE.shape[-1]))


def unstable_ties(logits_TE, allowed_TE, top_k):
    """Mutant: equal weights go to the later expert of the whole list, by the number of rows."""
    weights_TK, experts_TK = router.route(logits_TE.flip(-1), allowed_TE.flip(-1), top_k)
    turned_TK = logits_TE.shape[-1] - 1 - experts_TK
    return weights_TK, torch.where(experts_TK < 0, experts_TK, turned_TK)


def run(weights_TK, experts_TK, expert_weights_E):
    """What a layer of one-number experts gives; a place is run unless it holds no expert."""
    out_T = torch.zeros(len(weights_TK))
    for t, k in (experts_TK != router.NO_EXPERT).nonzero().tolist():
        out_T[t] += weights_TK[t, k] * expert_weights_E[experts_TK[t, k]]
    return out_T


LOGITS = torch.tensor([[1.0, 3.0, 0.5, 2.0]])
ALLOWED = torch.tensor([True, False, True, False])


def is_as_if_removed(choose, top_k):
    masked = choose(LOGITS, ALLOWED.unsqueeze(0), top_k)
    try:
        assert_same_choice(masked, removed(LOGITS, ALLOWED, top_k))
    except AssertionError:
        return False
    return True


def keeps_denied_experts_unread(choose, top_k):
    weights_TK, experts_TK = choose(LOGITS, ALLOWED.unsqueeze(0), top_k)
    numbers_E = torch.where(ALLOWED, torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.nan)
    return not run(weights_TK, experts_TK, numbers_E).isnan().any()


@pytest.mark.parametrize("top_k", [1, 2, 3, 4, 9])
def test_the_router_passes_both_checks(top_k):
    assert is_as_if_removed(router.route, top_k)
    assert keeps_denied_experts_unread(router.route, top_k)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_masking_after_softmax_is_caught(top_k):
    assert not is_as_if_removed(mask_after_softmax, top_k)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_masking_after_the_choice_is_caught(top_k):
    assert not is_as_if_removed(mask_after_choice, top_k)
    assert not keeps_denied_experts_unread(mask_after_choice, top_k)


@pytest.mark.parametrize("top_k", [3, 4])
def test_minus_infinity_alone_is_caught_by_nan_weights(top_k):
    assert not keeps_denied_experts_unread(minus_infinity_only, top_k)
    assert not is_as_if_removed(minus_infinity_only, top_k)


def test_ties_broken_by_position_from_the_end_are_caught():
    _, experts_TK = unstable_ties(torch.zeros(1, 4), ALLOWED.unsqueeze(0), 1)
    assert (
        experts_TK.tolist() != router.route(torch.zeros(1, 4), ALLOWED.unsqueeze(0), 1)[1].tolist()
    )
