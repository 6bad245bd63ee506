"""Laws that hold for every policy: what widens never takes away, what narrows never gives, and
nothing that cannot be read ever lets anything through.
"""

from __future__ import annotations

import copy
import dataclasses
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.errors import InvalidTerms
from governance.policy import terms
from governance.policy.compiler import compile_snapshot
from governance.policy.decide import decide
from governance.policy.types import Grant, Snapshot
from governance.vocabulary import OnWithdrawal, Purpose, RecipientClass, Sector, Use
from tests.governance.policy import worlds
from tests.governance.policy.test_decide import a_grant, allowed_by

PROHIBITIONS = st.sampled_from(["use", "purpose", "consumer", "territory", "sector"])


def forbidding(kind: str, ask) -> dict[str, frozenset[str]]:
    """Terms that forbid just what `ask` says."""
    lineage = Purpose(ask.purpose).lineage
    return {
        "use": {"prohibited_uses": frozenset({Use.ANSWER})},
        "purpose": {"prohibited_purposes": frozenset({lineage[-1]})},
        "consumer": {"excluded_consumers": frozenset({ask.consumer})},
        "territory": {"excluded_territories": frozenset({ask.territory})},
        "sector": {"excluded_sectors": frozenset({Sector(ask.sector or "A")})},
    }[kind]


@given(worlds.seeds, worlds.seeds, PROHIBITIONS)
def test_deny_wins_whatever_is_prohibited_and_by_whatever_licence(seed, other, kind):
    build, standings, grants = worlds.parts(seed)
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    if not _is_well_said(ask):
        return
    name = build.experts[0].name
    forbids = a_grant(
        licence="L-0",
        expert=name,
        uses=frozenset({Use.TRAIN}),
        starts_at=at - timedelta(days=1),
        **forbidding(kind, ask),
    )
    assert name not in allowed_by((build, standings, [*grants, forbids]), ask, at)


def _is_well_said(ask) -> bool:
    return (
        ask.purpose in set(Purpose)
        and ask.consumer in worlds.CONSUMERS
        and ask.territory in worlds.TERRITORIES
        and ask.sector in {"", *Sector}
    )


WIDER = {
    "uses": lambda found: found | {Use.ANSWER},
    "prohibited_uses": lambda found: frozenset(),
    "purposes": lambda found: found | {Purpose.RESEARCH, Purpose.COMMERCIAL},
    "prohibited_purposes": lambda found: frozenset(),
    "consumers": lambda found: None,
    "excluded_consumers": lambda found: frozenset(),
    "recipient_classes": lambda found: None if found is None else found | set(RecipientClass),
    "sectors": lambda found: None,
    "excluded_sectors": lambda found: frozenset(),
    "territories": lambda found: None,
    "excluded_territories": lambda found: frozenset(),
    "ends_at": lambda found: None,
    "max_extraction_rate": lambda found: 1.0,
    "revision": lambda found: None,
    "stops": lambda found: found[1:],
    "on_withdrawal": lambda found: OnWithdrawal.RECOMPUTE,
}


def test_every_term_of_a_licence_has_its_law():
    assert set(WIDER) == set(Grant.__dataclass_fields__) - {"licence", "expert", "starts_at"}


@given(worlds.seeds, worlds.seeds, st.sampled_from(sorted(set(WIDER) - {"ends_at"})), st.data())
def test_a_wider_licence_never_allows_less(seed, other, term, data):
    build, standings, grants = worlds.parts(seed)
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    numbers = [number for number, one in enumerate(grants) if isinstance(one, Grant)]
    if not numbers:
        return
    number = data.draw(st.sampled_from(numbers))
    wider = dataclasses.replace(
        grants[number], **{term: WIDER[term](getattr(grants[number], term))}
    )
    changed = [*grants[:number], wider, *grants[number + 1 :]]
    before = allowed_by((build, standings, grants), ask, at)
    assert before <= allowed_by((build, standings, changed), ask, at)


@given(worlds.seeds, worlds.seeds, st.sampled_from(["purposes", "consumers", "spares"]), st.data())
def test_an_act_with_a_wider_scope_never_allows_more(seed, other, part, data):
    build, standings, grants = worlds.parts(seed)
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    stopped = [n for n, one in enumerate(grants) if isinstance(one, Grant) and one.stops]
    if not stopped:
        return
    number = data.draw(st.sampled_from(stopped))
    first, *rest = grants[number].stops
    wider = dataclasses.replace(first, **{part: frozenset() if part == "spares" else None})
    changed = list(grants)
    changed[number] = dataclasses.replace(grants[number], stops=(wider, *rest))
    before = allowed_by((build, standings, grants), ask, at)
    assert allowed_by((build, standings, changed), ask, at) <= before


@given(worlds.seeds, worlds.seeds, st.sampled_from(["L-0", "L-1", "L-2"]))
def test_a_quota_used_up_never_widens(seed, other, reference):
    snapshot = worlds.a_snapshot(seed)
    ask, at, spent = worlds.an_ask(other), worlds.an_instant(other), worlds.some_exhausted(other)
    before = decide(snapshot, ask, at, exhausted=spent)
    after = decide(snapshot, ask, at, exhausted=spent | {reference})
    assert set(after.allowed) <= set(before.allowed)


