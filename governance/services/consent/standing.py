"""Which consents stand, and who may give or take one back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery

from governance.errors import NotPermitted
from governance.models import Account, ConsentEvent, ConsentRecord, Expert, Membership
from governance.services.owners import may_bind
from governance.vocabulary import ConsentEventKind, Role

PERMITTING = tuple(kind for kind in ConsentEventKind if kind.permits_use)
UNANSWERED = (ConsentEventKind.REQUESTED, ConsentEventKind.DEFERRED, ConsentEventKind.REFUSED)
"""States in which an owner may still say yes to the same licence."""


def with_state(records: QuerySet[ConsentRecord]) -> QuerySet[Any]:
    """Each record with `stands_as` (its newest event's kind) and `stands_until`.

    The rows are consent records; the type checker knows no columns that a query adds.
    """
    newest = ConsentEvent.objects.filter(record=OuterRef("pk")).order_by("-at", "-id")
    return records.annotate(
        stands_as=Subquery(newest.values("kind")[:1]),
        stands_until=Subquery(newest.values("valid_until")[:1]),
    )


def standing(expert: Expert, *, at: datetime | None = None) -> QuerySet[ConsentRecord]:
    """Records whose newest event permits use (only given and renewed do).

    With `at`, only those whose validity lasts beyond that instant.
    """
    found = with_state(ConsentRecord.objects.filter(expert=expert)).filter(stands_as__in=PERMITTING)
    if at is not None:
        found = found.filter(Q(stands_until=None) | Q(stands_until__gt=at))
    return found


def check_speaks_for(expert: Expert, by: Account | None) -> None:
    """Owners act for themselves; legal staff may carry out what a letter says. None is us.

    Raises:
        NotPermitted: the person speaks neither for the owner nor as legal staff.
    """
    if by is None:
        return
    speaks = Membership.objects.filter(account=by, role=Role.OWNER, owner=expert.owner_id)
    if not (speaks | Membership.objects.filter(account=by, role=Role.LEGAL)).exists():
        raise NotPermitted(
            f"expected somebody who speaks for {expert.owner}, or legal staff, found {by}. Ask "
            "the owner."
        )


def check_may_consent(expert: Expert, by: Account) -> None:
    """Any member may take back; giving binds the owner, so it takes who may sign for it.

    Raises:
        NotPermitted: the person does not speak for the owner, or only looks on.
    """
    check_speaks_for(expert, by)
    is_legal = Membership.objects.filter(account=by, role=Role.LEGAL).exists()
    if not is_legal and not may_bind(by, expert.owner):
        raise NotPermitted(
            f"expected an administrator or signatory of {expert.owner}, found {by}, who may look "
            "on and withdraw. Ask one of them."
        )
