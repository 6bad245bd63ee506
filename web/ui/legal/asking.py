"""Asking for what others approve: a key, a waiver; and issuing a key once it is approved."""

from __future__ import annotations

from datetime import datetime

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Consumer, ExpertRevision
from governance.services import approvals, consumers
from governance.services.approvals import subjects
from governance.vocabulary import ApprovalKind, ApprovalState, Role
from web import access, approving, stepup
from web.ui import forms
from web.ui.forms.approvals import KeyRequestForm, WaiverForm


@access.staff_page(Role.LEGAL)
def request_key(request: HttpRequest) -> HttpResponse:
    """Ask for a key; a colleague approves exactly this one."""
    form = KeyRequestForm(
        request.POST or None, initial={"consumer": request.GET.get("consumer", "")}
    )
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            found = approvals.ask(
                subjects.api_key(form.cleaned_data["consumer"], **form.terms()),
                by=access.staff(request, Role.LEGAL),
                at=timezone.now(),
                words=form.cleaned_data["words"],
            )
            messages.success(request, f"{found} is asked for. A colleague decides.")
            return redirect("legal:approval", found.pk)
    context = {
        "form": form,
        "title": "Ask for an API key",
        "lead": "A colleague approves exactly this key; then you issue it here.",
    }
    return render(request, "legal/approval_ask.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
@require_POST
@never_cache
@stepup.required
def issue_key(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Issue an approved key. Its secret is on the page this answers with and nowhere else."""
    found = approving.request_for(request, identity)
    if found.kind != ApprovalKind.API_KEY or found.state != ApprovalState.APPROVED:
        raise Http404
    consumer = Consumer.objects.get(pk=found.subject_id)
    terms = found.content
    ends = terms["expires_at"]
    try:
        issued = consumers.issue_key(
            consumer,
            label=terms["label"],
            purposes=terms["purposes"],
            scopes=terms["scopes"],
            expires_at=datetime.fromisoformat(ends) if ends else None,
            by=access.staff(request, Role.LEGAL),
            at=timezone.now(),
        )
    except GovernanceError as error:
        messages.error(request, error.message)
        return redirect("legal:approval", found.pk)
    context = {"consumer": consumer, "secret": issued.secret, "asked": found}
    return render(request, "legal/approval_key.html", context)


@access.staff_page(Role.LEGAL, Role.ENGINEER)
def request_waiver(request: HttpRequest, identity: str) -> HttpResponse:
    """Ask that a revision may serve although its audit did not pass."""
    rows = ExpertRevision.objects.select_related("expert__owner", "anchor")
    revision = rows.filter(pk=identity).first()
    if revision is None:
        raise Http404
    form = WaiverForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            found = approvals.ask(
                subjects.waiver(revision),
                by=access.staff(request, Role.LEGAL, Role.ENGINEER),
                at=timezone.now(),
                words=form.cleaned_data["words"],
            )
            messages.success(request, f"{found} is asked for. Two people of legal decide.")
            return redirect("legal:approval", found.pk)
    context = {
        "form": form,
        "title": f"Ask for a waiver: {revision.expert.title}, revision {revision.number}",
        "lead": "It is bound to these weights and these findings: another audit voids it. The "
        "rate each licence bounds stays binding.",
        "findings": revision.findings.order_by("-found_at"),
    }
    return render(request, "legal/approval_ask.html", context, status=forms.status_of(form))


urlpatterns = [
    path("approvals/ask/key/", request_key, name="key-request"),
    path("approvals/ask/waiver/<uuid:identity>/", request_waiver, name="waiver-request"),
    path("approvals/<uuid:identity>/issue/", issue_key, name="approval-issue"),
]
