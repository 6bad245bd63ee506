"""Asking for what others approve: a key, a waiver, taking somebody on, a promotion, an export;
and issuing a key once it is approved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Consumer, ExpertRevision
from governance.services import approvals, consumers, exports
from governance.services.approvals import Subject, subjects
from governance.services.limits import KeyLimits
from governance.vocabulary import ApprovalKind, ApprovalState, Role
from web import access, approving, stepup
from web.ui import forms
from web.ui.forms.approvals import ExportRequestForm, KeyRequestForm, WaiverForm, WhyForm


@access.staff_page(Role.LEGAL)
def request_key(request: HttpRequest) -> HttpResponse:
    """Ask for a key; a colleague approves exactly this one."""
    form = KeyRequestForm(
        request.POST or None, initial={"consumer": request.GET.get("consumer", "")}
    )
    return _asking(
        request,
        form,
        lambda given: subjects.api_key(given["consumer"], **form.terms()),
        title="Ask for an API key",
        lead="A colleague approves exactly this key; then you issue it here.",
    )


@access.staff_page(Role.LEGAL)
def request_prospect(request: HttpRequest, kind: str, slug: str) -> HttpResponse:
    """Ask that an owner or a consumer be taken on as it is registered now."""
    subject = approving.prospect(kind, slug)
    return _asking(
        request,
        WhyForm(request.POST if request.method == "POST" else None),
        lambda _: subject,
        title=f"Ask for approval: {subject.title}",
        lead="Bound to what is registered now: a changed fact voids the request. It is active from "
        "the last signature on.",
    )


@access.staff_page(Role.LEGAL, Role.ENGINEER)
def request_promotion(request: HttpRequest, number: int) -> HttpResponse:
    """Ask that an assembled build be served."""
    subject = approving.promotion(number)
    return _asking(
        request,
        WhyForm(request.POST if request.method == "POST" else None),
        lambda _: subject,
        roles=(Role.LEGAL, Role.ENGINEER),
        title=f"Ask for promotion of build {number}",
        lead="A colleague approves exactly these files and proofs; the build is served as soon "
        "as every runner holds it.",
    )


@access.staff_page(Role.LEGAL, Role.ENGINEER)
def request_export(request: HttpRequest, number: int) -> HttpResponse:
    """Ask that a build's files may go to somebody outside."""
    build = approving.exported(number)
    return _asking(
        request,
        ExportRequestForm(request.POST or None),
        lambda given: subjects.export(build, exports.check_recipient(given["recipient"])),
        roles=(Role.LEGAL, Role.ENGINEER),
        title=f"Ask for an export of build {number}",
        lead="A colleague approves these files for this recipient, once; then an engineer hands "
        "them out.",
    )


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
            limits=KeyLimits.of(terms),
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
    return _asking(
        request,
        WaiverForm(request.POST or None),
        lambda _: subjects.waiver(revision),
        roles=(Role.LEGAL, Role.ENGINEER),
        title=f"Ask for a waiver: {revision.expert.title}, revision {revision.number}",
        lead="It is bound to these weights and these findings: another audit voids it. The "
        "rate each licence bounds stays binding.",
        findings=revision.findings.order_by("-found_at"),
    )


def _asking(
    request: HttpRequest,
    form: Form,
    subject_of: Callable[[Mapping[str, Any]], Subject],
    *,
    roles: tuple[Role, ...] = (Role.LEGAL,),
    **shown: Any,
) -> HttpResponse:
    """The page with the form; sent, what it says is asked for."""
    if request.method == "POST" and form.is_valid():
        with forms.refusals_shown(form):
            found = approvals.ask(
                subject_of(form.cleaned_data),
                by=access.staff(request, *roles),
                at=timezone.now(),
                words=form.cleaned_data["words"],
            )
            messages.success(request, f"{found} is asked for. Others decide.")
            return redirect("legal:approval", found.pk)
    context = {"form": form, **shown}
    return render(request, "legal/approval_ask.html", context, status=forms.status_of(form))


urlpatterns = [
    path("approvals/ask/key/", request_key, name="key-request"),
    path("approvals/ask/waiver/<uuid:identity>/", request_waiver, name="waiver-request"),
    *(
        path(
            f"approvals/ask/{kind}/<slug:slug>/",
            request_prospect,
            {"kind": kind},
            name=f"{kind}-request",
        )
        for kind in ("owner", "consumer")
    ),
    path("approvals/ask/promotion/<int:number>/", request_promotion, name="promotion-request"),
    path("approvals/ask/export/<int:number>/", request_export, name="export-request"),
    path("approvals/<uuid:identity>/issue/", issue_key, name="approval-issue"),
]
