"""The first page of legal staff: what awaits them, and the way to a first licence."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone

from governance.models import DataOwner, Invitation, Licence
from governance.selectors import approvals as board
from governance.selectors.due import due_board
from governance.vocabulary import LicenceState, Role
from web import access
from web.ui.legal import way

SHOWN = 8
_SOON = timedelta(days=30)


@access.staff_page(Role.LEGAL)
def home_page(request: HttpRequest) -> HttpResponse:
    """What waits for the person asking, for owners, and for a clock."""
    account, now = access.staff(request, Role.LEGAL), timezone.now()
    requests = board.board(account, at=now)
    in_force = Licence.objects.in_force(now)
    soon = [line for line in due_board(at=now) if line.deadline <= now + _SOON]
    to_sign = Licence.objects.filter(
        state=LicenceState.APPROVED, needs_countersignature=True, countersignature=None
    ).select_related("corpus__owner")
    invited = Invitation.objects.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)
    context: dict[str, Any] = {
        "mine": requests.mine[:SHOWN],
        "mine_count": len(requests.mine),
        "returned": [card for card in requests.returned if card.is_own],
        "own": [card for card in requests.others if card.is_own][:SHOWN],
        "to_sign": to_sign.order_by("decided_at")[:SHOWN],
        "invited": invited.select_related("owner").order_by("expires_at")[:SHOWN],
        "soon": soon[:SHOWN],
        "soon_count": len(soon),
        "owner_count": DataOwner.objects.count(),
        "in_force_count": in_force.count(),
        "ending_count": in_force.filter(ends_at__lte=now + timedelta(days=90)).count(),
    }
    if not context["in_force_count"]:
        context["first"] = DataOwner.objects.order_by("-registered_at").first()
        context["stages"] = way.of_owner(context["first"])
    return render(request, "legal/home.html", context)


urlpatterns = [path("", home_page, name="home")]
