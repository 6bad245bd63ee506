"""Pages of a data owner: what its experts did and earned, one Withdraw button, the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance import selectors
from governance.errors import GovernanceError, NotFound
from governance.models import ConsentEvent, Expert, Licence, Notice, Withdrawal
from governance.selectors import approvals as approval_board
from governance.services import certificates, consent, holds, licences
from governance.vocabulary import (
    CertificateStage,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    Instrument,
    NoticeKind,
)
from web import access
from web.ui import money, owner_consents, owner_licences
from web.ui.forms.effects import ScopeForm

app_name = "owner"


@access.owner_page
def experts_page(request: HttpRequest) -> HttpResponse:
    """Each of the owner's experts with state, use and money so far."""
    owners = access.owners_of(request)
    rows = selectors.owner_experts(owners, at=timezone.now())
    to_sign = owner_licences.to_countersign(request)
    context = {"rows": rows, "owners": owners, "to_sign": to_sign}
    return render(request, "owner/experts.html", context)


@access.owner_page
def expert_page(request: HttpRequest, name: str) -> HttpResponse:
    """One expert: use, money, licences, consent, and the way out."""
    expert = access.expert_for(request, name)
    now = timezone.now()
    in_force = Licence.objects.in_force(now).filter(corpus=expert.corpus_id)
    asked = consent.with_state(expert.consents.all()).filter(stands_as__in=consent.UNANSWERED)
    answered = expert.consents.exclude(pk__in=asked.values("pk"))
    consented = set(answered.values_list("licence_id", flat=True))
    events = ConsentEvent.objects.filter(record__expert=expert).select_related("actor")
    context = {
        "expert": expert,
        "figures": selectors.expert_figures(expert, at=now),
        "licences": [(licence, licences.plain_words(licence)) for licence in in_force],
        "waiting": [licence for licence in in_force if licence.pk not in consented],
        "events": events.order_by("-at"),
        "withdrawal": Withdrawal.objects.filter(expert=expert).first(),
        "may_withdraw": expert.state not in (ExpertState.WITHDRAWN, ExpertState.ERASED),
        "consumers": selectors.consumers_of(expert, at=now),
        **_way_out(expert),
    }
    return render(request, "owner/expert.html", context)


def _way_out(expert: Expert) -> dict[str, Any]:
    """What the section on leaving shows: how far it may reach, what is paused, notice given."""
    standing = expert.endings.filter(lifts=None, lifted_by=None).select_related("ended_by")
    return {
        "scope_form": ScopeForm(),
        "pauses": list(standing.filter(instrument=Instrument.SUSPEND)),
        "notice": standing.filter(instrument=Instrument.TERMINATE).first(),
    }


