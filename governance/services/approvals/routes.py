"""Routes: which steps a request takes. Versioned, and changed by four eyes like what they guard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from governance.log import events
from governance.models import Account, ApprovalRequest, ApprovalRoute
from governance.vocabulary import ApprovalKind, EventTag, Role


@dataclass(frozen=True)
class Step:
    """One step: whom it asks, how many of them, and within how many days (null: no deadline)."""

    title: str
    role: str = ""
    group: str = ""
    needed: int = 1
    days: int | None = None


@dataclass(frozen=True)
class Route:
    """The way a request goes; version 0 is the one that ships."""

    key: str
    version: int
    kind: ApprovalKind
    title: str
    steps: tuple[Step, ...]
    conditions: Mapping[str, Any]
    rules: tuple[str, ...] = ()
    is_on: bool = True


def _shipped(kind: ApprovalKind, step: Step, *, is_on: bool = True) -> Route:
    return Route(kind.value.replace("_", "-"), 0, kind, kind.label, (step,), {}, is_on=is_on)


_LEGAL = Step("A second person of legal", role=Role.LEGAL, days=5)
DEFAULTS: Mapping[ApprovalKind, Route] = {
    # Whom the act itself lets in: pages and API ask for legal staff.
    ApprovalKind.LICENCE: _shipped(ApprovalKind.LICENCE, Step("A second person", days=10)),
    ApprovalKind.ACTIVATION: _shipped(ApprovalKind.ACTIVATION, Step("A second person", days=5)),
    ApprovalKind.WAIVER: _shipped(
        ApprovalKind.WAIVER, Step("Two people of legal", role=Role.LEGAL, needed=2, days=5)
    ),
    ApprovalKind.HOLD: _shipped(ApprovalKind.HOLD, _LEGAL),
    ApprovalKind.ROUTE: _shipped(ApprovalKind.ROUTE, _LEGAL),
    ApprovalKind.OWNER: _shipped(ApprovalKind.OWNER, _LEGAL, is_on=False),
    ApprovalKind.CONSUMER: _shipped(ApprovalKind.CONSUMER, _LEGAL, is_on=False),
    ApprovalKind.API_KEY: _shipped(ApprovalKind.API_KEY, _LEGAL, is_on=False),
    ApprovalKind.PROMOTION: _shipped(ApprovalKind.PROMOTION, _LEGAL, is_on=False),
    ApprovalKind.EXPORT: _shipped(ApprovalKind.EXPORT, _LEGAL, is_on=False),
}
"""What holds until somebody adopts a route: as it was before routes could be changed."""


def of_row(row: ApprovalRoute) -> Route:
    """A stored route as a value."""
    return Route(
        row.key,
        row.version,
        ApprovalKind(row.kind),
        row.title,
        tuple(Step(**step) for step in row.steps),
        row.conditions,
        tuple(row.rules),
        row.is_on,
    )


def in_force() -> list[Route]:
    """The newest adopted version of every route, and what ships for kinds without one."""
    adopted = ApprovalRoute.objects.exclude(adopted_at=None).order_by("key", "-version")
    newest: dict[str, Route] = {}
    for row in adopted:
        newest.setdefault(row.key, of_row(row))
    kept = [route for key, route in by_key(DEFAULTS.values()).items() if key not in newest]
    return sorted([*newest.values(), *kept], key=lambda route: (route.kind, route.key))


def by_key(routes: Iterable[Route]) -> dict[str, Route]:
    return {route.key: route for route in routes}


def chosen(kind: ApprovalKind, facts: Mapping[str, Any]) -> Route:
    """The route a request takes: of those whose conditions all hold, the one that names most."""
    fitting = [
        route for route in in_force() if route.kind == kind and _fits(route.conditions, facts)
    ]
    return max(fitting, key=lambda route: (len(route.conditions), route.key))


def is_on(kind: ApprovalKind, facts: Mapping[str, Any]) -> bool:
    """Whether the act needs an approved request."""
    return kind.is_always_asked or chosen(kind, facts).is_on


def _fits(conditions: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    for name, wanted in conditions.items():
        match name:
            case "owners":
                holds = facts.get("owner") in wanted
            case "payment_types":
                holds = facts.get("payment_type") in wanted
            case "is_exclusive":
                holds = facts.get("is_exclusive") == wanted
            case _:  # rate_above; nothing else passes `_wrong_conditions`
                holds = facts.get("rate") is not None and facts["rate"] > wanted
        if not holds:
            return False
    return True


def adopt(request: ApprovalRequest, *, by: Account, at: datetime) -> ApprovalRoute:
    """Put an approved route in force. Called in the transaction of the last approval."""
    row = ApprovalRoute.objects.get(pk=request.subject_id)
    ApprovalRoute.objects.filter(pk=row.pk).update(adopted_at=at)
    row.adopted_at = at
    events.stage(
        EventTag.ROUTE_ADOPTED,
        subject=f"route:{row.key}",
        by=by,
        at=at,
        details={"version": row.version, "digest": request.digest, "request": str(request.pk)},
    )
    return row
