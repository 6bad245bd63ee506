"""The decision: its laws, its reasons, and its agreement with a second evaluator."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.compiler import compile_snapshot
from governance.policy.cover import covering
from governance.policy.decide import decide
from governance.policy.types import (
    Ask,
    BuildRef,
    Denied,
    ExpertRef,
    Gap,
    Grant,
    Permitted,
    Standing,
    Stop,
)
from governance.vocabulary import (
    ExpertState,
    Instrument,
    OnWithdrawal,
    Purpose,
    RecipientClass,
    Sector,
    Use,
    Verdict,
    Why,
)
from tests.factories import NOW, after, digest_of
from tests.governance.policy import oracle, worlds

DARA = Ask("dara", "research", "DE")
DIGEST = digest_of("alder r1")


def a_grant(**changes) -> Grant:
    terms = {
        "licence": "L-1",
        "expert": "alder",
        "uses": frozenset({Use.ANSWER}),
        "purposes": frozenset({Purpose.RESEARCH}),
        "starts_at": after(days=-1),
    }
    return Grant(**(terms | changes))


def a_standing(**changes) -> Standing:
    terms = {
        "name": "alder",
        "digest": DIGEST,
        "state": ExpertState.ACTIVE,
        "verdict": Verdict.PASS,
        "extraction_rate": 0.001,
    }
    return Standing(**(terms | changes))


def policy(*grants, standings=None, names=("alder",)):
    build = BuildRef(
        digest_of("build"), digest_of("anchor"), 2, tuple(ExpertRef(name, DIGEST) for name in names)
    )
    standings = [a_standing(name=name) for name in names] if standings is None else standings
    return compile_snapshot(7, build, standings, grants)


def why_alder(snapshot, ask=DARA, at=NOW):
    decision = decide(snapshot, ask, at)
    assert isinstance(decision, Permitted)
    return decision.denied.get("alder", ())


def test_a_licence_that_fits_in_every_dimension_permits():
    decision = decide(policy(a_grant()), DARA, NOW)
    assert decision == Permitted(7, (ExpertRef("alder", DIGEST),), {})


def test_with_no_build_everyone_gets_the_public_expert_alone():
    assert decide(compile_snapshot(1, None, [], []), DARA, NOW) == Permitted(1, (), {})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"purposes": frozenset({Purpose.COMMERCIAL})}, Why.PURPOSE),
        ({"consumers": frozenset({"erik"})}, Why.CONSUMER),
        ({"consumers": frozenset()}, Why.CONSUMER),
        ({"excluded_consumers": frozenset({"dara"})}, Why.CONSUMER),
        ({"territories": frozenset({"FR"})}, Why.JURISDICTION),
        ({"starts_at": after(1)}, Why.NOT_YET),
        ({"ends_at": NOW}, Why.EXPIRED),
        ({"max_extraction_rate": 0.0001}, Why.AUDIT),
        ({"revision": digest_of("alder r2")}, Why.REVISION),
        ({"uses": frozenset({Use.TRAIN})}, Why.NO_LICENCE),
        ({"purposes": frozenset({Purpose.ACADEMIC_RESEARCH})}, Why.PURPOSE),
        ({"prohibited_purposes": frozenset({Purpose.RESEARCH})}, Why.PURPOSE),
        ({"prohibited_uses": frozenset({Use.ANSWER})}, Why.NO_LICENCE),
        ({"excluded_territories": frozenset({"DE"})}, Why.JURISDICTION),
        ({"recipient_classes": frozenset({RecipientClass.EDUCATION})}, Why.RECIPIENT),
        ({"sectors": frozenset({Sector.P})}, Why.RECIPIENT),
        ({"excluded_sectors": frozenset({Sector.K})}, Why.RECIPIENT),
        ({"stops": (Stop(Instrument.SUSPEND, NOW),)}, Why.SUSPENDED),
        ({"stops": (Stop(Instrument.WITHDRAW, NOW),)}, Why.WITHDRAWN),
        ({"stops": (Stop(Instrument.TERMINATE, NOW),)}, Why.EXPIRED),
        ({"stops": (Stop(Instrument.REVOKE, NOW),)}, Why.EXPIRED),
        ({"stops": (Stop(Instrument.INVALIDATE, NOW),)}, Why.VOIDED),
    ],
)
def test_each_dimension_of_a_licence_denies_with_its_own_reason(changes, why):
    assert why_alder(policy(a_grant(**changes))) == (why,)


@pytest.mark.parametrize(
    ("changes", "whys"),
    [
        ({"state": ExpertState.WITHDRAWN}, (Why.WITHDRAWN,)),
        ({"state": ExpertState.ERASED}, (Why.WITHDRAWN,)),
        ({"state": ExpertState.SUSPENDED}, (Why.SUSPENDED,)),
        ({"state": ExpertState.IN_REVIEW}, (Why.AUDIT,)),
        ({"verdict": None}, (Why.AUDIT,)),
        ({"verdict": Verdict.REVIEW}, (Why.AUDIT,)),
        ({"extraction_rate": None}, (Why.AUDIT,)),
        ({"digest": digest_of("alder r2")}, (Why.REVISION,)),
        ({"stops": (Stop(Instrument.WITHDRAW, NOW),)}, (Why.WITHDRAWN,)),
    ],
)
def test_a_standing_bars_whatever_the_licence_grants(changes, whys):
    assert why_alder(policy(a_grant(), standings=[a_standing(**changes)])) == whys


def test_every_reason_is_given_not_the_first():
    grant = a_grant(
        purposes=frozenset(),
        consumers=frozenset(),
        territories=frozenset(),
        starts_at=after(1),
        max_extraction_rate=0.0,
        revision=digest_of("alder r2"),
        stops=(Stop(Instrument.SUSPEND, after(-1)), Stop(Instrument.TERMINATE, after(-1))),
    )
    standing = a_standing(state=ExpertState.WITHDRAWN)
    ask = dataclasses.replace(DARA, exclude=frozenset({"alder"}))
    assert why_alder(policy(grant, standings=[standing]), ask) == (
        Why.WITHDRAWN,
        Why.SUSPENDED,
        Why.PURPOSE,
        Why.CONSUMER,
        Why.JURISDICTION,
        Why.NOT_YET,
        Why.EXPIRED,
        Why.AUDIT,
        Why.REVISION,
        Why.EXCLUDED_BY_REQUEST,
    )


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (Ask("dara", "sorcery", "DE"), Why.PURPOSE),
        (Ask("", "research", "DE"), Why.CONSUMER),
        (Ask("dara or 1=1", "research", "DE"), Why.CONSUMER),
        (Ask("dara", "research", ""), Why.JURISDICTION),
        (Ask("dara", "research", "de"), Why.JURISDICTION),
        (Ask("dara", "research", "EU"), Why.JURISDICTION),
        (Ask("dara", "research", "DE", recipient_class="church"), Why.RECIPIENT),
        (Ask("dara", "research", "DE", sector="sorcery"), Why.RECIPIENT),
    ],
)
def test_what_policy_does_not_know_fits_no_licence_not_even_one_for_any(ask, why):
    assert why_alder(policy(a_grant()), ask) == (why,)


def test_two_licences_do_not_lend_each_other_dimensions():
    german_research = a_grant(territories=frozenset({"DE"}))
    french_commerce = a_grant(
        licence="L-2",
        purposes=frozenset({Purpose.COMMERCIAL}),
        territories=frozenset({"FR"}),
    )
    snapshot = policy(german_research, french_commerce)
    assert why_alder(snapshot, Ask("dara", "commercial", "DE")) == (Why.PURPOSE, Why.JURISDICTION)
    assert why_alder(snapshot, Ask("dara", "commercial", "FR")) == ()


def test_a_prohibition_in_one_licence_beats_the_grant_of_another():
    forbids = a_grant(licence="L-2", excluded_consumers=frozenset({"dara"}))
    assert why_alder(policy(a_grant(), forbids)) == (Why.CONSUMER,)


def test_ending_the_licence_that_prohibits_does_not_lift_the_prohibition():
    ended = Stop(Instrument.TERMINATE, after(-1))
    forbids = a_grant(licence="L-2", excluded_consumers=frozenset({"dara"}), stops=(ended,))
    assert why_alder(policy(a_grant(), forbids)) == (Why.CONSUMER,)


def test_a_prohibition_ends_with_the_period_it_was_written_for():
    forbids = a_grant(licence="L-2", excluded_consumers=frozenset({"dara"}), ends_at=after(1))
    assert why_alder(policy(a_grant(), forbids), at=NOW) == (Why.CONSUMER,)
    assert why_alder(policy(a_grant(), forbids), at=after(1)) == ()


def test_a_licence_begins_and_ends_without_a_new_policy_epoch():
    snapshot = policy(a_grant(starts_at=NOW, ends_at=after(10)))
    tick = timedelta(microseconds=1)
    assert why_alder(snapshot, at=NOW - tick) == (Why.NOT_YET,)
    assert why_alder(snapshot, at=NOW) == ()
    assert why_alder(snapshot, at=after(10) - tick) == ()
    assert why_alder(snapshot, at=after(10)) == (Why.EXPIRED,)


def test_a_suspension_that_is_lifted_ends_by_itself():
    spans = (
        Stop(Instrument.SUSPEND, NOW, after(10)),
        Stop(Instrument.SUSPEND, after(5), after(20)),
        Stop(Instrument.SUSPEND, after(20), after(30)),
    )
    snapshot = policy(a_grant(stops=spans))
    barred = [bool(why_alder(snapshot, at=after(s))) for s in (-1, 0, 7, 12, 20, 25, 29.9, 30)]
    assert barred == [False, True, True, True, True, True, True, False]


def test_the_same_instant_in_another_offset_is_the_same_instant():
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-9)))
    snapshot = policy(a_grant(ends_at=NOW))
    assert why_alder(snapshot, at=elsewhere) == (Why.EXPIRED,)


def test_an_instant_without_offset_is_a_mistake_not_a_guess():
    with pytest.raises(ValueError, match="offset"):
        decide(policy(a_grant()), DARA, datetime(2027, 3, 1))  # noqa: DTZ001


def test_what_cannot_be_read_darkens_exactly_its_expert():
    names = ("alder", "birch")
    grants = (a_grant(), a_grant(expert="birch"), Gap("alder", "L-9", "torn page"))
    decision = decide(policy(*grants, names=names), DARA, NOW)
    assert [ref.name for ref in decision.allowed] == ["birch"]
    assert decision.denied == {"alder": (Why.LICENCE_UNREADABLE,)}


def test_an_expert_without_a_standing_is_dark():
    decision = decide(policy(a_grant(), standings=[]), DARA, NOW)
    assert decision.denied == {"alder": (Why.LICENCE_UNREADABLE, Why.AUDIT)[::-1]}


def test_what_the_request_requires_and_cannot_have_denies_it_whole():
    snapshot = policy(a_grant(), names=("alder", "birch"))
    ask = dataclasses.replace(DARA, require=frozenset({"alder", "birch", "cedar", "public"}))
    decision = decide(snapshot, ask, NOW)
    assert decision == Denied(
        7,
        (Why.NO_LICENCE, Why.UNKNOWN_EXPERT),
        {"birch": (Why.NO_LICENCE,), "cedar": (Why.UNKNOWN_EXPERT,)},
    )


def test_a_request_cannot_require_what_it_excludes():
    both = frozenset({"alder"})
    decision = decide(policy(a_grant()), dataclasses.replace(DARA, exclude=both, require=both), NOW)
    assert decision.why == (Why.EXCLUDED_BY_REQUEST,)


def test_the_public_expert_cannot_be_excluded():
    ask = dataclasses.replace(DARA, exclude=frozenset({"public"}))
    decision = decide(policy(a_grant()), ask, NOW)
    assert isinstance(decision, Denied)
    assert decision.denied["public"] == (Why.EXCLUDED_BY_REQUEST,)


def test_excluding_an_expert_nobody_knows_changes_nothing():
    ask = dataclasses.replace(DARA, exclude=frozenset({"nobody"}))
    assert decide(policy(a_grant()), ask, NOW) == decide(policy(a_grant()), DARA, NOW)


def test_a_licence_for_a_purpose_covers_what_lies_below_it_and_not_what_lies_above():
    below = Ask("dara", "academic_research", "DE")
    assert why_alder(policy(a_grant()), below) == ()
    narrow = a_grant(purposes=frozenset({Purpose.ACADEMIC_RESEARCH}))
    assert why_alder(policy(narrow), below) == ()
    assert why_alder(policy(narrow)) == (Why.PURPOSE,)


def test_a_prohibited_purpose_takes_what_lies_below_it_and_leaves_its_siblings():
    grant = a_grant(prohibited_purposes=frozenset({Purpose.INDUSTRIAL_RESEARCH}))
    assert why_alder(policy(grant), Ask("dara", "industrial_research", "DE")) == (Why.PURPOSE,)
    assert why_alder(policy(grant), Ask("dara", "academic_research", "DE")) == ()
    whole = a_grant(licence="L-2", prohibited_purposes=frozenset({Purpose.RESEARCH}))
    assert why_alder(policy(a_grant(), whole), Ask("dara", "academic_research", "DE")) == (
        Why.PURPOSE,
    )


@pytest.mark.parametrize(
    ("prohibition", "why"),
    [
        ({"prohibited_uses": frozenset({Use.ANSWER})}, Why.NO_LICENCE),
        ({"prohibited_purposes": frozenset({Purpose.RESEARCH})}, Why.PURPOSE),
        ({"excluded_consumers": frozenset({"dara"})}, Why.CONSUMER),
        ({"excluded_territories": frozenset({"DE"})}, Why.JURISDICTION),
        ({"excluded_sectors": frozenset({Sector.M})}, Why.RECIPIENT),
    ],
)
def test_a_prohibition_of_any_licence_holds_for_its_written_period_and_no_longer(prohibition, why):
    ask = dataclasses.replace(DARA, sector="M")
    forbids = a_grant(
        licence="L-2",
        uses=frozenset({Use.TRAIN}),
        starts_at=after(days=-2),
        ends_at=after(days=2),
        stops=(Stop(Instrument.TERMINATE, after(days=-1)),),
        **prohibition,
    )
    snapshot = policy(a_grant(starts_at=after(days=-9)), forbids)
    assert why_alder(snapshot, ask) == (why,)
    assert why_alder(snapshot, ask, after(days=-2)) == (why,)
    assert why_alder(snapshot, ask, after(days=2)) == ()
    assert why_alder(snapshot, ask, after(days=-3)) == ()


def test_who_does_not_say_its_sector_is_not_told_apart_from_those_excluded():
    grant = a_grant(excluded_sectors=frozenset({Sector.K}))
    assert why_alder(policy(grant)) == (Why.RECIPIENT,)
    assert why_alder(policy(grant), dataclasses.replace(DARA, sector="M")) == ()


@pytest.mark.parametrize(
    ("scope", "is_barred"),
    [
        ({"purposes": frozenset({Purpose.RESEARCH})}, True),
        ({"purposes": frozenset({Purpose.COMMERCIAL})}, False),
        ({"purposes": frozenset({Purpose.ACADEMIC_RESEARCH})}, False),
        ({"consumers": frozenset({"dara"})}, True),
        ({"consumers": frozenset({"erik"})}, False),
        ({"purposes": frozenset({Purpose.RESEARCH}), "consumers": frozenset({"erik"})}, False),
        ({"spares": frozenset({"dara"})}, False),
        ({"spares": frozenset({"erik"})}, True),
    ],
)
@pytest.mark.parametrize("target", ["licence", "expert"])
def test_an_act_bars_whom_its_scope_names(scope, is_barred, target):
    stops = (Stop(Instrument.SUSPEND, NOW, **scope),)
    snapshot = (
        policy(a_grant(stops=stops))
        if target == "licence"
        else policy(a_grant(), standings=[a_standing(stops=stops)])
    )
    assert why_alder(snapshot) == ((Why.SUSPENDED,) if is_barred else ())


def test_an_act_for_some_adds_to_the_acts_for_all():
    some = Stop(Instrument.SUSPEND, NOW, consumers=frozenset({"dara"}))
    snapshot = policy(a_grant(stops=(some, Stop(Instrument.TERMINATE, NOW))))
    assert why_alder(snapshot) == (Why.SUSPENDED, Why.EXPIRED)


def test_a_quota_used_up_stops_its_licence_and_another_takes_over():
    two = policy(a_grant(), a_grant(licence="L-2"))
    one = policy(a_grant())
    spent = decide(one, DARA, NOW, exhausted=frozenset({"L-1", "L-7"}))
    assert spent.denied == {"alder": (Why.QUOTA,)}
    assert decide(two, DARA, NOW, exhausted=frozenset({"L-1"})).denied == {}
    assert decide(one, DARA, NOW, exhausted=frozenset({"L-7"})).denied == {}


def test_the_licence_that_began_last_is_charged_first():
    names = ("alder", "birch")
    snapshot = policy(
        a_grant(licence="L-1", starts_at=after(days=-5)),
        a_grant(licence="L-3", starts_at=after(days=-2)),
        a_grant(licence="L-2", starts_at=after(days=-2)),
        a_grant(licence="L-4", starts_at=after(days=1)),
        a_grant(licence="L-1", expert="birch"),
        names=names,
    )
    assert covering(snapshot, DARA, NOW) == {"alder": ("L-2", "L-3", "L-1"), "birch": ("L-1",)}
    spent = covering(snapshot, DARA, NOW, exhausted=frozenset({"L-1", "L-2"}))
    assert spent == {"alder": ("L-3",)}
    refused = dataclasses.replace(DARA, require=frozenset({"ghost"}))
    assert covering(snapshot, refused, NOW) == {}


def test_five_thousand_random_cases_are_covered_as_the_plain_evaluator_says():
    covered = outlived = 0
    for seed in range(5_000):
        if seed % 10 == 0:
            snapshot = worlds.a_snapshot(seed)
            body = snapshot.to_body()
        ask, at, exhausted = (
            worlds.an_ask(seed),
            worlds.an_instant(seed),
            worlds.some_exhausted(seed),
        )
        found = covering(snapshot, ask, at, exhausted=exhausted)
        assert found == oracle.covers(body, ask, at, exhausted), seed
        decision = decide(snapshot, ask, at, exhausted=exhausted)
        assert set(decision.recompute_without) == oracle.outlived(body, found), seed
        outlived += len(decision.recompute_without)
        covered += len(found)
    assert covered > 300
    assert 100 < outlived < covered


def test_an_answer_outlives_an_expert_where_the_licence_charged_says_so_and_nobody_insists():
    lasting = a_grant(licence="L-2", starts_at=after(-1), on_withdrawal=OnWithdrawal.RECOMPUTE)
    both = policy(a_grant(licence="L-1"), lasting)
    assert decide(both, DARA, NOW).recompute_without == ("alder",)
    spent = decide(both, DARA, NOW, exhausted=frozenset({"L-2"}))
    assert spent.recompute_without == ()
    insisting = dataclasses.replace(DARA, require=frozenset({"alder"}))
    assert decide(both, insisting, NOW).recompute_without == ()


def disagreements(first: int, count: int, judge=decide) -> list[int]:
    """The seeds on which `judge` and the oracle differ; each policy gets ten questions."""
    found = []
    for seed in range(first, first + count):
        if seed % 10 == 0 or seed == first:
            snapshot = worlds.a_snapshot(seed // 10)
            body = snapshot.to_body()
        ask, at, exhausted = (
            worlds.an_ask(seed),
            worlds.an_instant(seed),
            worlds.some_exhausted(seed),
        )
        allowed, denied = oracle.judged(body, ask, at, exhausted)
        ours = judge(snapshot, ask, at, exhausted=exhausted)
        if [ref.name for ref in ours.allowed] != allowed or dict(ours.denied) != denied:
            found.append(seed)
    return found


def test_twenty_thousand_random_cases_agree_with_the_plain_evaluator():
    assert disagreements(0, 20_000) == []


@given(worlds.seeds, worlds.seeds)
def test_every_expert_is_either_allowed_or_denied_with_a_reason(seed, other):
    snapshot = worlds.a_snapshot(seed)
    decision = decide(snapshot, worlds.an_ask(other), worlds.an_instant(other))
    allowed = [ref.name for ref in decision.allowed]
    assert sorted([*allowed, *decision.denied]) == sorted(ref.name for ref in snapshot.experts)
    assert all(decision.denied.values())
    in_build_order = [ref for ref in snapshot.experts if ref.name in allowed]
    assert list(decision.allowed) == in_build_order


def allowed_by(parts, ask, at) -> set[str]:
    return {ref.name for ref in decide(compile_snapshot(7, *parts), ask, at).allowed}


@given(worlds.seeds, worlds.seeds, st.randoms(use_true_random=False))
def test_the_order_of_grants_and_standings_never_matters(seed, other, shuffler):
    build, standings, grants = worlds.parts(seed)
    mixed_standings, mixed_grants = list(standings), list(grants)
    shuffler.shuffle(mixed_standings)
    shuffler.shuffle(mixed_grants)
    mixed = compile_snapshot(7, build, mixed_standings, mixed_grants)
    assert mixed == compile_snapshot(7, build, standings, grants)
    assert mixed.digest == compile_snapshot(7, build, standings, grants).digest


@given(worlds.seeds, worlds.seeds, st.data())
def test_adding_an_ending_never_widens(seed, other, data):
    build, standings, grants = worlds.parts(seed)
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    before = allowed_by((build, standings, grants), ask, at)
    ending = worlds.a_stop(worlds.Chooser(other))
    targets = [("grant", n) for n, one in enumerate(grants) if isinstance(one, Grant)]
    targets += [("standing", n) for n in range(len(standings))]
    if not targets:
        return
    kind, number = data.draw(st.sampled_from(targets))
    ended = list(grants if kind == "grant" else standings)
    ended[number] = dataclasses.replace(ended[number], stops=(*ended[number].stops, ending))
    parts = (build, standings, ended) if kind == "grant" else (build, ended, grants)
    assert allowed_by(parts, ask, at) <= before


@given(worlds.seeds, worlds.seeds)
def test_deny_wins_a_prohibition_in_force_beats_any_number_of_grants(seed, other):
    build, standings, grants = worlds.parts(seed)
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    if ask.consumer not in worlds.CONSUMERS:
        return
    name = build.experts[0].name
    forbids = a_grant(
        licence="L-0",
        expert=name,
        starts_at=at - timedelta(days=1),
        excluded_consumers=frozenset({ask.consumer}),
    )
    assert name not in allowed_by((build, standings, [*grants, forbids]), ask, at)


@given(worlds.seeds, worlds.seeds, st.sampled_from(worlds.NAMES))
def test_a_gap_takes_its_expert_and_no_other(seed, other, name):
    build, standings, grants = worlds.parts(seed)
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    before = allowed_by((build, standings, grants), ask, at)
    torn = [*grants, Gap(name, "L-0", "torn page")]
    assert allowed_by((build, standings, torn), ask, at) == before - {name}


@settings(max_examples=50)
@given(worlds.seeds, worlds.seeds)
def test_what_a_request_excludes_only_narrows(seed, other):
    snapshot, ask, at = worlds.a_snapshot(seed), worlds.an_ask(other), worlds.an_instant(other)
    narrow = dataclasses.replace(ask, exclude=ask.exclude | {"alder"})
    wide_names = {ref.name for ref in decide(snapshot, ask, at).allowed}
    assert {ref.name for ref in decide(snapshot, narrow, at).allowed} == wide_names - {"alder"}
