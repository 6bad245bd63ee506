"""What is due: every clock that runs, what may be paused, what a person can see to from here."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Ending, FollowUp
from governance.selectors.due import DueLine, due_board
from governance.services import clocks, gaps
from governance.vocabulary import Clock, Role
from web import access
from web.ui.legal.rows import ROWS_A_PAGE


@access.staff_page(Role.LEGAL)
def due_page(request: HttpRequest) -> HttpResponse:
    """Everything with a clock, soonest first; one kind of it with ?clock=."""
    lines = due_board(at=timezone.now())
    counts = Counter(line.clock for line in lines)
    wanted = request.GET.get("clock", "")
    shown = [line for line in lines if not wanted or line.clock == wanted]
    page = Paginator(shown, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": [(line, _page_about(line)) for line in page],
        "clock": wanted,
        "kinds": [(one, counts[one]) for one in Clock if counts[one]],
        "whole": len(lines),
        "endings": Ending.objects.select_related("licence", "expert", "ended_by")[:10],
    }
    return render(request, "legal/due.html", context)


def _page_about(line: DueLine) -> str:
    """Where one sees to a line; empty where it is here."""
    kind, _, name = line.subject.partition(":")
    if kind == "licence":
        return reverse("legal:licence", args=[name])
    return reverse("legal:expert", args=[name]) if kind == "expert" else ""


@access.staff_page(Role.LEGAL)
@require_POST
def act_on_clock(request: HttpRequest, clock: str, identity: UUID, verb: str) -> HttpResponseBase:
    """Pause a clock with its reason, or let it run again."""
    if clock not in set(Clock) or verb not in ("pause", "resume"):
        raise Http404
    by, reason = access.staff(request, Role.LEGAL), request.POST.get("reason", "")
    act = clocks.pause if verb == "pause" else clocks.resume
    try:
        act(Clock(clock), identity, by=by, at=timezone.now(), reason=reason)
        said = "stands still, with your reason" if verb == "pause" else "runs again"
        messages.success(request, f"The clock {said}.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:due")


@access.staff_page(Role.LEGAL)
@require_POST
def resolve_gap(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Note how a gap was seen to."""
    by = access.staff(request, Role.LEGAL)
    gap = FollowUp.objects.filter(pk=identity).first()
    if gap is None:
        raise Http404
    try:
        gaps.resolve(gap, by=by, at=timezone.now(), note=request.POST.get("note", ""))
        messages.success(request, "Noted. If policy still cannot read it, the gap comes back.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:due")


urlpatterns = [
    path("due/", due_page, name="due"),
    path("due/gaps/<uuid:identity>/", resolve_gap, name="gap-resolve"),
    path("due/<slug:clock>/<uuid:identity>/<slug:verb>/", act_on_clock, name="clock"),
]
