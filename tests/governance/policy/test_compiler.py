"""Compilation: gaps instead of errors, content addresses, exact round trips, sorted time."""

from __future__ import annotations

import copy
import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.canonical import canonical_json, sha256_hex
from governance.errors import InvalidTerms
from governance.policy import masks
from governance.policy.compiler import compile_snapshot
from governance.policy.decide import decide
from governance.policy.types import (
    BuildRef,
    ExpertRef,
    Gap,
    Grant,
    Snapshot,
    Standing,
    read_grant,
    read_standing,
)
from governance.vocabulary import ExpertState, Sector, Use
from tests.factories import NOW, after, digest_of
from tests.governance.policy import worlds
from tests.governance.policy.test_decide import DARA, a_grant, a_standing, policy

STOP = {
    "instrument": "suspend",
    "starts_at": NOW,
    "ends_at": None,
    "purposes": None,
    "consumers": None,
    "spares": [],
}
COLUMNS = {
    "uses": ["answer"],
    "prohibited_uses": [],
    "purposes": ["research"],
    "prohibited_purposes": [],
    "consumers": None,
    "excluded_consumers": [],
    "recipient_classes": None,
    "sectors": ["news"],
    "excluded_sectors": [],
    "territories": ["DE"],
    "excluded_territories": [],
    "revision": "",
    "starts_at": NOW,
    "ends_at": None,
    "max_extraction_rate": 0.01,
    "stops": [],
    "on_withdrawal": "abort",
}


def test_columns_of_a_licence_read_as_a_grant():
    grant = read_grant("alder", "L-1", COLUMNS)
    assert isinstance(grant, Grant)
    assert grant.uses == {Use.ANSWER}
    assert grant.territories == {"DE"}
    assert grant.sectors == {Sector.J}
    assert grant.revision is None


def test_groups_of_countries_are_spelled_out_when_policy_is_made():
    grant = read_grant("alder", "L-1", COLUMNS | {"territories": ["EEA", "CH"]})
    assert {"NO", "DE", "CH"} < grant.territories
    assert not {"EEA", "EU", "GB"} & grant.territories


def test_a_stop_reads_back_with_its_scope():
    scoped = STOP | {"purposes": ["research"], "consumers": ["dara"], "spares": ["fay"]}
    (stop,) = read_grant("alder", "L-1", COLUMNS | {"stops": [scoped]}).stops
    assert read_grant("alder", "L-1", COLUMNS | {"stops": [stop.to_body()]}).stops == (stop,)
    assert stop.purposes == {"research"}


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("uses", ["answer", "resell"]),
        ("uses", None),
        ("uses", "answer"),
        ("purposes", ["sorcery"]),
        ("consumers", "dara"),
        ("consumers", ["not a slug"]),
        ("excluded_consumers", [7]),
        ("territories", ["Germany"]),
        ("territories", [None]),
        ("starts_at", None),
        ("starts_at", datetime(2027, 1, 1)),  # noqa: DTZ001
        ("starts_at", "soon"),
        ("ends_at", NOW),
        ("ends_at", 12),
        ("max_extraction_rate", float("nan")),
        ("max_extraction_rate", 1.5),
        ("max_extraction_rate", -0.1),
        ("max_extraction_rate", True),
        ("max_extraction_rate", "lots"),
        ("max_extraction_rate", 10**400),
        ("revision", "short"),
        ("prohibited_uses", ["resell"]),
        ("prohibited_uses", None),
        ("prohibited_purposes", ["sorcery"]),
        ("prohibited_purposes", "research"),
        ("recipient_classes", ["church"]),
        ("sectors", ["sorcery"]),
        ("excluded_sectors", [7]),
        ("excluded_sectors", None),
        ("excluded_territories", ["EUROPE"]),
        ("excluded_territories", None),
        ("territories", ["eea"]),
        ("stops", None),
        ("stops", [STOP | {"instrument": "burn"}]),
        ("stops", [{"instrument": "suspend"}]),
        ("stops", [STOP | {"ends_at": NOW}]),
        ("stops", [STOP | {"purposes": []}]),
        ("stops", [STOP | {"consumers": []}]),
        ("stops", [STOP | {"purposes": ["sorcery"]}]),
        ("stops", [STOP | {"consumers": "dara"}]),
        ("stops", [STOP | {"spares": None}]),
        ("stops", ["suspended"]),
    ],
)
def test_terms_that_cannot_be_read_are_a_gap_and_never_an_error(column, found):
    gap = read_grant("alder", "L-1", COLUMNS | {column: found})
    assert isinstance(gap, Gap)
    assert (gap.expert, gap.licence) == ("alder", "L-1")
    assert gap.problem


@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_a_missing_column_is_a_gap(column):
    gap = read_grant("alder", "L-1", {key: COLUMNS[key] for key in COLUMNS if key != column})
    assert isinstance(gap, Gap)
    assert repr(column) in gap.problem


@pytest.mark.parametrize(
    "changes",
    [{"state": "lost"}, {"digest": None}, {"verdict": "perhaps"}, {"extraction_rate": 2}],
)
def test_a_standing_that_cannot_be_read_is_a_gap(changes):
    fields = {"digest": digest_of("r1"), "state": "active", "verdict": "pass", "stops": []}
    assert isinstance(read_standing("alder", fields), Standing)
    assert isinstance(read_standing("alder", fields | changes), Gap)


