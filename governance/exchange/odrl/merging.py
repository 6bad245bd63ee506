"""Several limits into one set, always the strictest of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from governance.exchange.rights import Loss
from governance.vocabulary import Purpose, QuotaPeriod, TerritoryGroup

_PERIODS = list(QuotaPeriod)
"""From the shortest to the longest."""


@dataclass(frozen=True)
class Limits:
    """Terms that limit one permission; a term that is missing does not limit."""

    terms: dict[str, Any] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


class _Clash(ValueError):
    """Two limits that nothing can satisfy together."""


def meet(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What both allow."""
    found = dict(one)
    for name, value in other.items():
        found[name] = _both(name, found[name], value) if name in found else value
    begin, end = found.get("starts_at"), found.get("ends_at")
    if begin is not None and end is not None and end <= begin:
        raise _Clash(f"it ends ({end:%Y-%m-%d}) before it begins ({begin:%Y-%m-%d})")
    return found


def joined(one: Limits, other: Limits) -> Limits:
    """Both together.

    Raises:
        ValueError: nothing satisfies both; the message says why.
    """
    return Limits(meet(one.terms, other.terms), (*one.losses, *other.losses))


def clash(permitted: Sequence[Limits]) -> str | None:
    """Why these permissions cannot stand in one licence; None where they can."""
    try:
        strictest(permitted)
    except ValueError as error:
        return str(error)
    return None


def strictest(permitted: Sequence[Limits]) -> tuple[dict[str, Any], list[str]]:
    """The limits that keep every permission, and the terms in which these differ.

    Raises:
        ValueError: nothing satisfies all of them.
    """
    found: dict[str, Any] = {}
    for limits in permitted:
        found = meet(found, limits.terms)
    differing = [
        name for name in found
        if any(limits.terms.get(name) != found[name] for limits in permitted)
    ]  # fmt: skip
    return found, differing


def applied(terms: dict[str, Any], barred: Limits) -> dict[str, Any]:
    """The limits with what prohibitions bar added to them."""
    return meet(terms, barred.terms)


def meet_purposes(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """The purposes under both: of each pair on one branch of the tree, the narrower."""
    first, second = [Purpose(code) for code in one], [Purpose(code) for code in other]
    narrow = [a for a in first if any(a.is_part_of(b) for b in second)]
    narrow += [b for b in second if any(b.is_part_of(a) for a in first)]
    return sorted({str(code) for code in narrow})


def meet_territories(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """The countries under both; groups stay groups only where both name the same."""
    if set(one) == set(other):
        return sorted(set(one))
    return sorted(_countries(one) & _countries(other))


def _countries(codes: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for code in codes:
        found |= TerritoryGroup(code).countries if code in set(TerritoryGroup) else {code}
    return found


def _both(name: str, one: Any, other: Any) -> Any:
    if name == "purposes":
        return meet_purposes(one, other)
    if name == "territories":
        return meet_territories(one, other)
    if name in ("consumers", "recipient_classes", "sectors"):
        return sorted(set(one) & set(other))
    if name.startswith(("prohibited_", "excluded_")):
        return sorted({*one, *other})
    if name == "starts_at":
        return max(one, other)
    if name == "quota_period":
        # The fewer of two counts over the longer of two periods keeps both quotas.
        return max(one, other, key=lambda period: _PERIODS.index(QuotaPeriod(period)))
    if name == "expert_digest":
        if one != other:
            raise _Clash("two versions of the target are named")
        return one
    return min(one, other)
