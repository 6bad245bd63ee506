"""Engines made wrong on purpose: for each, the assertion that guards the promise must fail.

Each test runs the very assertion that the healthy engine passes elsewhere in this folder.
"""

from unittest import mock

import pytest
import torch

from modelops.engine import bank, lease, prefix, routing, runner_step
from modelops.engine.linear import Layout
from modelops.engine.scheduler import Scheduler
from modelops.errors import RoutingGuardError
from modelops.model.router import shares
from tests.modelops.engine import test_lease, test_prefix, test_withdrawal
from tests.modelops.engine.rig import (
    PROMPTS,
    assert_denied_change_nothing,
    assert_masked_is_never_loaded,
    assert_nothing_after,
    assert_recomputed_as_if_fresh,
    assert_reuse_changes_nothing,
    assert_same_bits,
    make_rig,
    stock_answer,
    with_nan_expert,
)

NEWS, NOTES, BIRCH = "alder-news", "alder-notes", "birch-archive"


def every_lane(step, shares_TE):
    """Mutant: a denied lane has share 0 after −inf, but it is a place, so it is run."""
    return [list(range(step.E)) for _ in shares_TE]


def masked_after_softmax(logits_TE, denied_TE):
    """Mutant: denied experts take their share of the sum, and are dropped only then."""
    return torch.softmax(logits_TE.float(), dim=-1).masked_fill(denied_TE, 0.0)


def rig_pair(tiny, tmp_path):
    clean, poisoned = make_rig(tiny), make_rig(tiny, (NEWS,))
    for name in (NOTES, BIRCH):
        poisoned.engine.load(with_nan_expert(tiny, tmp_path / name, name))
    return clean, poisoned


def assert_equals_stock(tiny):
    rig = make_rig(tiny)
    order = rig.ask((NEWS,), PROMPTS[3])
    rig.run()
    ids, logits_NV = stock_answer(tiny, (NEWS,), PROMPTS[3], 10)
    assert rig.tokens(order) == ids
    assert (torch.stack(rig.logits[order]) - logits_NV).abs().max() <= 1e-5


def test_the_healthy_router_passes_what_the_mutants_must_fail(tiny, tmp_path):
    assert_denied_change_nothing(*rig_pair(tiny, tmp_path), (NEWS,), 4)
    assert_masked_is_never_loaded(tiny, (NEWS,))
    assert_equals_stock(tiny)
    assert routing.shares is shares


def without_count(step, _layers):
    return [routing.RowUse((0,) * step.E, (0.0,) * step.E, (0.0,) * step.E)] * step.B


def test_nan_weights_catch_a_router_that_runs_banned_experts_with_weight_zero(tiny, tmp_path):
    with (
        mock.patch.object(routing.StepRouting, "_best", every_lane),
        mock.patch.object(routing.StepRouting, "_known_places", return_value=None),
        mock.patch.object(routing.StepRouting, "use", without_count),
        pytest.raises(AssertionError, match="logits differ at step 0 by nan"),
    ):
        assert_denied_change_nothing(*rig_pair(tiny, tmp_path), (NEWS,), 4)


def test_the_steps_own_count_stops_an_engine_that_runs_banned_experts(tiny):
    with (
        mock.patch.object(routing.StepRouting, "_best", every_lane),
        mock.patch.object(routing.StepRouting, "_known_places", return_value=None),
    ):
        rig = make_rig(tiny)
        order = rig.ask((NEWS,), top_k=4)
        rig.run()
    assert "is not allowed" in rig.engine.stats().fault
    assert rig.tokens(order) == []


def test_stock_equality_catches_a_mask_after_the_softmax(tiny):
    with mock.patch.object(routing, "shares", masked_after_softmax), pytest.raises(AssertionError):
        assert_equals_stock(tiny)


def test_nan_weights_catch_a_mask_after_the_softmax(tiny, tmp_path):
    with mock.patch.object(routing, "shares", masked_after_softmax), pytest.raises(AssertionError):
        assert_denied_change_nothing(*rig_pair(tiny, tmp_path), (NEWS,), 2)


def test_bits_of_an_expert_never_loaded_catch_a_mask_after_the_softmax(tiny):
    with mock.patch.object(routing, "shares", masked_after_softmax), pytest.raises(AssertionError):
        assert_masked_is_never_loaded(tiny, (NEWS,))


def test_an_engine_without_the_check_after_compute_is_caught(tiny):
    rig, licensed, _ = test_lease.two_begun(tiny)
    with (
        mock.patch.object(lease, "may_release", return_value=True),
        pytest.raises(AssertionError, match="although the lease had gone"),
    ):
        test_lease.assert_expired_warrant_releases_nothing(rig, licensed)


