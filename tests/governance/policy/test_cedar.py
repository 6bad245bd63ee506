"""A third opinion: the same licences as Cedar policies, asked through cedarpy.

Cedar gives one yes or no an expert, so reasons are not compared. What cannot be read has no Cedar
form (Cedar would skip it, and that is fail-open), so gaps are left to the other tests.
"""

from __future__ import annotations

import cedarpy

from governance.policy.decide import decide
from governance.policy.masks import microseconds
from governance.policy.types import Grant, Snapshot, Stop
from governance.vocabulary import Use
from tests.governance.policy import worlds


def as_set(words) -> str:
    return "[" + ", ".join(f'"{word}"' for word in sorted(words)) + "]"


def in_span(begin, end) -> str:
    said = f"context.now >= {microseconds(begin)}"
    return said if end is None else f"({said} && context.now < {microseconds(end)})"


def not_stopped(stops: tuple[Stop, ...]) -> list[str]:
    return [f"!({in_span(stop.starts_at, stop.ends_at)})" for stop in stops]


def permit(grant: Grant) -> str:
    conditions = [
        f"{as_set(grant.purposes)}.contains(context.purpose)",
        in_span(grant.starts_at, grant.ends_at),
        f"resource.rate_ppb <= {round(grant.max_extraction_rate * 1e9)}",
        *not_stopped(grant.stops),
    ]
    if grant.consumers is not None:
        conditions.append(f"{as_set(grant.consumers)}.contains(context.consumer)")
    if grant.territories is not None:
        conditions.append(f"{as_set(grant.territories)}.contains(context.territory)")
    if grant.revision is not None:
        conditions.append(f'resource.digest == "{grant.revision}"')
    return (
        f'permit(principal, action, resource == Expert::"{grant.expert}")'
        f" when {{ {' && '.join(conditions)} }};"
    )


def forbid(grant: Grant) -> str:
    return (
        f'forbid(principal, action, resource == Expert::"{grant.expert}") when'
        f" {{ {as_set(grant.excluded_consumers)}.contains(context.consumer)"
        f" && {in_span(grant.starts_at, grant.ends_at)} }};"
    )


ALWAYS = """
forbid(principal, action, resource) unless {
  resource.state == "active" && resource.verdict == "pass" && resource.digest == resource.built
  && resource.has_rate
  && context.known
};
"""


def policies(snapshot: Snapshot) -> str:
    grants = [grant for grant in snapshot.grants if Use.ANSWER in grant.uses]
    said = [permit(grant) for grant in grants]
    said += [forbid(grant) for grant in grants if grant.excluded_consumers]
    for standing in snapshot.standings:
        said += [
            f'forbid(principal, action, resource == Expert::"{standing.name}")'
            f" when {{ {in_span(stop.starts_at, stop.ends_at)} }};"
            for stop in standing.stops
        ]
    return "\n".join([ALWAYS, *said])


def entities(snapshot: Snapshot) -> list[dict]:
    built = {ref.name: ref.digest for ref in snapshot.experts}
    return [
        {
            "uid": {"type": "Expert", "id": standing.name},
            "attrs": {
                "state": standing.state.value,
                "verdict": standing.verdict.value if standing.verdict else "none",
                "digest": standing.digest,
                "built": built[standing.name],
                "has_rate": standing.extraction_rate is not None,
                "rate_ppb": round((standing.extraction_rate or 0.0) * 1e9),
            },
            "parents": [],
        }
        for standing in snapshot.standings
    ]


def test_cedar_agrees_on_three_hundred_random_cases():
    asked = permitted = 0
    for seed in range(10_000):
        snapshot = worlds.a_snapshot(seed)
        if snapshot.gaps:
            continue
        ask, at = worlds.an_ask(seed), worlds.an_instant(seed)
        known = ask.consumer in (*worlds.CONSUMERS, "mallory") and ask.territory.isupper()
        requests = [
            {
                "principal": 'Consumer::"any"',
                "action": 'Action::"answer"',
                "resource": f'Expert::"{ref.name}"',
                "context": {
                    "consumer": ask.consumer,
                    "purpose": str(ask.purpose),
                    "territory": ask.territory,
                    "now": microseconds(at),
                    "known": known,
                },
            }
            for ref in snapshot.experts
            if ref.name not in ask.exclude
        ]
        answers = cedarpy.is_authorized_batch(requests, policies(snapshot), entities(snapshot))
        assert not any(answer.diagnostics.errors for answer in answers)
        names = [ref.name for ref in snapshot.experts if ref.name not in ask.exclude]
        theirs = [name for name, answer in zip(names, answers, strict=True) if answer.allowed]
        assert theirs == [ref.name for ref in decide(snapshot, ask, at).allowed], seed
        asked += 1
        permitted += len(theirs)
        if asked == 300:
            break
    assert asked == 300
    assert permitted > 30  # an agreement on "never" would prove nothing
