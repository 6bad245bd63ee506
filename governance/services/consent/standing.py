"""Which consents stand, and who may give or take one back."""

from __future__ import annotations

from django.db.models import OuterRef, QuerySet, Subquery

from governance.errors import NotPermitted
from governance.models import Account, ConsentEvent, ConsentRecord, Expert, Membership
from governance.vocabulary import ConsentEventKind, Role

_PERMITTING = (ConsentEventKind.GIVEN, ConsentEventKind.RENEWED)


def standing(expert: Expert) -> QuerySet[ConsentRecord]:
    """Records whose newest event permits use (only given and renewed do)."""
    newest = ConsentEvent.objects.filter(record=OuterRef("pk")).order_by("-at", "-id")
    return (
        ConsentRecord.objects.filter(expert=expert)
        .annotate(stands_as=Subquery(newest.values("kind")[:1]))
        .filter(stands_as__in=_PERMITTING)
    )


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