@given(worlds.seeds, worlds.seeds)
def test_what_a_narrower_purpose_may_use_grows_from_a_licence_for_a_wider_one(seed, other):
    """Without prohibitions and scoped acts, whoever may do a purpose may do all below it."""
    build, standings, grants = worlds.parts(seed)
    plain = [
        dataclasses.replace(one, prohibited_purposes=frozenset(), stops=())
        for one in grants
        if isinstance(one, Grant)
    ]
    bare = [dataclasses.replace(one, stops=()) for one in standings]
    ask, at = worlds.an_ask(other), worlds.an_instant(other)
    if ask.purpose not in set(Purpose):
        return
    for below in Purpose:
        if below.is_part_of(Purpose(ask.purpose)):
            narrower = dataclasses.replace(ask, purpose=below.value)
            assert allowed_by((build, bare, plain), ask, at) <= allowed_by(
                (build, bare, plain), narrower, at
            )


# ── Nothing that cannot be read lets anything through ────────────────────────────────────────────
ABSENT = object()
JUNK = [
    ABSENT,
    object(),
    7,
    -1.5,
    True,
    "",
    "sorcery!",
    [None],
    [7],
    ["sorcery!"],
    {},
    {"a": 1},
    "\0",
]
PARTS = ("experts", "standings", "grants", "gaps")


def torn(body, part: str, field: str, junk) -> list[dict]:
    """The body with `field` of each entry of `part`, one at a time, made unreadable."""
    found = []
    for number in range(len(body[part])):
        changed = copy.deepcopy(body)
        if junk is ABSENT:
            del changed[part][number][field]
        else:
            changed[part][number][field] = junk
        found.append(changed)
    return found


def means_something(part: str, field: str, junk) -> bool:
    """Whether the junk happens to say something there; what can be read is heeded."""
    if field == "revision" and junk == "":
        return True  # any revision, as the column of a licence says it
    if field in ("name", "expert", "licence", "problem"):
        return True  # another thing altogether, and no fault of reading
    return (part, field) == ("experts", "digest")


def test_no_field_of_any_policy_fails_open_when_it_cannot_be_read():
    checked = 0
    for seed in range(4):
        snapshot = worlds.a_snapshot(seed)
        body = snapshot.to_body()
        ask, at = _an_ask_that_is_answered(snapshot, seed)
        before = {ref.name for ref in decide(snapshot, ask, at).allowed}
        for part in PARTS:
            for field in sorted({key for one in body[part] for key in one}):
                for junk in JUNK:
                    if means_something(part, field, junk):
                        continue
                    for changed in torn(body, part, field, junk):
                        assert allowed_of(changed, ask, at) <= before, (seed, part, field, junk)
                        checked += 1
    assert checked > 2_000


def _an_ask_that_is_answered(snapshot, seed):
    asks = [(worlds.an_ask(n), worlds.an_instant(n)) for n in range(seed, seed + 60)]
    return max(asks, key=lambda one: len(decide(snapshot, *one).allowed))


def allowed_of(body, ask, at) -> set[str]:
    try:
        snapshot = Snapshot.from_body(body)
    except InvalidTerms:
        return set()
    return {ref.name for ref in decide(snapshot, ask, at).allowed}


@pytest.mark.parametrize(
    "field", ["instrument", "starts_at", "ends_at", "purposes", "consumers", "spares"]
)
@pytest.mark.parametrize("junk", JUNK[:-1], ids=["absent", "object", *map(repr, JUNK[2:-1])])
@pytest.mark.parametrize("part", ["grants", "standings"])
def test_an_act_that_cannot_be_read_darkens_its_expert(field, junk, part):
    checked = 0
    for seed in range(40):
        body = worlds.a_snapshot(seed).to_body()
        for entry in body[part]:
            for stop in entry["stops"]:
                kept = dict(stop)
                if junk is ABSENT:
                    del stop[field]
                else:
                    stop[field] = junk
                name = entry["expert" if part == "grants" else "name"]
                assert name in {gap.expert for gap in Snapshot.from_body(body).gaps}
                stop.clear()
                stop.update(kept)
                checked += 1
    assert checked > 3


READERS = [name for name in vars(terms) if name.startswith(("_members", "_instant", "_share"))]
READERS += ["_sectors", "_consumers", "_countries", "_recipients", "_digest", "_stops", "_or_any"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("error", [KeyError, TypeError, ValueError, AttributeError, OverflowError])
def test_a_reader_that_fails_darkens_what_it_reads(reader, error, monkeypatch):
    def fail(*_arguments):
        raise error("broken")

    build, standings, grants = worlds.parts(3)
    monkeypatch.setattr(terms, reader, fail)
    snapshot = compile_snapshot(7, build, standings, grants)
    assert snapshot.gaps
    for seed in range(200):
        decision = decide(snapshot, worlds.an_ask(seed), worlds.an_instant(seed))
        dark = {gap.expert for gap in snapshot.gaps}
        assert not dark & {ref.name for ref in decision.allowed}


def test_a_fault_nobody_foresaw_refuses_the_policy_rather_than_part_of_it(monkeypatch):
    def fail(*_arguments):
        raise RuntimeError("a bug")

    body = worlds.a_snapshot(3).to_body()
    monkeypatch.setattr(terms, "_countries", fail)
    with pytest.raises(RuntimeError):
        Snapshot.from_body(body)
