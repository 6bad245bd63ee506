"""The rights of a step's tokens and the choice they leave, without vLLM."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelops.engine.vllm_plugin import WRITTEN_FOR, vllm_engine
from modelops.engine.vllm_plugin.rights import PUBLIC_SLOT, RightsTable, Span
from modelops.errors import EngineError, RoutingGuardError
from modelops.model.router import NO_EXPERT, route

E, K, T = 5, 3, 24
LAYERS = 2


def table():
    return RightsTable(E, K, T)


requests = st.lists(
    st.tuples(st.sets(st.integers(1, E - 1)), st.integers(1, K), st.integers(1, 4)),
    min_size=1, max_size=5,
)  # fmt: skip


def opened(batch):
    """A table with a step of `batch`, whose requests are (slots, top_k, tokens)."""
    rights, spans = table(), []
    for number, (slots, top_k, tokens) in enumerate(batch):
        rights.admit(f"request-{number}", slots, top_k)
        spans.append(Span(f"request-{number}", 10, 10 + tokens))
    rights.open(spans)
    return rights


def assert_tokens_are_routed_as_alone(rights, batch, padding=2, seed=0):
    """Each token gets what `route` gives it under its own request's rights; padding, the public."""
    tokens = sum(n for _, _, n in batch)
    chance = torch.Generator().manual_seed(seed)
    logits_TE = torch.randn(tokens + padding, E, generator=chance)
    weights_TK, chosen_TK = rights.route(logits_TE)
    at = 0
    for slots, top_k, n in [*batch, (set(), 1, padding)]:
        allowed_TE = torch.zeros(n, E, dtype=torch.bool)
        allowed_TE[:, [PUBLIC_SLOT, *slots]] = True
        k = min(top_k, len(slots) + 1)
        weights, chosen = route(logits_TE[at : at + n], allowed_TE, k)
        assert torch.equal(weights_TK[at : at + n, :k], weights)
        assert torch.equal(chosen_TK[at : at + n, :k], chosen)
        assert not (chosen == NO_EXPERT).any()
        assert not weights_TK[at : at + n, k:].any()
        assert (chosen_TK[at : at + n, k:] == PUBLIC_SLOT).all()
        at += n


@given(requests, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_each_token_is_routed_as_its_request_would_be_alone(batch, seed):
    assert_tokens_are_routed_as_alone(opened(batch), batch, seed=seed)


def test_rows_in_order_of_arrival_instead_of_the_batchs_are_caught():
    """Mutant: the step's order of requests is taken for the order of the table."""
    rights, batch = table(), [({1}, 2, 2), ({2, 3}, 3, 1)]
    rights.admit("first", *batch[0][:2])
    rights.admit("second", *batch[1][:2])
    rights.open([Span("second", 0, 2), Span("first", 0, 1)])
    with pytest.raises(AssertionError):
        assert_tokens_are_routed_as_alone(rights, batch)


def test_a_denied_experts_logit_may_be_anything():
    rights = opened([({2}, 2, 3)])
    logits_TE = torch.zeros(3, E)
    logits_TE[:, [1, 3, 4]] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    weights_TK, chosen_TK = rights.route(logits_TE)
    assert weights_TK.sum(1).tolist() == [1, 1, 1]
    assert set(chosen_TK.flatten().tolist()) == {PUBLIC_SLOT, 2}


@pytest.mark.parametrize("end", [RightsTable.close, lambda rights: rights.release("request-0")])
def test_who_is_not_admitted_gets_the_public_expert_alone(end):
    rights = opened([({1, 2}, 3, 4)])
    end(rights)
    if rights.spans:
        rights.open(rights.spans)
    assert_tokens_are_routed_as_alone(rights, [(set(), 1, 4)])


def test_a_step_is_counted_by_request_from_the_first_position_that_is_new():
    rights, batch = opened(batch := [({1, 2}, 2, 3), ({3}, 2, 2)]), batch
    for _ in range(LAYERS):
        rights.route(torch.randn(5, E))
    whole, part = rights.uses([10, 11], LAYERS)
    assert sum(whole.routed) == 3 * 2 * LAYERS
    assert sum(part.routed) == 1 * 2 * LAYERS
    assert sum(whole.mass) == pytest.approx(sum(whole.mass[s] for s in (0, 1, 2)), abs=1e-6)
    assert sum(part.last) == pytest.approx(LAYERS, abs=1e-5)  # two of two allowed: all of it


def test_a_forward_past_the_table_is_noticed():
    rights = table()
    with pytest.raises(RoutingGuardError, match="opened"):
        rights.uses([], LAYERS)
    rights = opened([({1}, 2, 2)])
    rights.route(torch.randn(2, E))
    with pytest.raises(RoutingGuardError, match="layers"):
        rights.uses([10], LAYERS)


def test_a_choice_that_forgets_the_rights_is_caught_by_its_own_count():
    """Mutant: every expert is allowed when the choice is made."""
    rights = opened([({1}, 2, 4)])
    rights._denied_TE.zero_()
    for _ in range(LAYERS):
        logits_TE = torch.zeros(4, E)
        logits_TE[:, 4] = 9
        rights.route(logits_TE)
    with pytest.raises(RoutingGuardError, match="denied"):
        rights.uses([10], LAYERS)


def test_more_places_than_there_are_is_refused():
    with pytest.raises(EngineError, match="places"):
        table().admit("wide", {1, 2, 3, 4}, 4)
    with pytest.raises(EngineError, match="slots"):
        RightsTable(2, 3, T)


def test_without_vllm_the_engine_says_what_to_install():
    with (
        mock.patch.dict("sys.modules", {"modelops.engine.vllm_plugin.backend": None}),
        pytest.raises(EngineError, match=WRITTEN_FOR),
    ):
        vllm_engine(None, "", None)
