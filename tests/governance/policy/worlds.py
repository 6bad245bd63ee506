"""Random policies and questions, crowded at the edges where mistakes live."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import strategies as st

from governance.policy.compiler import compile_snapshot
from governance.policy.types import (
    Ask,
    BuildRef,
    ExpertRef,
    Gap,
    Grant,
    Snapshot,
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
)
from tests.factories import NOW, digest_of

NAMES = ("alder", "birch", "cedar", "doum", "elder")
CONSUMERS = ("dara", "erik", "fay")
TERRITORIES = ("DE", "FR", "IE", "NO")
SECTORS = (Sector.J, Sector.M, Sector.Q)
PROHIBITABLE = (Purpose.COMMERCIAL, Purpose.ADVERTISING, Purpose.RESEARCH, Purpose.JUSTICE)
EVERYDAY = (Purpose.RESEARCH, Purpose.ACADEMIC_RESEARCH, Purpose.COMMERCIAL, Purpose.ADVERTISING)
INSTANTS = tuple(NOW + timedelta(days=days) for days in (-20, -10, 0, 10, 20))
DIGESTS = (digest_of("r1"), digest_of("r2"))


class Chooser:
    """`random.Random` with the few questions the worlds ask."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, options):
        return self.random.choice(options)

    def usual(self, common, rare):
        return self.one(common) if self.maybe(0.85) else self.one(rare)

    def some(self, options):
        return frozenset(option for option in options if self.random.random() < 0.6)

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance


def a_stop(choose: Chooser) -> Stop:
    begin = choose.random.randrange(len(INSTANTS) - 1)
    end = choose.one([None, *INSTANTS[begin + 1 :]])
    return Stop(
        instrument=choose.one(list(Instrument)),
        starts_at=INSTANTS[begin],
        ends_at=end,
        purposes=frozenset({choose.one(list(Purpose))}) if choose.maybe(0.25) else None,
        consumers=frozenset({choose.one(CONSUMERS)}) if choose.maybe(0.25) else None,
        spares=frozenset({choose.one(CONSUMERS)}) if choose.maybe(0.15) else frozenset(),
    )


def a_grant(choose: Chooser, expert: str, number: int) -> Grant:
    begin = choose.random.randrange(len(INSTANTS) - 1)
    return Grant(
        licence=f"L-{number}",
        expert=expert,
        uses=frozenset({Use.ANSWER}) if choose.maybe(0.9) else frozenset({Use.TRAIN}),
        prohibited_uses=frozenset({choose.one([Use.ANSWER, Use.DISTIL])})
        if choose.maybe(0.06)
        else frozenset(),
        purposes=choose.some([*Purpose][::3]) | choose.some(EVERYDAY),
        prohibited_purposes=frozenset({choose.one(PROHIBITABLE)})
        if choose.maybe(0.15)
        else frozenset(),
        starts_at=INSTANTS[begin] if choose.maybe(0.4) else INSTANTS[0],
        ends_at=choose.one(INSTANTS[begin + 1 :]) if choose.maybe(0.4) else None,
        consumers=choose.some(CONSUMERS) if choose.maybe(0.5) else None,
        excluded_consumers=frozenset({choose.one(CONSUMERS)}) if choose.maybe(0.2) else frozenset(),
        recipient_classes=choose.some(list(RecipientClass)) if choose.maybe(0.25) else None,
        sectors=choose.some(SECTORS) if choose.maybe(0.25) else None,
        excluded_sectors=frozenset({choose.one(SECTORS)}) if choose.maybe(0.15) else frozenset(),
        territories=choose.usual([None, choose.some(TERRITORIES)], [frozenset({"EU"})]),
        excluded_territories=frozenset({choose.one([*TERRITORIES, "EEA"])})
        if choose.maybe(0.12)
        else frozenset(),
        max_extraction_rate=choose.one([0.0, 0.01, 0.05, 1.0]),
        revision=choose.one(DIGESTS) if choose.maybe(0.1) else None,
        stops=tuple(a_stop(choose) for _ in range(choose.one([0, 0, 0, 1, 2]))),
        on_withdrawal=choose.one(list(OnWithdrawal)),
    )


def a_standing(choose: Chooser, name: str, digest: str) -> Standing:
    return Standing(
        name=name,
        digest=digest if choose.maybe(0.95) else choose.one(DIGESTS),
        state=ExpertState.ACTIVE if choose.maybe(0.85) else choose.one(list(ExpertState)),
        verdict=Verdict.PASS if choose.maybe(0.9) else choose.one([None, *Verdict]),
        extraction_rate=choose.one([0.0, 0.0, 0.005, 0.01, 0.02, None]),
        stops=tuple(a_stop(choose) for _ in range(choose.one([0, 0, 0, 0, 1]))),
    )


def parts(seed: int):
    """`(build, standings, grants)` of a random policy; some of it missing or unreadable."""
    choose = Chooser(seed)
    names = NAMES[: choose.random.randint(1, len(NAMES))]
    experts = tuple(ExpertRef(name, choose.one(DIGESTS)) for name in names)
    build = BuildRef(digest_of("build"), digest_of("anchor"), 2, experts)
    standings = [a_standing(choose, ref.name, ref.digest) for ref in experts if choose.maybe(0.97)]
    grants: list[Grant | Gap] = [
        a_grant(choose, ref.name, number)
        for ref in experts
        for number in range(choose.one([0, 1, 1, 1, 2, 3]))
    ]
    if choose.maybe(0.1):
        grants.append(Gap(choose.one(names), "L-9", "expected a purpose, found 'sorcery'"))
    return build, standings, grants


def a_snapshot(seed: int) -> Snapshot:
    return compile_snapshot(7, *parts(seed))


def an_ask(seed: int) -> Ask:
    choose = Chooser(seed * 3 + 1)
    return Ask(
        consumer=choose.usual(CONSUMERS, ["mallory", "", "not a slug"]),
        purpose=choose.usual(EVERYDAY, [*Purpose, "sorcery", ""]),
        territory=choose.usual(TERRITORIES, ["ZZ", "de", "", "EU"]),
        exclude=frozenset(name for name in NAMES if choose.maybe(0.08)),
        sector=choose.usual([*SECTORS, ""], [Sector.A, "finance", "j"]),
        recipient_class=choose.usual([*RecipientClass, ""], ["church"]),
    )


def some_exhausted(seed: int) -> frozenset[str]:
    """References of licences whose quota is used up; for most seeds none."""
    choose = Chooser(seed * 3 + 5)
    return choose.some(("L-0", "L-1")) if choose.maybe(0.2) else frozenset()


def an_instant(seed: int):
    choose = Chooser(seed * 3 + 2)
    return choose.one(INSTANTS) + timedelta(microseconds=choose.one([-1, 0, 1, 86_400_000_000]))


seeds = st.integers(0, 2**32)
