"""A third opinion: the same licences as Cedar policies, asked through cedarpy.

Cedar gives one yes or no an expert, so reasons are not compared. What cannot be read has no Cedar
form (Cedar would skip it, and that is fail-open), so gaps are left to the other tests.
"""

from __future__ import annotations

from datetime import datetime

import cedarpy

from governance.policy.decide import decide
from governance.policy.masks import microseconds
from governance.policy.types import Ask, Grant, Snapshot, Stop
from governance.vocabulary import Purpose, RecipientClass, Sector, Use
from tests.governance.policy import worlds


def as_set(words) -> str:
    return "[" + ", ".join(f'"{word}"' for word in sorted(words)) + "]"


def in_span(begin, end) -> str:
    said = f"context.now >= {microseconds(begin)}"
    return said if end is None else f"({said} && context.now < {microseconds(end)})"


def barring(stop: Stop) -> str:
    """When `stop` bars: in its time, and whom it hits."""
    conditions = [in_span(stop.starts_at, stop.ends_at)]
    if stop.purposes is not None:
        conditions.append(f"context.lineage.containsAny({as_set(stop.purposes)})")
    if stop.consumers is not None:
        conditions.append(f"{as_set(stop.consumers)}.contains(context.consumer)")
    if stop.spares:
        conditions.append(f"!{as_set(stop.spares)}.contains(context.consumer)")
    return " && ".join(conditions)


def permit(grant: Grant) -> str:
    conditions = [
        f"context.lineage.containsAny({as_set(grant.purposes)})",
        in_span(grant.starts_at, grant.ends_at),
        f"resource.rate_ppb <= {round(grant.max_extraction_rate * 1e9)}",
        f'!context.exhausted.contains("{grant.licence}")',
        *(f"!({barring(stop)})" for stop in grant.stops),
    ]
    for words, said in (
        (grant.consumers, "consumer"),
        (grant.territories, "territory"),
        (grant.recipient_classes, "recipient_class"),
        (grant.sectors, "sector"),
    ):
        if words is not None:
            conditions.append(f"{as_set(words)}.contains(context.{said})")
    if grant.revision is not None:
        conditions.append(f'resource.digest == "{grant.revision}"')
    return (
        f'permit(principal, action, resource == Expert::"{grant.expert}")'
        f" when {{ {' && '.join(conditions)} }};"
    )


def forbid(grant: Grant) -> str:
    sectors = {*grant.excluded_sectors, *([""] if grant.excluded_sectors else [])}
    forbidden = [
        f"context.lineage.containsAny({as_set(grant.prohibited_purposes)})",
        f"{as_set(grant.excluded_consumers)}.contains(context.consumer)",
        f"{as_set(grant.excluded_territories)}.contains(context.territory)",
        f"{as_set(sectors)}.contains(context.sector)",
        f'{as_set(grant.prohibited_uses)}.contains("answer")',
    ]
    return (
        f'forbid(principal, action, resource == Expert::"{grant.expert}") when'
        f" {{ ({' || '.join(forbidden)}) && {in_span(grant.starts_at, grant.ends_at)} }};"
    )


ALWAYS = """
forbid(principal, action, resource) unless {
  resource.state == "active" && resource.verdict == "pass" && resource.digest == resource.built
  && resource.has_rate
  && context.known
};
"""


def policies(snapshot: Snapshot) -> str:
    said = [permit(grant) for grant in snapshot.grants if Use.ANSWER in grant.uses]
    said += [forbid(grant) for grant in snapshot.grants]
    for standing in snapshot.standings:
        said += [
            f'forbid(principal, action, resource == Expert::"{standing.name}")'
            f" when {{ {barring(stop)} }};"
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


def is_known(ask: Ask) -> bool:
    """Whether policy knows every word of `ask`; Cedar has sets of words, and no shapes."""
    return (
        ask.consumer in (*worlds.CONSUMERS, "mallory")
        and ask.territory in (*worlds.TERRITORIES, "ZZ")
        and ask.sector in ("", *Sector)
        and ask.recipient_class in ("", *RecipientClass)
    )


def context(ask: Ask, at: datetime, exhausted: frozenset[str]) -> dict[str, object]:
    known = ask.purpose in set(Purpose)
    return {
        "consumer": ask.consumer,
        "lineage": [one.value for one in Purpose(ask.purpose).lineage] if known else [],
        "territory": ask.territory,
        "recipient_class": ask.recipient_class,
        "sector": ask.sector,
        "exhausted": sorted(exhausted),
        "now": microseconds(at),
        "known": is_known(ask),
    }


def agreements(cases: int, first: int = 0) -> int:
    """Ask Cedar so many questions from seed `first` on; how often it permitted an expert.

    Raises:
        AssertionError: Cedar disagrees, or met an error it would have skipped.
    """
    asked = permitted = 0
    seed = first
    while asked < cases:
        seed += 1
        snapshot = worlds.a_snapshot(seed)
        if snapshot.gaps:
            continue
        ask, at = worlds.an_ask(seed), worlds.an_instant(seed)
        exhausted = worlds.some_exhausted(seed)
        names = [ref.name for ref in snapshot.experts if ref.name not in ask.exclude]
        requests = [
            {
                "principal": 'Consumer::"any"',
                "action": 'Action::"answer"',
                "resource": f'Expert::"{name}"',
                "context": context(ask, at, exhausted),
            }
            for name in names
        ]
        answers = cedarpy.is_authorized_batch(requests, policies(snapshot), entities(snapshot))
        assert not any(answer.diagnostics.errors for answer in answers)
        theirs = [name for name, answer in zip(names, answers, strict=True) if answer.allowed]
        ours = decide(snapshot, ask, at, exhausted=exhausted)
        assert theirs == [ref.name for ref in ours.allowed], seed
        asked += 1
        permitted += len(theirs)
    return permitted


def test_cedar_agrees_on_five_hundred_random_cases():
    assert agreements(500) > 20  # an agreement on "never" would prove nothing
