"""How requests go: routes and their changes, groups, and who stands in for whom."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import Group
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.models import ApprovalDelegation, ApprovalRoute
from governance.services import approvals
from governance.vocabulary import ApprovalKind, Role
from web import access, stepup
from web.ui import forms
from web.ui.forms.approvals import (
    KINDS_OFFERED,
    STEPS_OFFERED,
    AbsenceForm,
    GroupForm,
    RouteForm,
    StepFormSet,
)


@access.staff_page(Role.LEGAL)
def routes_page(request: HttpRequest) -> HttpResponse:
    """Every route in force, what is proposed, and the groups steps may ask for."""
    return _routes_page(request, GroupForm())


def _routes_page(request: HttpRequest, form: GroupForm) -> HttpResponse:
    context = {
        "routes": [route for route in approvals.in_force() if route.kind in KINDS_OFFERED],
        "proposed": ApprovalRoute.objects.filter(adopted_at=None).select_related("proposed_by"),
        "groups": Group.objects.prefetch_related("user_set").order_by("name"),
        "form": form,
    }
    return render(request, "legal/approval_routes.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
@require_POST
@stepup.required
def set_group(request: HttpRequest) -> HttpResponseBase:
    """Say who is in a group."""
    by = access.staff(request, Role.LEGAL)
    form = GroupForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            group = approvals.set_group(**form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"The group {group.name} is as you said.")
            return redirect("legal:routes")
    return _routes_page(request, form)


@access.staff_page(Role.LEGAL)
@stepup.required
def route_page(request: HttpRequest, key: str = "") -> HttpResponse:
    """Propose the next version of a route, or a new one; colleagues approve it."""
    known = next((route for route in approvals.in_force() if route.key == key), None)
    if key and known is None:
        raise Http404
    is_sent = request.method == "POST"
    form = RouteForm(request.POST if is_sent else None, initial=_filled(known))
    rows: Any = StepFormSet(request.POST if is_sent else None, initial=_filled_steps(known))
    if is_sent and form.is_valid() and rows.is_valid():
        with forms.refusals_shown(form):
            asked = approvals.propose(
                form.cleaned_data["key"],
                kind=ApprovalKind(form.cleaned_data["kind"]),
                title=form.cleaned_data["title"],
                steps=[step for row in rows if (step := row.step()) is not None],
                conditions=form.conditions(),
                rules=form.cleaned_data["rules"],
                is_on=form.cleaned_data["is_on"],
                by=access.staff(request, Role.LEGAL),
                at=timezone.now(),
            )
            messages.success(request, "Proposed. It is in force once a colleague has approved it.")
            return redirect("legal:approval", asked.pk)
    context = {"form": form, "rows": rows, "route": known}
    return render(request, "legal/approval_route.html", context, status=forms.status_of(form))


def _filled(route: approvals.Route | None) -> dict[str, Any]:
    if route is None:
        return {}
    named = route.conditions
    exclusive = {True: "yes", False: "no"}.get(named.get("is_exclusive"), "")  # type: ignore[arg-type]
    return {
        "key": route.key,
        "kind": route.kind.value,
        "title": route.title,
        "owners": " ".join(named.get("owners", ())),
        "payment_types": named.get("payment_types", ()),
        "is_exclusive": exclusive,
        "rate_above": named.get("rate_above"),
        "rules": route.rules,
        "is_on": route.is_on,
    }


def _filled_steps(route: approvals.Route | None) -> list[dict[str, Any]]:
    filled = [vars(step) for step in route.steps] if route else []
    return [*filled, *({} for _ in range(STEPS_OFFERED - len(filled)))]


@access.staff_page(Role.LEGAL, Role.ENGINEER)
def absence_page(request: HttpRequest) -> HttpResponse:
    """Who stands in for me, for whom I do, and the form for an absence to come."""
    account, now = access.staff(request, Role.LEGAL, Role.ENGINEER), timezone.now()
    form = AbsenceForm(request.POST or None, initial={"starts_on": now.date()})
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            row = approvals.record_absence(giver=account, **form.told(), by=account, at=now)
            messages.success(request, f"{row.taker} stands in for you in that time.")
            return redirect("legal:absence")
    to_come = ApprovalDelegation.objects.filter(ends_at__gt=now, revoked_at=None)
    context = {
        "form": form,
        "given": to_come.filter(giver=account).select_related("taker"),
        "taken": to_come.filter(taker=account).select_related("giver"),
    }
    return render(request, "legal/approval_absence.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL, Role.ENGINEER)
@require_POST
def end_absence(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Take my right back."""
    account = access.staff(request, Role.LEGAL, Role.ENGINEER)
    row = ApprovalDelegation.objects.filter(pk=identity, giver=account).first()
    if row is None:
        raise Http404
    approvals.end_absence(row, by=account, at=timezone.now())
    messages.success(request, "You decide for yourself again.")
    return redirect("legal:absence")


urlpatterns = [
    path("approvals/routes/", routes_page, name="routes"),
    path("approvals/routes/new/", route_page, name="route-new"),
    path("approvals/routes/<slug:key>/", route_page, name="route"),
    path("approvals/groups/", set_group, name="group"),
    path("approvals/absence/", absence_page, name="absence"),
    path("approvals/absence/<uuid:identity>/end/", end_absence, name="absence-end"),
]
