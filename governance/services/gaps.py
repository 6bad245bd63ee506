"""Gaps in policy that a person has seen to."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, FollowUp, Membership
from governance.vocabulary import EventTag, FollowUpKind, FollowUpState, Role


@transaction.atomic
def resolve(gap: FollowUp, *, by: Account, at: datetime, note: str) -> FollowUp:
    """Note how a gap was seen to. Where it is not mended, the next policy epoch finds it again.

    Raises:
        NotPermitted: the person is not legal staff.
        UnlawfulMove: it is no gap, or was resolved already.
        InvalidTerms: nothing is said.
    """
    if not Membership.objects.filter(account=by, role=Role.LEGAL).exists():
        raise NotPermitted(f"expected legal staff, found {by}. Ask one of them.")
    found = FollowUp.objects.select_for_update(of=("self",)).get(pk=gap.pk)
    is_open = found.state in (FollowUpState.DUE, FollowUpState.CLAIMED)
    if found.kind != FollowUpKind.RESOLVE_GAP or not is_open:
        raise UnlawfulMove(f"expected a gap that is open, found {found} {found.state}.")
    if not note.strip():
        raise InvalidTerms(
            "expected how the gap was seen to, found nothing. Say what was corrected.",
            fields={"note": "Say what was corrected."},
        )
    found.state, found.ended_at = FollowUpState.DONE, at
    found.evidence = {"note": note.strip(), "by": f"account:{by.pk}"}
    found.save(update_fields=["state", "ended_at", "evidence"])
    events.stage(
        EventTag.GAP_RESOLVED,
        subject=f"{found.subject_kind}:{found.order.get('expert', found.subject_id)}",
        by=by,
        at=at,
        details={"gap": found.pk, "note": note.strip(), **found.order},
    )
    return found
