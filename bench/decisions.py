"""What a decision with every reason costs, and how it compares with Cedar's yes or no.

    python -m bench.decisions [--quick] --json FILE

One decision is one request judged against all experts of a build, one licence each, at 8, 64, 512
and 4,096 licences, in every dimension: purposes as a tree, consumers, territories, kinds of
organisations, sectors, prohibitions, written periods, acts with and without a scope, audits.
Claims are of processor time, so that other processes on the machine do not count as ours; wall
time stands beside it in the rows.

Cedar (through cedarpy) and Casbin (pycasbin) get their best forms: parsed policies and entities
kept between calls, three policies over expert attributes; one rule over licences as objects. Both
answer yes or no for each expert and give no reasons for a default denial. Each is measured in a
loop of its own. All must agree on every request or the run fails.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import casbin
import cedarpy

from bench.record import Record, options, percentile
from governance.canonical import sha256_hex
from governance.policy.compiler import compile_snapshot
from governance.policy.decide import decide
from governance.policy.masks import microseconds
from governance.policy.types import Ask, BuildRef, ExpertRef, Grant, Snapshot, Standing, Stop
from governance.vocabulary import (
    ExpertState,
    Instrument,
    Purpose,
    RecipientClass,
    Sector,
    Use,
    Verdict,
)

AT = datetime(2027, 3, 1, tzinfo=UTC)
CONSUMERS = tuple(f"consumer-{number}" for number in range(20))
TERRITORIES = ("DE", "FR", "IE", "NL", "ES", "IT")
ASKS = 400

SIZES = (8, 64, 512, 4_096)
NEVER = 2**62

POLICIES = """
permit(principal, action, resource) when {
  resource.purposes.containsAny(context.lineage)
  && (resource.any_consumer || resource.consumers.contains(context.consumer))
  && (resource.any_territory || resource.territories.contains(context.territory))
  && (resource.any_class || resource.classes.contains(context.class))
  && (resource.any_sector || resource.sectors.contains(context.sector))
  && context.now >= resource.starts && context.now < resource.ends
};
forbid(principal, action, resource) when {
  resource.barred || resource.excluded_consumers.contains(context.consumer)
  || resource.excluded_territories.contains(context.territory)
  || resource.excluded_sectors.contains(context.sector)
  || resource.prohibited_purposes.containsAny(context.lineage)
};
forbid(principal, action, resource) when {
  context.now >= resource.stopped
  && (resource.stops_any_purpose || resource.stopped_purposes.containsAny(context.lineage))
};
"""

CASBIN_MODEL = """
[request_definition]
r = ask, expert
[policy_definition]
p = rule
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = meets(r.ask.lineage, r.expert.purposes) && (r.expert.any_consumer || r.ask.consumer in \
r.expert.consumers) && (r.expert.any_territory || r.ask.territory in r.expert.territories) && \
(r.expert.any_class || r.ask.recipient_class in r.expert.classes) && (r.expert.any_sector || \
r.ask.sector in r.expert.sectors) && r.ask.now >= r.expert.starts && r.ask.now < r.expert.ends && \
not (r.expert.barred || r.ask.consumer in r.expert.excluded_consumers || r.ask.territory in \
r.expert.excluded_territories || r.ask.sector in r.expert.excluded_sectors || \
meets(r.ask.lineage, r.expert.prohibited_purposes)) && not (r.ask.now >= r.expert.stopped && \
(r.expert.stops_any_purpose || meets(r.ask.lineage, r.expert.stopped_purposes)))
"""


def main() -> int:
    """Measure each size, print, write the record."""
    wanted = options(__doc__ or "")
    decisions = 2_000 if wanted.quick else 20_000
    record = Record("decisions", {"decisions": decisions, "asks": ASKS}, wanted)
    for licences in SIZES:
        snapshot, asks = world(licences), questions()
        taken_us = measured(snapshot, asks, decisions, time.thread_time_ns)
        wall_us = measured(snapshot, asks, decisions, time.perf_counter_ns)
        p99_us = percentile(taken_us, 0.99)
        record.row(
            "decision with every reason",
            licences=licences,
            p50_us=statistics.median(taken_us),
            p99_us=p99_us,
            wall_p50_us=statistics.median(wall_us),
            wall_p99_us=percentile(wall_us, 0.99),
            per_s=1e6 / statistics.fmean(taken_us),
            allowed_mean=statistics.fmean(len(decide(snapshot, a, AT).allowed) for a in asks),
        )
        bound = {64: "<= 50", 512: "<= 200"}.get(licences, "")
        record.claim(f"decisions.p99_us_{licences}", p99_us, "µs", bound)
        against_others(record, licences, snapshot, asks[: _rounds(licences, wanted.quick)])
    compiling(record)
    return record.finish()


def _rounds(licences: int, is_quick: bool) -> int:
    """How many requests the others are asked: seconds of their time, not minutes."""
    most = 5_000 if is_quick else 40_000
    return max(3, min(60, most // licences))


def world(licences: int, seed: int = 7) -> Snapshot:
    """A policy of so many experts, one licence each, with about half of each dimension open."""
    build, standings, grants = terms(licences, seed)
    return compile_snapshot(1, build, standings, grants)


def terms(licences: int, seed: int = 7) -> tuple[BuildRef, list[Standing], list[Grant]]:
    """The plain terms of `world`."""
    choose = random.Random(seed)
    names = [f"expert-{number:05}" for number in range(licences)]
    experts = tuple(ExpertRef(name, sha256_hex(name.encode())) for name in names)
    standings = [
        Standing(
            name=ref.name,
            digest=ref.digest,
            state=choose.choices((ExpertState.ACTIVE, ExpertState.WITHDRAWN), (19, 1))[0],
            verdict=Verdict.PASS,
            extraction_rate=choose.choice((0.0, 0.002, 0.008)),
        )
        for ref in experts
    ]
    grants = [_grant(choose, number, ref.name) for number, ref in enumerate(experts)]
    return BuildRef("b" * 64, "a" * 64, 4, experts), standings, grants


def _grant(choose: random.Random, number: int, name: str) -> Grant:
    begins_at = AT + timedelta(seconds=choose.randrange(-40_000_000, 4_000_000))
    return Grant(
        licence=f"L-{number:05}",
        expert=name,
        uses=frozenset({Use.ANSWER}),
        purposes=frozenset(choose.sample(list(Purpose), 5)),
        prohibited_purposes=frozenset(choose.sample(list(Purpose), choose.random() < 0.1)),
        starts_at=begins_at,
        ends_at=begins_at + timedelta(days=choose.randrange(100, 900)),
        consumers=frozenset(choose.sample(CONSUMERS, 8)) if choose.random() < 0.4 else None,
        excluded_consumers=frozenset(choose.sample(CONSUMERS, choose.random() < 0.2)),
        recipient_classes=_some(choose, list(RecipientClass), 3, 0.2),
        sectors=_some(choose, list(Sector), 12, 0.2),
        excluded_sectors=frozenset(choose.sample(list(Sector), choose.random() < 0.1)),
        territories=_some(choose, list(TERRITORIES), 3, 0.5),
        excluded_territories=frozenset(choose.sample(TERRITORIES, choose.random() < 0.1)),
        max_extraction_rate=choose.choice((0.005, 0.01)),
        stops=_stops(choose),
    )


def _some(choose: random.Random, words: list[Any], count: int, share: float) -> Any:
    return frozenset(choose.sample(words, count)) if choose.random() < share else None


def _stops(choose: random.Random) -> tuple[Stop, ...]:
    if choose.random() >= 0.05:
        return ()
    purposes = _some(choose, [Purpose.RESEARCH, Purpose.COMMERCIAL], 1, 0.5)
    return (Stop(Instrument.SUSPEND, AT - timedelta(days=1), purposes=purposes),)


def questions(seed: int = 8) -> list[Ask]:
    """Requests of every kind of consumer; one in twenty from nowhere policy knows."""
    choose = random.Random(seed)
    return [
        Ask(
            consumer=choose.choice(CONSUMERS),
            purpose=choose.choice(list(Purpose)).value,
            territory=choose.choice(TERRITORIES) if choose.random() < 0.95 else "ZZ",
            sector=choose.choice(list(Sector)).value,
            recipient_class=choose.choice(list(RecipientClass)).value,
        )
        for _ in range(ASKS)
    ]


def measured(
    snapshot: Snapshot, asks: Sequence[Ask], decisions: int, clock: Callable[[], int]
) -> list[float]:
    """Microseconds by `clock` (in nanoseconds) of each of so many decisions in turn."""
    for ask in asks:
        decide(snapshot, ask, AT)
    taken = []
    for number in range(decisions):
        ask = asks[number % len(asks)]
        begun = clock()
        decide(snapshot, ask, AT)
        taken.append((clock() - begun) / 1_000)
    return taken


def against_others(record: Record, licences: int, snapshot: Snapshot, asks: Sequence[Ask]) -> None:
    """How many times longer Cedar and Casbin take for the same requests (medians).

    Raises:
        RuntimeError: one disagrees, or met an error it would have skipped.
    """
    ours_us = statistics.median(measured(snapshot, asks, 20 * len(asks), time.thread_time_ns))
    theirs = {"cedarpy": by_cedar(snapshot), "pycasbin": by_casbin(snapshot)}
    for name, judge in theirs.items():
        taken_us = []
        for ask in asks:
            allowed, us = judge(ask)
            if allowed != [ref.name for ref in decide(snapshot, ask, AT).allowed]:
                raise RuntimeError(f"expected {name} to agree on {ask}, found that it does not")
            taken_us.append(us)
        ratio = statistics.median(taken_us) / ours_us
        record.row(
            f"the same requests through {name}",
            licences=licences,
            theirs_ms=statistics.median(taken_us) / 1_000,
            ours_us=ours_us,
            times=ratio,
            requests=len(asks),
            disagreements=0,
        )
        bound = ">= 100" if (name, licences) == ("cedarpy", 512) else ""
        record.claim(f"decisions.ratio_{name}_{licences}", ratio, "times", bound)


Judge = Callable[[Ask], tuple[list[str], float]]
"""The experts another engine allows, and the microseconds it took."""


def by_cedar(snapshot: Snapshot) -> Judge:
    """Cedar, with policies and entities parsed once; requests are built before the clock starts."""
    policies = cedarpy.PolicySet.from_str(POLICIES)
    attributes = _attributes(snapshot)
    entities = cedarpy.Entities.from_json_str(
        json.dumps(
            [
                {"uid": {"type": "Expert", "id": name}, "parents": [], "attrs": attrs}
                for name, attrs in attributes.items()
            ]
        )
    )

    def judge(ask: Ask) -> tuple[list[str], float]:
        context = json.dumps({**_said(ask), "class": ask.recipient_class})
        requests = [
            {
                "principal": 'Consumer::"any"',
                "action": 'Action::"answer"',
                "resource": f'Expert::"{name}"',
                "context": context,
            }
            for name in attributes
        ]
        begun = time.thread_time_ns()
        answers = cedarpy.is_authorized_batch(requests, policies, entities)
        taken_us = (time.thread_time_ns() - begun) / 1_000
        if any(answer.diagnostics.errors for answer in answers):
            raise RuntimeError(f"expected Cedar to meet no error on {ask}, found one")
        pairs = zip(attributes, answers, strict=True)
        return [name for name, answer in pairs if answer.allowed], taken_us

    return judge


def by_casbin(snapshot: Snapshot) -> Judge:
    """Casbin, with one rule over the ask and the expert as objects."""
    model = casbin.Enforcer.new_model(text=CASBIN_MODEL)
    enforcer = casbin.Enforcer(model)
    enforcer.add_function("meets", lambda one, other: not one.isdisjoint(other))
    enforcer.add_policy("any")
    experts = {
        name: SimpleNamespace(
            **{key: set(one) if isinstance(one, list) else one for key, one in attrs.items()}
        )
        for name, attrs in _attributes(snapshot).items()
    }

    def judge(ask: Ask) -> tuple[list[str], float]:
        said = _said(ask)
        asked = SimpleNamespace(**said | {"lineage": set(said["lineage"])})
        begun = time.thread_time_ns()
        allowed = [name for name, expert in experts.items() if enforcer.enforce(asked, expert)]
        return allowed, (time.thread_time_ns() - begun) / 1_000

    return judge


def _said(ask: Ask) -> dict[str, Any]:
    return {
        "consumer": ask.consumer,
        "lineage": [one.value for one in Purpose(ask.purpose).lineage],
        "territory": ask.territory,
        "recipient_class": ask.recipient_class,
        "sector": ask.sector,
        "now": microseconds(AT),
    }


def _attributes(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """What the others know of each expert, in build order: its licence laid out flat."""
    standings = {standing.name: standing for standing in snapshot.standings}
    grants = {grant.expert: grant for grant in snapshot.grants}
    return {ref.name: _flat(grants[ref.name], standings[ref.name]) for ref in snapshot.experts}


def _flat(grant: Grant, standing: Standing) -> dict[str, Any]:
    rate = standing.extraction_rate
    stop = grant.stops[0] if grant.stops else None
    scope = None if stop is None else stop.purposes
    return {
        "barred": standing.state is not ExpertState.ACTIVE
        or rate is None
        or rate > grant.max_extraction_rate,
        "purposes": sorted(grant.purposes),
        "prohibited_purposes": sorted(grant.prohibited_purposes),
        "any_consumer": grant.consumers is None,
        "consumers": sorted(grant.consumers or ()),
        "excluded_consumers": sorted(grant.excluded_consumers),
        "any_territory": grant.territories is None,
        "territories": sorted(grant.territories or ()),
        "excluded_territories": sorted(grant.excluded_territories),
        "any_class": grant.recipient_classes is None,
        "classes": sorted(grant.recipient_classes or ()),
        "any_sector": grant.sectors is None,
        "sectors": sorted(grant.sectors or ()),
        "excluded_sectors": sorted(grant.excluded_sectors),
        "starts": microseconds(grant.starts_at),
        "ends": microseconds(grant.ends_at) if grant.ends_at else NEVER,
        "stopped": microseconds(stop.starts_at) if stop else NEVER,
        "stops_any_purpose": scope is None,
        "stopped_purposes": sorted(scope or ()),
    }


def compiling(record: Record) -> None:
    """Time to compile a policy; eight times the licences should cost about eight times as much."""
    taken_s = {}
    for licences in (512, 4_096):
        parts = terms(licences)
        rounds = []
        for _ in range(5):
            begun = time.thread_time_ns()
            compile_snapshot(1, *parts)
            rounds.append((time.thread_time_ns() - begun) / 1e9)
        taken_s[licences] = statistics.median(rounds)
        record.row("compile a policy", licences=licences, seconds=taken_s[licences])
    record.claim("decisions.compile_s_4096", taken_s[4_096], "s", "<= 1")
    record.claim("decisions.compile_growth_8x", taken_s[4_096] / taken_s[512], "times", "<= 16")


if __name__ == "__main__":
    raise SystemExit(main())
