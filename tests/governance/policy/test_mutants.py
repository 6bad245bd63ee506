"""Wrong ways to decide that someone might write one day. The second evaluator catches each."""

from __future__ import annotations

import dataclasses

import pytest

from governance.policy import decide as module
from governance.policy import masks
from governance.policy.decide import decide
from governance.policy.types import Permitted
from tests.governance.policy.test_decide import disagreements


def skip_on_error(monkeypatch):
    """A licence that cannot be read is left out, as Cedar leaves out a policy that errs."""
    as_it_is = masks.compile_masks

    def lenient(experts, standings, grants, gaps):
        del gaps
        return as_it_is(experts, standings, grants, ())

    monkeypatch.setattr("governance.policy.types.compile_masks", lenient)


def first_reason_only(monkeypatch):
    """Stop at the first dimension that denies."""
    as_it_is = module._failures

    def short(*arguments):
        failures = as_it_is(*arguments)
        seen = 0
        kept = []
        for place, mask in failures:
            kept.append((place, mask & ~seen))
            seen |= mask
        return kept

    monkeypatch.setattr(module, "_failures", short)


def permit_overrides(monkeypatch):
    """A prohibition holds only within its own licence."""
    as_it_is = module._from_licences

    def lenient(*arguments):
        return as_it_is(*arguments)[:-1]

    monkeypatch.setattr(module, "_from_licences", lenient)


def dimensions_lent_between_licences(monkeypatch):
    """Each dimension is met by any licence of the expert, not all by one."""
    as_it_is = module._from_licences

    def pooled(found, ask, now):
        pooled_reasons = []
        for place in range(len(masks.WHYS)):
            failing = found.everyone
            for layer in found.layers:
                failures = dict(
                    module._failures(layer, str(ask.purpose), ask.consumer, ask.territory, now)
                )
                failing &= failures.get(place, 0) | ~layer.present
            pooled_reasons.append((place, failing & ~found.unlicensed))
        return [*pooled_reasons, as_it_is(found, ask, now)[-1]]

    monkeypatch.setattr(module, "_from_licences", pooled)


def end_is_inclusive(monkeypatch):
    """A licence still holds at the very instant it ends."""
    as_it_is = masks.Timeline.at

    def late(self, instant):
        return as_it_is(self, instant - 1)

    monkeypatch.setattr(masks.Timeline, "at", late)


def time_is_ignored(monkeypatch):
    """The state at compilation is taken for the state at the decision."""

    def first(self, instant):
        del instant
        return self.states[0]

    monkeypatch.setattr(masks.Timeline, "at", first)


def unknown_means_any(monkeypatch):
    """A territory policy does not know is covered by a licence for any territory."""
    monkeypatch.setattr(module, "is_territory", lambda code: True)


def audit_forgotten(monkeypatch):
    """The audited rate is not held against the licence's limit."""
    monkeypatch.setattr(masks, "_fails_audit", lambda standing, grant: False)


def another_revision_served(monkeypatch):
    """A new revision is served under the licence of the old one."""
    monkeypatch.setattr(masks, "_is_of_other_revision", lambda standing, grant: False)


MUTANTS = [
    skip_on_error,
    first_reason_only,
    permit_overrides,
    dimensions_lent_between_licences,
    end_is_inclusive,
    time_is_ignored,
    unknown_means_any,
    audit_forgotten,
    another_revision_served,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_second_evaluator_catches(mutant, monkeypatch):
    mutant(monkeypatch)
    assert disagreements(0, 2_000)


def test_a_judge_that_always_permits_is_caught():
    def judge(snapshot, ask, at):
        del ask, at
        return Permitted(snapshot.policy_epoch, snapshot.experts, {})

    assert len(disagreements(0, 400, judge)) > 200


def test_a_judge_that_reverses_the_build_order_is_caught():
    def judge(snapshot, ask, at):
        found = decide(snapshot, ask, at)
        return dataclasses.replace(found, allowed=found.allowed[::-1])

    assert disagreements(0, 400, judge)
