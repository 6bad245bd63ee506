"""Wrong ways to decide that someone might write one day. The second evaluator catches each."""

from __future__ import annotations

import dataclasses

import pytest

from governance.policy import decide as module
from governance.policy import masks
from governance.policy.decide import decide
from governance.policy.types import Permitted
from governance.vocabulary import RecipientClass, Use
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
    as_it_is = module.failures_of

    def short(*arguments):
        failures = as_it_is(*arguments)
        seen = 0
        kept = []
        for place, mask in failures:
            kept.append((place, mask & ~seen))
            seen |= mask
        return kept

    monkeypatch.setattr(module, "failures_of", short)


def permit_overrides(monkeypatch):
    """A prohibition holds only within its own licence."""
    monkeypatch.setattr(module, "_from_prohibitions", lambda *arguments: [])


def dimensions_lent_between_licences(monkeypatch):
    """Each dimension is met by any licence of the expert, not all by one."""

    def pooled(found, said, now, exhausted):
        by_layer = [
            (layer, module.failures_of(layer, said, now, exhausted)) for layer in found.layers
        ]
        pooled_reasons = []
        for number in range(len(by_layer[0][1]) if by_layer else 0):
            failing = found.everyone & ~found.unlicensed
            for layer, failures in by_layer:
                failing &= failures[number][1] | ~layer.present
            pooled_reasons.append((by_layer[0][1][number][0], failing))
        return pooled_reasons, 0

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


def a_purpose_is_only_itself(monkeypatch):
    """A licence for research does not cover academic research, nor a prohibition of it."""
    monkeypatch.setattr(
        masks, "_spelled_out", lambda purposes: frozenset(one.value for one in purposes)
    )


def a_purpose_covers_what_is_above_it(monkeypatch):
    """A licence for academic research is taken for one for all research."""
    monkeypatch.setattr(
        masks,
        "_spelled_out",
        lambda purposes: frozenset(up.value for one in purposes for up in one.lineage),
    )


def answering_prohibited_is_forgotten(monkeypatch):
    """A licence that prohibits to answer leaves the others as they are."""
    as_it_is = module._from_prohibitions
    monkeypatch.setattr(module, "_from_prohibitions", lambda *given: as_it_is(*given)[1:])


def ending_a_licence_lifts_its_prohibitions(monkeypatch):
    """An act that ends the licence ends what it forbids, too."""
    as_it_is = masks._written_period

    def cut_short(grant, bits):
        span = as_it_is(grant, bits)
        ends = [masks.microseconds(stop.starts_at) for stop in grant.stops]
        return span._replace(end=max(span.begin, min([span.end, *ends])))

    monkeypatch.setattr(masks, "_written_period", cut_short)


def prohibitions_of_training_licences_are_forgotten(monkeypatch):
    """Only a licence to answer can forbid anything about answers."""
    as_it_is = masks._prohibited

    def lenient(grants, bits):
        return as_it_is([one for one in grants if Use.ANSWER in one.uses], bits)

    monkeypatch.setattr(masks, "_prohibited", lenient)


def an_unsaid_sector_is_in_none(monkeypatch):
    """Who does not say its sector slips past every excluded one."""
    as_it_is = masks._terms

    def lenient(grant):
        *others, (named, excluded) = as_it_is(grant)
        return (*others, (named, excluded - {""}))

    monkeypatch.setattr(masks, "_terms", lenient)


def recipients_are_not_looked_at(monkeypatch):
    """Kind of organisation and sector are recorded and not enforced."""
    as_it_is = masks._terms

    def lenient(grant):
        return (*as_it_is(grant)[:3], (None, frozenset()), (None, frozenset()))

    monkeypatch.setattr(masks, "_terms", lenient)


def excluded_territories_are_not_looked_at(monkeypatch):
    """Only the territories a licence names count, not those it leaves out."""
    as_it_is = masks._terms

    def lenient(grant):
        purposes, consumers, (named, _), *others = as_it_is(grant)
        return (purposes, consumers, (named, frozenset()), *others)

    monkeypatch.setattr(masks, "_terms", lenient)


def an_unknown_kind_is_any(monkeypatch):
    """A kind of organisation policy does not know passes where the licence asks for none."""
    monkeypatch.setattr(module, "_RECIPIENT_CLASSES", {"", "church", *RecipientClass})


def an_act_with_a_scope_bars_nobody(monkeypatch):
    """Acts that name purposes or consumers are dropped."""
    monkeypatch.setattr(masks.Scope, "hits", lambda *arguments: False)


def an_act_with_a_scope_bars_only_its_own_purpose(monkeypatch):
    """What lies below the purpose an act names goes on."""
    monkeypatch.setattr(
        masks,
        "_scope",
        lambda stop: masks.Scope(
            None if stop.purposes is None else frozenset(one.value for one in stop.purposes),
            stop.consumers,
            stop.spares,
        ),
    )


def either_half_of_a_scope_is_enough(monkeypatch):
    """An act on a purpose and a consumer bars the purpose for all and the consumer for all."""

    def lax(self, purpose, consumer):
        return consumer not in self.spares and (
            purpose in (self.purposes or ()) or consumer in (self.consumers or ())
        )

    monkeypatch.setattr(masks.Scope, "hits", lax)


def spared_consumers_are_barred(monkeypatch):
    """Who may wind down is cut off with everybody else."""
    as_it_is = masks._scope
    monkeypatch.setattr(
        masks, "_scope", lambda stop: dataclasses.replace(as_it_is(stop), spares=frozenset())
    )


def quotas_are_forgotten(monkeypatch):
    """A licence whose quota is used up goes on covering."""
    as_it_is = module.failures_of
    monkeypatch.setattr(module, "failures_of", lambda *given: as_it_is(*given[:-1], frozenset()))


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
    a_purpose_is_only_itself,
    a_purpose_covers_what_is_above_it,
    answering_prohibited_is_forgotten,
    ending_a_licence_lifts_its_prohibitions,
    prohibitions_of_training_licences_are_forgotten,
    an_unsaid_sector_is_in_none,
    recipients_are_not_looked_at,
    excluded_territories_are_not_looked_at,
    an_unknown_kind_is_any,
    an_act_with_a_scope_bars_nobody,
    an_act_with_a_scope_bars_only_its_own_purpose,
    either_half_of_a_scope_is_enough,
    spared_consumers_are_barred,
    quotas_are_forgotten,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_second_evaluator_catches(mutant, monkeypatch):
    mutant(monkeypatch)
    assert any(disagreements(first, 1_000) for first in range(0, 10_000, 1_000))


def test_a_judge_that_always_permits_is_caught():
    def judge(snapshot, ask, at, *, exhausted):
        del ask, at, exhausted
        return Permitted(snapshot.policy_epoch, snapshot.experts, {})

    assert len(disagreements(0, 400, judge)) > 200


def test_a_judge_that_reverses_the_build_order_is_caught():
    def judge(snapshot, ask, at, *, exhausted):
        found = decide(snapshot, ask, at, exhausted=exhausted)
        return dataclasses.replace(found, allowed=found.allowed[::-1])

    assert disagreements(0, 400, judge)
