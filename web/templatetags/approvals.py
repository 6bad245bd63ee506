"""What pages of other rooms show of approvals: the request about a row, words said to an owner."""

from __future__ import annotations

from collections.abc import Iterable

from django import template

from governance.models import ApprovalAct, ApprovalRequest, DataOwner
from governance.selectors import approvals as board

register = template.Library()


@register.simple_tag
def approval_of(subject_id: object) -> ApprovalRequest | None:
    """The newest request about a row."""
    return (
        ApprovalRequest.objects.select_related("requested_by")
        .filter(subject_id=str(subject_id))
        .order_by("-opened_at")
        .first()
    )


@register.simple_tag
def places_of(request: ApprovalRequest | None) -> list[board.Place]:
    """The steps of a request, each with who approved there."""
    return board.places(request) if request else []


@register.simple_tag
def said_to(*owners: DataOwner | Iterable[DataOwner]) -> Iterable[ApprovalAct]:
    """The newest twenty things staff said for these owners to read."""
    found: list[DataOwner] = []
    for one in owners:
        found += [one] if isinstance(one, DataOwner) else list(one)
    return board.said_to_owners(found)[:20]