def test_values_that_lie_about_their_type_are_found_at_compilation():
    lying = dataclasses.replace(a_grant(), starts_at="soon")
    snapshot = policy(a_grant(licence="L-2"), lying)
    assert [gap.licence for gap in snapshot.gaps] == ["L-1"]
    assert decide(snapshot, DARA, NOW).allowed == ()
    bad_standing = policy(a_grant(), standings=[a_standing(state="lost")])
    assert [gap.expert for gap in bad_standing.gaps] == ["alder"]


def test_two_standings_that_differ_are_a_gap():
    two = [a_standing(), a_standing(state=ExpertState.SUSPENDED)]
    assert policy(a_grant(), standings=two).gaps[0].problem.endswith("found two")
    assert policy(a_grant(), standings=[a_standing(), a_standing()]).gaps == ()


def test_terms_of_experts_outside_the_build_are_left_out():
    snapshot = policy(a_grant(), a_grant(expert="birch"), Gap("birch", "L-9", "torn"))
    assert [grant.expert for grant in snapshot.grants] == ["alder"]
    assert snapshot.gaps == ()


@pytest.mark.parametrize("names", [("public",), ("alder", "alder")])
def test_a_build_that_contradicts_itself_is_refused(names):
    build = BuildRef("b", "a", 1, tuple(ExpertRef(name, digest_of(name)) for name in names))
    with pytest.raises(InvalidTerms, match="correct the build"):
        compile_snapshot(1, build, [], [])


def test_live_experts_are_those_someone_could_use_some_day():
    names = ("alder", "birch", "cedar", "doum")
    standings = [a_standing(name=name) for name in names[:3]]
    standings[1] = dataclasses.replace(standings[1], state=ExpertState.WITHDRAWN)
    snapshot = policy(
        a_grant(starts_at=after(days=3)),
        a_grant(expert="birch"),
        a_grant(expert="doum"),
        standings=standings,
        names=names,
    )
    assert [ref.name for ref in snapshot.live] == ["alder"]


@given(worlds.seeds, worlds.seeds)
def test_a_body_round_trips_exactly_also_through_json(seed, other):
    snapshot = worlds.a_snapshot(seed)
    again = Snapshot.from_body(json.loads(json.dumps(snapshot.to_body(), sort_keys=True)))
    assert again == snapshot
    assert again.digest == snapshot.digest == sha256_hex(canonical_json(snapshot.to_body()))
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    assert decide(again, ask, at) == decide(snapshot, ask, at)


@pytest.mark.django_db
def test_a_body_survives_a_json_column_with_its_digest():
    from governance.models import PolicySnapshot

    snapshot = policy(a_grant(max_extraction_rate=1e-7), a_grant(licence="L-2"))
    PolicySnapshot.objects.create(
        policy_epoch=7, digest=snapshot.digest, body=snapshot.to_body(), reason="test"
    )
    assert Snapshot.from_body(PolicySnapshot.objects.get().body).digest == snapshot.digest


@given(worlds.seeds)
def test_the_digest_tells_any_two_policies_apart(seed):
    one, other = worlds.a_snapshot(seed), worlds.a_snapshot(seed + 1)
    assert (one.digest == other.digest) == (one == other)


@given(worlds.seeds, st.data())
def test_a_body_with_one_torn_grant_darkens_that_expert_and_no_other(seed, data):
    body = worlds.a_snapshot(seed).to_body()
    if not body["grants"]:
        return
    torn = copy.deepcopy(body)
    grant = data.draw(st.sampled_from(torn["grants"]))
    grant[data.draw(st.sampled_from(sorted(set(grant) - {"expert", "licence"})))] = object()
    snapshot = Snapshot.from_body(torn)
    assert {gap.expert for gap in snapshot.gaps} == {
        *(gap["expert"] for gap in body["gaps"]),
        grant["expert"],
    }


@pytest.mark.parametrize(
    "body", [{}, {"version": 3}, {"version": 1}, {"version": 2, "experts": 3}, "text"]
)
def test_what_is_no_snapshot_is_refused(body):
    with pytest.raises(InvalidTerms):
        Snapshot.from_body(body)


def test_time_is_sorted_once_and_stays_small(monkeypatch):
    """Sorting and switching grow in step with the grants: no grant is compared with every other."""
    switched = []
    as_it_is = masks._merged

    def counting(spans):
        found = as_it_is(spans)
        switched.extend(found)
        return found

    monkeypatch.setattr(masks, "_merged", counting)
    for count in (100, 400):
        switched.clear()
        names = tuple(f"e{number}" for number in range(count))
        policy(
            *(a_grant(expert=name, starts_at=after(at)) for at, name in enumerate(names)),
            names=names,
        )
        assert len(switched) == count  # each licence begins once, and nothing else happens


def test_a_timeline_knows_both_sides_of_every_instant():
    assert masks.microseconds(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    timeline = masks.Timeline((10,), ((1, 0, 0, 0, 0), (0, 0, 0, 0, 0)))
    assert timeline.at(9)[masks.NOT_YET] == 1
    assert timeline.at(10)[masks.NOT_YET] == 0


def test_every_reason_has_its_bit():
    assert len(masks.WHYS) <= masks.LANE_BITS
    assert [masks.PLACE[why] for why in masks.WHYS] == list(range(len(masks.WHYS)))