@access.owner_page
@require_POST
def give_consent(request: HttpRequest, name: str, reference: str) -> HttpResponseBase:
    """Consent under an approved licence."""
    expert = access.expert_for(request, name)
    licence = Licence.objects.filter(corpus=expert.corpus_id, reference=reference).first()
    if licence is None:
        raise Http404
    by = access.person(request).account
    try:
        consent.give(expert, licence=licence, by=by, at=timezone.now(), method="owner page")
        messages.success(request, f"Consent under {licence} is recorded.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("owner:expert", name)


@access.owner_page
@require_POST
def withdraw(request: HttpRequest, name: str) -> HttpResponseBase:
    """The one click: everything, unless a part was ticked. What follows cannot be lost."""
    expert = access.expert_for(request, name)
    form = ScopeForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Nothing was changed: that purpose or consumer is not in the list.")
        return redirect("owner:expert", name)
    done = consent.withdraw(
        expert,
        by=access.person(request).account,
        at=timezone.now(),
        reason=request.POST.get("reason", ""),
        method="owner page",
        scope=form.scope(),
    )
    if isinstance(done, Withdrawal):
        return redirect("owner:withdrawal", done.pk)
    messages.success(request, f"Disabled, not erased: {form.scope().words}. The rest goes on.")
    return redirect("owner:expert", name)


@dataclass(frozen=True)
class Step:
    """A stage of a withdrawal as the page shows it; `state` is done, now, next or failed."""

    title: str
    state: str
    words: str
    at: datetime | None = None


@access.owner_page
def withdrawal_page(request: HttpRequest, identity: str) -> HttpResponse:
    """How far a withdrawal is: live until the last certificate. htmx asks for the state alone."""
    withdrawal = access.withdrawal_for(request, identity, or_staff=())
    progress = selectors.withdrawal_progress(withdrawal)
    issued = {certificate.stage: certificate for certificate in withdrawal.certificates.all()}
    is_complete = all(stage in issued for stage in progress.stages)
    context = {
        "withdrawal": withdrawal,
        "progress": progress,
        "steps": _steps(withdrawal, progress, is_complete=is_complete),
        "certificates": [(stage, issued.get(stage)) for stage in progress.stages],
        "has_any": bool(issued),
        "is_complete": is_complete,
        "hold": holds.standing(withdrawal.expert, at=timezone.now()),
        "told": _told(withdrawal.expert),
    }
    is_part = bool(getattr(request, "htmx", False))
    template = "owner/_withdrawal.html" if is_part else "owner/withdrawal.html"
    return render(request, template, context)


def _told(expert: Expert) -> QuerySet[Notice]:
    """Consumers that were told of the withdrawal, with what they said to it."""
    told = Notice.objects.filter(
        kind=NoticeKind.EXPERT_WITHDRAWN, subject=f"expert:{expert.name}", consumer__isnull=False
    ).exclude(key__startswith="chase:")
    return told.select_related("consumer").order_by("consumer__name")


def _steps(
    withdrawal: Withdrawal, progress: selectors.WithdrawalProgress, *, is_complete: bool
) -> list[Step]:
    """The stages in their order. The first that is not done is being worked on now."""
    told = [
        ("Withdrawn", True, "", "", withdrawal.committed_at, None),
        ("Blocked", withdrawal.quiesced_at is not None, "No runner releases a token made with it",
         "Waiting for every runner", withdrawal.quiesced_at, FollowUpKind.QUIESCE),
    ]  # fmt: skip
    if CertificateStage.REBUILT in progress.stages:
        build = progress.rebuilt
        done = f"Build {build.number} serves without it" if build else ""
        told.append(
            ("Rebuilt", build is not None, done, "A build without it is assembled and proved",
             build.promoted_at if build else None, FollowUpKind.REBUILD)
        )  # fmt: skip
    told += [
        ("Erased", withdrawal.erased_at is not None, "Its bytes are destroyed",
         "Its bytes are destroyed next", withdrawal.erased_at, FollowUpKind.ERASE),
        ("Certified", is_complete, "Every stage is signed", "Each stage gets a signed statement",
         None, FollowUpKind.CERTIFY),
    ]  # fmt: skip
    failed = {row.kind for row in progress.follow_ups if row.state == FollowUpState.FAILED}
    steps, is_reached = [], True
    for title, is_done, done, waiting, at, kind in told:
        state = "done" if is_done else "failed" if kind in failed else "next"
        if state == "next" and is_reached:
            state = "now"
        said = "We could not finish this by ourselves; our staff has been told"
        words = {"done": done, "failed": said}.get(state, waiting)
        steps.append(Step(title, state, words, at if is_done else None))
        is_reached = is_reached and is_done
    return steps


@access.owner_page
def certificate(request: HttpRequest, identity: str) -> HttpResponse:
    """The certificate as a ZIP that anyone can check without us."""
    withdrawal = access.withdrawal_for(request, identity, or_staff=())
    try:
        bundle = certificates.bundle(withdrawal)
    except NotFound as refusal:
        raise Http404 from refusal
    response = HttpResponse(bundle, content_type="application/zip")
    name = f"withdrawal-{withdrawal.expert.name}.zip"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@access.owner_page
def certificates_page(request: HttpRequest) -> HttpResponse:
    """Every withdrawal of the owner, with its certificates."""
    rows = (
        Withdrawal.objects.filter(expert__owner__in=access.owners_of(request))
        .select_related("expert")
        .prefetch_related("certificates")
    )
    return render(request, "owner/certificates.html", {"withdrawals": rows})


@access.owner_page
def said_file(request: HttpRequest, identity: str) -> HttpResponse:
    """A file that staff put beside one of the owner's requests for it to read."""
    act = approval_board.said_to_owners(access.owners_of(request)).filter(pk=identity).first()
    if act is None or act.document is None:
        raise Http404
    response = HttpResponse(bytes(act.document.content), content_type=act.document.media_type)
    response["Content-Disposition"] = f'attachment; filename="{act.document.digest[:12]}"'
    return response


urlpatterns = [
    *owner_consents.urlpatterns,
    path("said/<uuid:identity>/", said_file, name="said-file"),
    path("", experts_page, name="experts"),
    path("experts/<slug:name>/", expert_page, name="expert"),
    path("experts/<slug:name>/consent/<slug:reference>/", give_consent, name="consent"),
    path("experts/<slug:name>/withdraw/", withdraw, name="withdraw"),
    path("withdrawals/", certificates_page, name="certificates"),
    path("withdrawals/<uuid:identity>/", withdrawal_page, name="withdrawal"),
    path("withdrawals/<uuid:identity>/certificate.zip", certificate, name="certificate"),
    *money.urlpatterns,
    *owner_licences.urlpatterns,
]
