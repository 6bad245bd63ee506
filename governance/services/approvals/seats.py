"""Who may act on a step: by role, by group, or in the place of an absent colleague."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Q, QuerySet

from governance.errors import FourEyes, InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    ApprovalAct,
    ApprovalDelegation,
    ApprovalRequest,
    ApprovalStep,
    Membership,
)
from governance.vocabulary import ApprovalKind, ApprovalVerb, EventTag, Role


@dataclass(frozen=True)
class Rights:
    """What an account holds by itself: staff roles and groups. A superuser holds no more."""

    account_id: int
    roles: frozenset[str]
    groups: frozenset[str]

    def fits(self, step: ApprovalStep) -> bool:
        """Whether the step asks for somebody like this; both role and group where it names both."""
        return (not step.role or step.role in self.roles) and (
            not step.group or step.group in self.groups
        )


def rights_of(account: Account) -> Rights:
    """The roles and groups an account holds."""
    roles = Membership.objects.filter(account=account).values_list("role", flat=True)
    groups = account.groups.values_list("name", flat=True)
    return Rights(account.pk, frozenset(roles), frozenset(groups))


def givers(account: Account, kind: str, at: datetime) -> list[Account]:
    """Those in whose place the account may act on requests of a kind at `at`."""
    rows = standing_delegations(at).filter(taker=account).select_related("giver")
    return [row.giver for row in rows if row.kinds is None or kind in row.kinds]


def standing_delegations(at: datetime) -> QuerySet[ApprovalDelegation]:
    """Delegations that hold at `at`."""
    return ApprovalDelegation.objects.filter(starts_at__lte=at, ends_at__gt=at).filter(
        Q(revoked_at=None) | Q(revoked_at__gt=at)
    )


def requesters(request: ApprovalRequest) -> set[int]:
    """Everybody who ever put this request up, in any round."""
    submitted = request.acts.filter(verb=ApprovalVerb.SUBMIT).values_list("actor_id", flat=True)
    return {request.requested_by_id, *(actor for actor in submitted if actor is not None)}


def counted(request: ApprovalRequest) -> set[int]:
    """Everybody whose approval, given or lent, counts in this round already."""
    rows = request.acts.filter(verb=ApprovalVerb.APPROVE, round=request.round)
    pairs = rows.values_list("actor_id", "on_behalf_of_id")
    return {person for pair in pairs for person in pair if person is not None}


def check_eyes(request: ApprovalRequest, people: Iterable[Account], *, approves: bool) -> None:
    """Four eyes, and one person once over all steps. The database holds the same.

    Raises:
        FourEyes: one of `people` asked for it, or has approved it before.
    """
    asked = requesters(request)
    before = counted(request) if approves else set()
    for person in people:
        if person.pk in asked:
            raise FourEyes(
                f"expected a second person to decide on {request.title}, found its requester "
                f"{person}. Ask a colleague."
            )
        if person.pk in before:
            raise FourEyes(
                f"expected somebody who has not approved {request.title} yet, found {person}. "
                "One person counts once over all steps; ask a colleague."
            )


def seat(
    request: ApprovalRequest, step: ApprovalStep, account: Account, at: datetime
) -> Account | None:
    """In whose place the account acts on the step; None where by its own right.

    Raises:
        NotPermitted: neither the account nor anybody it stands for is whom the step asks for.
    """
    if account.is_bot:
        if account.email.partition("@")[0].replace("-", "_") in request.rules:
            return None
    elif rights_of(account).fits(step):
        return None
    else:
        for giver in [*givers(account, request.kind, at), *_handed_over(request, account)]:
            if rights_of(giver).fits(step) and giver.pk not in counted(request):
                return giver
    raise NotPermitted(
        f"expected {whom(step)} for “{step.title}”, found {account}. Ask one of them, or have "
        "one of them hand it to you."
    )


def _handed_over(request: ApprovalRequest, account: Account) -> list[Account]:
    rows = ApprovalAct.objects.filter(
        request=request, verb=ApprovalVerb.DELEGATE, delegate=account, round=request.round
    ).select_related("actor")
    return [row.actor for row in rows if row.actor is not None]


def whom(step: ApprovalStep) -> str:
    """Whom a step asks for, in words."""
    named = [
        *([Role(step.role).label.lower() + " staff"] if step.role else []),
        *([f"the group {step.group}"] if step.group else []),
    ]
    return " in ".join(named) or "a second person"


@transaction.atomic
def record_absence(
    *,
    giver: Account,
    taker: Account,
    starts_at: datetime,
    ends_at: datetime,
    kinds: Iterable[ApprovalKind] | None = None,
    reason: str = "",
    by: Account,
    at: datetime,
) -> ApprovalDelegation:
    """Let a colleague decide in somebody's place between two instants.

    Only the absent person hands their right on; who asked for something still cannot decide it.

    Raises:
        NotPermitted: somebody else hands it on.
        InvalidTerms: with a message for every field that is wrong.
    """
    if by.pk != giver.pk:
        raise NotPermitted(f"expected {giver} to hand on their own right, found {by}.")
    wrong = {}
    if taker.pk == giver.pk:
        wrong["taker"] = "Somebody else."
    elif not is_staff(taker):
        wrong["taker"] = "A colleague on our staff."
    if ends_at <= max(starts_at, at):
        wrong["ends_at"] = "After it begins, and not past."
    if wrong:
        found = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise InvalidTerms(
            f"expected a colleague and a period to come, found {found}", fields=wrong
        )
    handed: Any = None if kinds is None else sorted(str(kind) for kind in kinds)
    row = ApprovalDelegation.objects.create(
        giver=giver,
        taker=taker,
        kinds=handed,
        starts_at=starts_at,
        ends_at=ends_at,
        reason=reason[:200],
        recorded_at=at,
    )
    events.stage(
        EventTag.ABSENCE_RECORDED,
        subject=f"account:{giver.pk}",
        by=by,
        at=at,
        details={
            "taker": taker.pk,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "kinds": row.kinds,
        },
    )
    return row


@transaction.atomic
def end_absence(row: ApprovalDelegation, *, by: Account, at: datetime) -> ApprovalDelegation:
    """Take one's right back at once. Repeating it changes nothing.

    Raises:
        NotPermitted: it is somebody else's.
    """
    found = ApprovalDelegation.objects.select_for_update().get(pk=row.pk)
    if found.giver_id != by.pk:
        raise NotPermitted(f"expected {found.giver} to take their right back, found {by}.")
    if found.revoked_at is not None:
        return found
    found.revoked_at = at
    found.save(update_fields=["revoked_at"])
    events.stage(
        EventTag.ABSENCE_ENDED,
        subject=f"account:{found.giver_id}",
        by=by,
        at=at,
        details={"taker": found.taker_id},
    )
    return found


@transaction.atomic
def set_group(name: str, *, members: Iterable[Account], by: Account, at: datetime) -> Group:
    """Say who is in a group that steps may ask for.

    Raises:
        InvalidTerms: no name, or somebody who is not on our staff.
    """
    people = list(members)
    if not name.strip() or not all(is_staff(person) for person in people):
        raise InvalidTerms(
            "expected a name and members of our staff, found something else.",
            fields={"members": "Only active staff can be in a group."},
        )
    group, _ = Group.objects.get_or_create(name=name.strip()[:64])
    before = set(group.user_set.values_list("pk", flat=True))
    wanted = {person.pk for person in people}
    if before == wanted:
        return group
    if by.pk in wanted - before:
        raise UnlawfulMove(
            f"expected a colleague to add {by} to {name}, found {by} adding themselves."
        )
    group.user_set.set(people)
    events.stage(
        EventTag.GROUP_CHANGED,
        subject=f"group:{group.name}",
        by=by,
        at=at,
        details={"added": sorted(wanted - before), "removed": sorted(before - wanted)},
    )
    return group


def is_staff(account: Account) -> bool:
    """Whether the account is a person on our staff."""
    return (
        account.is_active
        and not account.is_bot
        and Membership.objects.filter(account=account).exclude(role=Role.OWNER).exists()
    )
