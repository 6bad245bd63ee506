"""What a decision with every reason costs, and how it compares with Cedar's yes or no.

    python -m bench.decisions [--quick] --json FILE

One decision is one request judged against all experts of a build, one licence each, at 8, 64 and
512 licences. Claims are of processor time, so that other processes on the machine do not count as
ours; wall time stands beside it in the rows. Cedar (through cedarpy) gets its best form: parsed
policies and entities kept between calls, three policies over expert attributes, requests built
beforehand; it answers yes or no for each expert and gives no reasons. Each side is measured in a
loop of its own. Both must agree on every request or the run fails.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import cedarpy

from bench.record import Record, options
from governance.canonical import sha256_hex
from governance.policy.compiler import compile_snapshot
from governance.policy.decide import decide
from governance.policy.masks import microseconds
from governance.policy.types import Ask, BuildRef, ExpertRef, Grant, Snapshot, Standing, Stop
from governance.vocabulary import ExpertState, Instrument, Purpose, Use, Verdict

AT = datetime(2027, 3, 1, tzinfo=UTC)
CONSUMERS = tuple(f"consumer-{number}" for number in range(20))
TERRITORIES = ("DE", "FR", "IE", "NL", "ES", "IT")
ASKS = 400

POLICIES = """
permit(principal, action, resource) when {
  resource.purposes.contains(context.purpose)
  && (resource.any_consumer || resource.consumers.contains(context.consumer))
  && (resource.any_territory || resource.territories.contains(context.territory))
  && context.now >= resource.starts && context.now < resource.ends
};
forbid(principal, action, resource) when {
  resource.barred || resource.excluded.contains(context.consumer)
};
forbid(principal, action, resource) when { context.now >= resource.stopped };
"""


def main() -> int:
    """Measure each size, print, write the record."""
    wanted = options(__doc__ or "")
    decisions = 4_000 if wanted.quick else 40_000
    record = Record("decisions", {"decisions": decisions, "asks": ASKS}, wanted)
    p99_us = {}
    for licences in (8, 64, 512):
        snapshot = world(licences)
        asks = questions()
        taken_us = measured(snapshot, asks, decisions, time.thread_time_ns)
        wall_us = measured(snapshot, asks, decisions, time.perf_counter_ns)
        p99_us[licences] = percentile(taken_us, 0.99)
        record.row(
            "decision with every reason",
            licences=licences,
            p50_us=statistics.median(taken_us),
            p99_us=p99_us[licences],
            wall_p50_us=statistics.median(wall_us),
            wall_p99_us=percentile(wall_us, 0.99),
            per_s=1e6 / statistics.fmean(taken_us),
            allowed_mean=statistics.fmean(len(decide(snapshot, a, AT).allowed) for a in asks),
        )
    record.claim("decisions.p99_us_64", p99_us[64], "µs", "<= 50")
    record.claim("decisions.p99_us_512", p99_us[512], "µs", "<= 200")
    ratio = against_cedar(record, 512, rounds=10 if wanted.quick else 60)
    record.claim("decisions.ratio_cedarpy_512", ratio, "times", ">= 100")
    compiling(record)
    return record.finish()


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
        purposes=frozenset(choose.sample(list(Purpose), 3)),
        starts_at=begins_at,
        ends_at=begins_at + timedelta(days=choose.randrange(100, 900)),
        consumers=frozenset(choose.sample(CONSUMERS, 8)) if choose.random() < 0.4 else None,
        excluded_consumers=frozenset(choose.sample(CONSUMERS, 1 if choose.random() < 0.2 else 0)),
        territories=frozenset(choose.sample(TERRITORIES, 3)) if choose.random() < 0.5 else None,
        max_extraction_rate=choose.choice((0.005, 0.01)),
        stops=(Stop(Instrument.SUSPEND, AT - timedelta(days=1)),) if choose.random() < 0.05 else (),
    )


def questions(seed: int = 8) -> list[Ask]:
    """Requests of every kind of consumer; one in twenty from nowhere policy knows."""
    choose = random.Random(seed)
    return [
        Ask(
            consumer=choose.choice(CONSUMERS),
            purpose=choose.choice(list(Purpose)).value,
            territory=choose.choice(TERRITORIES) if choose.random() < 0.95 else "ZZ",
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


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def against_cedar(record: Record, licences: int, rounds: int) -> float:
    """How many times longer Cedar takes for the same requests (medians).

    Raises:
        RuntimeError: the two disagree, or Cedar met an error it would have skipped.
    """
    snapshot = world(licences)
    policies = cedarpy.PolicySet.from_str(POLICIES)
    entities = cedarpy.Entities.from_json_str(json.dumps(_entities(snapshot)))
    asks = questions()[:rounds]
    theirs_us, answers = [], []
    for ask in asks:
        requests = _requests(snapshot, ask)
        begun = time.thread_time_ns()
        answers.append(cedarpy.is_authorized_batch(requests, policies, entities))
        theirs_us.append((time.thread_time_ns() - begun) / 1_000)
    ours_us = measured(snapshot, asks, 20 * len(asks), time.thread_time_ns)
    for ask, answer in zip(asks, answers, strict=True):
        allowed = [ref for ref, one in zip(snapshot.experts, answer, strict=True) if one.allowed]
        has_errors = any(one.diagnostics.errors for one in answer)
        if has_errors or tuple(allowed) != decide(snapshot, ask, AT).allowed:
            raise RuntimeError(f"expected Cedar to agree on {ask}, found that it does not")
    ratio = statistics.median(theirs_us) / statistics.median(ours_us)
    record.row(
        "the same requests through cedarpy",
        licences=licences,
        cedarpy_ms=statistics.median(theirs_us) / 1_000,
        ours_us=statistics.median(ours_us),
        disagreements=0,
    )
    return ratio


def _requests(snapshot: Snapshot, ask: Ask) -> list[dict[str, str]]:
    context = json.dumps(
        {
            "consumer": ask.consumer,
            "purpose": ask.purpose,
            "territory": ask.territory,
            "now": microseconds(AT),
        }
    )
    return [
        {
            "principal": 'Consumer::"any"',
            "action": 'Action::"answer"',
            "resource": f'Expert::"{ref.name}"',
            "context": context,
        }
        for ref in snapshot.experts
    ]


def _entities(snapshot: Snapshot) -> list[dict[str, object]]:
    standings = {standing.name: standing for standing in snapshot.standings}
    return [_entity(grant, standings[grant.expert]) for grant in snapshot.grants]


def _entity(grant: Grant, standing: Standing) -> dict[str, object]:
    never = 2**62
    rate = standing.extraction_rate
    return {
        "uid": {"type": "Expert", "id": grant.expert},
        "parents": [],
        "attrs": {
            "barred": standing.state is not ExpertState.ACTIVE
            or rate is None
            or rate > grant.max_extraction_rate,
            "purposes": sorted(grant.purposes),
            "any_consumer": grant.consumers is None,
            "consumers": sorted(grant.consumers or ()),
            "excluded": sorted(grant.excluded_consumers),
            "any_territory": grant.territories is None,
            "territories": sorted(grant.territories or ()),
            "starts": microseconds(grant.starts_at),
            "ends": microseconds(grant.ends_at) if grant.ends_at else never,
            "stopped": min((microseconds(stop.starts_at) for stop in grant.stops), default=never),
        },
    }


def compiling(record: Record) -> None:
    """Time to compile a policy; four times the licences should cost about four times as much."""
    taken_ms = {}
    for licences in (512, 2_048):
        parts = terms(licences)
        rounds = []
        for _ in range(5):
            begun = time.thread_time_ns()
            compile_snapshot(1, *parts)
            rounds.append((time.thread_time_ns() - begun) / 1e6)
        taken_ms[licences] = statistics.median(rounds)
        record.row("compile a policy", licences=licences, ms=taken_ms[licences])
    record.claim("decisions.compile_ms_512", taken_ms[512], "ms")
    record.claim("decisions.compile_growth_4x", taken_ms[2_048] / taken_ms[512], "times", "<= 8")


if __name__ == "__main__":
    raise SystemExit(main())