def test_an_engine_that_never_decides_again_is_caught(tiny):
    rig, licensed, _ = test_lease.two_begun(tiny)
    before = len(rig.tokens(licensed))
    rig.authority.revoked.add(BIRCH)
    rig.authority.policy_epoch = 2
    with mock.patch.object(lease, "loss", return_value=None):
        rig.run()
    with pytest.raises(AssertionError, match="although the lease had gone"):
        assert_nothing_after(rig, licensed, before)


def test_rows_that_notice_their_neighbours_are_caught(tiny):
    def unsteady(weight_ND, _layout):
        stock = torch.nn.Linear(*reversed(weight_ND.shape), bias=False)
        stock.weight = torch.nn.Parameter(weight_ND.detach(), requires_grad=False)
        return stock

    with (
        mock.patch.object(bank, "steady_linear", unsteady),
        mock.patch.object(runner_step, "steady_linear", unsteady),
    ):
        rig = make_rig(tiny, layout=Layout.MAPPED)
        orders = [rig.order((NEWS, BIRCH), prompt) for prompt in PROMPTS]
        for order in orders:
            rig.submit(order)
        rig.run()
        twins = [rig.alone(order) for order in orders]

    def assert_all_alike():
        for order, twin in zip(orders, twins, strict=True):
            assert_same_bits(rig, order.order_id, rig, twin)

    with pytest.raises(AssertionError, match="logits differ"):
        assert_all_alike()


def test_a_router_that_strays_stops_the_engine(tiny):
    def stray(_, shares_TE):
        return [[3 - t % 4] for t in range(len(shares_TE))]

    with mock.patch.object(routing.StepRouting, "_best", stray):
        rig = make_rig(tiny)
        rig.ask((NEWS, BIRCH), PROMPTS[3], top_k=1)
        rig.run()
    assert "is not allowed" in rig.engine.stats().fault


def test_a_call_outside_of_a_step_or_for_other_tokens_is_refused(tiny):
    forward = make_rig(tiny).engine._backend.forward
    with pytest.raises(RoutingGuardError, match="found none"):
        forward._model(torch.tensor([[5, 6]]))
    feed_forward, hidden_BSD = forward._layers[0].mlp, torch.zeros(1, 2, 32)
    with pytest.raises(RoutingGuardError, match="found none"):
        feed_forward(hidden_BSD)
    step = routing.StepRouting([(0,)], [1], tokens_per_row=1, lanes_in_use=4)
    with forward._desk.open(step), pytest.raises(RoutingGuardError, match="1 tokens each"):
        feed_forward(hidden_BSD)


def test_a_recomputation_that_keeps_what_it_remembers_is_caught(tiny):
    """Mutant: the expert is masked from now on, but the row's keys and values stay."""

    def keep(scheduler, sequence, _sent_ids):
        computed, output = sequence.computed, list(sequence.output_ids)
        sequence.restart(())
        sequence.context_ids = sequence.prompt_ids
        sequence.computed, sequence.output_ids = computed, output

    with mock.patch.object(Scheduler, "rewind", keep):
        rig, order, _, _ = test_withdrawal.recomputing(tiny)
        rig.run()
    with pytest.raises(AssertionError):
        assert_recomputed_as_if_fresh(rig, make_rig(tiny, (NEWS,)), order, (NEWS,))


def test_a_recomputation_that_hands_over_the_step_under_way_is_caught(tiny):
    """Mutant: the step's tokens are released although their row is to be computed again."""
    rig, rewind = make_rig(tiny), Scheduler.rewind

    def bound_at_once(scheduler, sequence, sent_ids):
        rewind(scheduler, sequence, sent_ids)
        sequence.generations = rig.engine._backend.bank.generations(sequence.order.allowed)

    with mock.patch.object(Scheduler, "rewind", bound_at_once):
        order = test_withdrawal.withdrawn_in_a_delivery(rig)
    with pytest.raises(AssertionError):
        assert_recomputed_as_if_fresh(rig, make_rig(tiny, (NEWS,)), order, (NEWS,))


def test_a_store_of_beginnings_whose_key_lacks_the_allowed_set_leaks_and_is_caught(tiny):
    def without_rights(anchor_digest, sequence):
        return f"{anchor_digest} {sequence.top_k()}".encode()

    asks = [
        {"names": names, "prompt": test_prefix.LONG, "top_k": 2} for names in ((NEWS,), (BIRCH,))
    ]
    with (
        mock.patch.object(prefix, "shaped_by", without_rights),
        pytest.raises(AssertionError, match="logits differ"),
    ):
        assert_reuse_changes_nothing(test_prefix.make(tiny), test_prefix.make(tiny, 0), asks)
