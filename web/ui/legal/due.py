"""What is due."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone

from governance.models import (
    Ending,
    FollowUp,
    Licence,
)
from governance.vocabulary import (
    FollowUpKind,
    FollowUpState,
    Role,
)
from web import access
from web.ui.legal.rows import ROWS_A_PAGE, listed

SOON = timedelta(days=90)


@access.staff_page(Role.LEGAL)
def due_page(request: HttpRequest) -> HttpResponse:
    """What runs out soon, what has failed, which gaps in policy wait for a person."""
    now = timezone.now()
    ending = Licence.objects.in_force(now).filter(ends_at__lte=now + SOON)
    gaps = FollowUp.objects.filter(kind=FollowUpKind.RESOLVE_GAP).exclude(state=FollowUpState.DONE)
    context = {
        "licences": listed(ending).order_by("ends_at"),
        "gaps": gaps,
        "failed": FollowUp.objects.filter(state=FollowUpState.FAILED)[:ROWS_A_PAGE],
        "endings": Ending.objects.select_related("licence", "expert", "ended_by")[:10],
    }
    return render(request, "legal/due.html", context)


urlpatterns = [
    path("due/", due_page, name="due"),
]
