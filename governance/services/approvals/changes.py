"""Changing a route: proposed by one person, checked, and in force once others have approved it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, ApprovalRequest, ApprovalRoute
from governance.services.approvals import requests, routes, subjects
from governance.vocabulary import ApprovalKind, ApprovalRule, EventTag, PaymentType, Role

CONDITIONS = ("owners", "payment_types", "is_exclusive", "rate_above")
MOST_PEOPLE = 9


@transaction.atomic
def propose(
    key: str,
    *,
    kind: ApprovalKind,
    title: str,
    steps: Sequence[routes.Step],
    conditions: Mapping[str, Any] | None = None,
    rules: Sequence[str] = (),
    is_on: bool = True,
    by: Account,
    at: datetime,
) -> ApprovalRequest:
    """Propose the next version of a route; it is in force once others have approved it.

    Raises:
        InvalidTerms: with a message for every field that is wrong.
    """
    kind, conditions = ApprovalKind(kind), dict(conditions or {})
    wrong = {
        **_wrong_steps(steps),
        **_wrong_conditions(kind, conditions),
        **_wrong_switch(key, kind, rules, conditions, is_on=is_on),
    }
    if wrong:
        found = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise InvalidTerms(f"expected a route that holds together, found {found}", fields=wrong)
    newest = ApprovalRoute.objects.select_for_update().filter(key=key).first()
    row = ApprovalRoute.objects.create(
        key=key,
        version=newest.version + 1 if newest else 1,
        kind=kind,
        title=title,
        conditions=conditions,
        steps=[vars(step) for step in steps],
        rules=sorted(set(rules)),
        is_on=is_on,
        proposed_by=by,
        proposed_at=at,
    )
    request = requests.opened(subjects.route(row), by=by, at=at)
    events.stage(
        EventTag.ROUTE_PROPOSED,
        subject=f"route:{row.key}",
        by=by,
        at=at,
        details={"version": row.version, "digest": request.digest, "request": str(request.pk)},
    )
    return request


def _wrong_steps(steps: Sequence[routes.Step]) -> dict[str, str]:
    if not steps:
        return {"steps": "Name at least one step."}
    groups = set(Group.objects.values_list("name", flat=True))
    for number, step in enumerate(steps, 1):
        if not step.title.strip():
            return {"steps": f"Step {number} has no title."}
        if step.role and step.role not in set(Role) - {Role.OWNER}:
            return {"steps": f"Step {number} names the unknown staff role {step.role}."}
        if step.group and step.group not in groups:
            return {"steps": f"Step {number} names the unknown group {step.group}."}
        if not step.role and not step.group:
            return {"steps": f"Step {number} names neither a role nor a group."}
        if not 1 <= step.needed <= MOST_PEOPLE:
            return {"steps": f"Step {number} asks for {step.needed} people; 1 to {MOST_PEOPLE}."}
        if step.days is not None and step.days < 1:
            return {"steps": f"Step {number} has {step.days} days; at least 1, or none."}
    return {}


def _wrong_conditions(kind: ApprovalKind, conditions: Mapping[str, Any]) -> dict[str, str]:
    if unknown := sorted(set(conditions) - set(CONDITIONS)):
        return {"conditions": f"Unknown: {', '.join(unknown)}; known: {', '.join(CONDITIONS)}."}
    beyond_owner = set(conditions) - {"owners"}
    if kind not in (ApprovalKind.LICENCE, ApprovalKind.ACTIVATION, ApprovalKind.WAIVER):
        beyond_owner = set(conditions)
    if beyond_owner and kind != ApprovalKind.LICENCE:
        return {"conditions": f"A {kind.label.lower()} has no {', '.join(sorted(beyond_owner))}."}
    if unknown := sorted(set(conditions.get("payment_types", ())) - set(PaymentType)):
        return {"conditions": f"Unknown payment type: {', '.join(unknown)}."}
    return {}


def _wrong_switch(
    key: str,
    kind: ApprovalKind,
    rules: Sequence[str],
    conditions: Mapping[str, Any],
    *,
    is_on: bool,
) -> dict[str, str]:
    wrong = {}
    shipped = routes.by_key(routes.DEFAULTS.values()).get(key)
    known = shipped or ApprovalRoute.objects.filter(key=key).first()
    if known is not None and known.kind != kind:
        wrong["key"] = f"This key is a route for {ApprovalKind(known.kind).label.lower()}."
    if shipped is not None and conditions:
        wrong["conditions"] = "The route every request can fall back to has no conditions."
    if not is_on and kind.is_always_asked:
        wrong["is_on"] = f"{kind.label} is always approved by a second person."
    if unknown := sorted(set(rules) - set(ApprovalRule)):
        wrong["rules"] = f"Unknown rule: {', '.join(unknown)}."
    elif rules and kind != ApprovalKind.LICENCE:
        wrong["rules"] = "The rules there are look at licences alone."
    return wrong
