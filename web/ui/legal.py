"""Pages of legal staff: owners, licences, approvals, what is due, the log."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, Prefetch, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.log import sequencer
from governance.log.verify import verify
from governance.models import (
    Account,
    DataOwner,
    Ending,
    Expert,
    ExpertRevision,
    FollowUp,
    Licence,
    LogCheckpoint,
    LogLeaf,
)
from governance.services import corpora, experts, licences, owners
from governance.vocabulary import (
    FollowUpKind,
    FollowUpState,
    Instrument,
    LicenceState,
    RevisionState,
    Role,
)
from web import access
from web.ui import consumers, forms

app_name = "legal"
ROWS_A_PAGE = 25
SOON = timedelta(days=90)


@access.staff_page(Role.LEGAL)
def owners_page(request: HttpRequest) -> HttpResponse:
    """Every data owner, and the form that takes on another."""
    form = forms.OwnerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            owner = owners.register(**form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"{owner} is registered.")
            return redirect("legal:owner", owner.slug)
    rows = DataOwner.objects.annotate(
        expert_count=Count("experts", distinct=True),
        licence_count=Count("corpora__licences", distinct=True),
    )
    wanted = request.GET.get("find", "").strip()
    if wanted:
        rows = rows.filter(Q(legal_name__icontains=wanted) | Q(slug__icontains=wanted))
    page = Paginator(rows.order_by("legal_name"), ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "form": form, "wanted": wanted}
    return render(request, "legal/owners.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
def owner_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One owner: its corpora, experts, licences and members."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.CorpusForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            corpus = corpora.describe(owner, **form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"{corpus} is described. Request its licence next.")
            return redirect("legal:owner", slug)
    return _owner_page(request, owner, form, forms.MemberForm(auto_id="member-%s"))


@access.staff_page(Role.LEGAL)
@require_POST
def add_member(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Let a person speak for the owner; who has no account yet gets one without a password."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.MemberForm(request.POST, auto_id="member-%s")
    if form.is_valid():
        by, email = access.staff(request, Role.LEGAL), form.cleaned_data["email"]
        with forms.refusals_shown(form), transaction.atomic():
            account = Account.objects.filter(email__iexact=email).first()
            if account is None:
                account = owners.open_account(email, full_name=form.cleaned_data["full_name"])
            owners.add_member(owner, account=account, by=by, at=timezone.now())
            messages.success(request, f"{account} may speak for {owner} now.")
            return redirect("legal:owner", slug)
    return _owner_page(request, owner, forms.CorpusForm(), form)


def _owner_page(
    request: HttpRequest, owner: DataOwner, form: forms.CorpusForm, member_form: forms.MemberForm
) -> HttpResponse:
    context = {
        "owner": owner,
        "form": form,
        "member_form": member_form,
        "corpora": owner.corpora.prefetch_related("licences"),
        "experts": owner.experts.select_related("corpus"),
        "members": owner.memberships.select_related("account"),
        "licences": _listed(Licence.objects.filter(corpus__owner=owner)),
    }
    status = forms.status_of(form, member_form)
    return render(request, "legal/owner.html", context, status=status)


@access.staff_page(Role.LEGAL)
def licences_page(request: HttpRequest) -> HttpResponse:
    """Every licence, filtered by state."""
    rows = Licence.objects.all()
    state = request.GET.get("state", "")
    if state in LicenceState.__members__.values():
        rows = rows.filter(state=state)
    order = request.GET.get("sort", "-requested_at")
    allowed = {"reference", "starts_at", "ends_at", "requested_at"}
    rows = rows.order_by(order if order.lstrip("-") in allowed else "-requested_at")
    page = Paginator(_listed(rows), ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "state": state, "states": forms.licence_choices()}
    return render(request, "legal/licences.html", context)


@access.staff_page(Role.LEGAL)
def request_licence(request: HttpRequest) -> HttpResponse:
    """Ask for a licence; a colleague decides."""
    initial = {"corpus": request.GET.get("corpus"), "starts_on": timezone.now().date()}
    form = forms.LicenceForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            licence = licences.request(
                form.cleaned_data["corpus"], terms=form.terms(), by=by, at=timezone.now()
            )
            messages.success(request, f"{licence} is requested. A second person approves it.")
            return redirect("legal:licence", licence.reference)
    template = "legal/licence_request.html"
    return render(request, template, {"form": form}, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
def licence_page(request: HttpRequest, reference: str) -> HttpResponse:
    """One licence: in plain words, its terms, its history, and what may be done with it now."""
    return _licence_page(request, _licence(reference), forms.EndLicenceForm())


def _licence_page(
    request: HttpRequest, licence: Licence, end_form: forms.EndLicenceForm
) -> HttpResponse:
    now, account = timezone.now(), access.staff(request, Role.LEGAL)
    endings = licence.endings.select_related("ended_by", "lifts").order_by("-recorded_at")
    context = {
        "licence": licence,
        "plain_words": licences.plain_words(licence),
        "endings": endings,
        "experts": Expert.objects.filter(corpus=licence.corpus),
        "is_in_force": Licence.objects.in_force(now).filter(pk=licence.pk).exists(),
        "is_suspended": endings.filter(
            instrument=Instrument.SUSPEND, lifts=None, lifted_by=None
        ).exists(),
        "is_over": not _not_over(now).filter(pk=licence.pk).exists(),
        "is_own_request": licence.requested_by_id == account.pk,
        "end_form": end_form,
    }
    status = forms.status_of(end_form)
    return render(request, "legal/licence.html", context, status=status)


@access.staff_page(Role.LEGAL)
@require_POST
def decide_licence(request: HttpRequest, reference: str, verb: str) -> HttpResponseBase:
    """Approve or reject, never one's own request."""
    licence, by = _licence(reference), access.staff(request, Role.LEGAL)
    act = {"approve": licences.approve, "reject": licences.reject}.get(verb)
    if act is None:
        raise Http404
    try:
        act(licence, by=by, at=timezone.now(), note=request.POST.get("note", ""))
        messages.success(request, f"{licence} is {verb}{'d' if verb == 'approve' else 'ed'}.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:licence", reference)


@access.staff_page(Role.LEGAL)
@require_POST
def end_licence(request: HttpRequest, reference: str) -> HttpResponseBase:
    """End or pause a licence."""
    licence, by = _licence(reference), access.staff(request, Role.LEGAL)
    form = forms.EndLicenceForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            ending = licences.end(licence, **form.cleaned_data, by=by, at=timezone.now())
            said = Instrument(ending.instrument).label
            messages.success(request, f"{said} of {licence} is recorded and in the policy.")
            return redirect("legal:licence", reference)
    return _licence_page(request, licence, form)


@access.staff_page(Role.LEGAL)
@require_POST
def resume_licence(request: HttpRequest, reference: str) -> HttpResponseBase:
    """Lift a suspension."""
    licence, by = _licence(reference), access.staff(request, Role.LEGAL)
    try:
        reason = request.POST.get("reason", "")
        licences.resume(licence, by=by, at=timezone.now(), reason=reason)
        messages.success(request, f"{licence} is no longer suspended.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:licence", reference)


@access.staff_page(Role.LEGAL)
def approvals_page(request: HttpRequest) -> HttpResponse:
    """What waits for a second person: licences and activations."""
    waiting = _listed(Licence.objects.filter(state=LicenceState.REQUESTED))
    revisions = (
        ExpertRevision.objects.filter(state=RevisionState.ACTIVATION_REQUESTED)
        .select_related("expert__owner", "activation_requested_by")
        .prefetch_related("findings")
    )
    context = {
        "licences": waiting.order_by("requested_at"),
        "revisions": revisions,
        "account": access.staff(request, Role.LEGAL),
    }
    return render(request, "legal/approvals.html", context)


@access.staff_page(Role.LEGAL)
@require_POST
def decide_activation(request: HttpRequest, identity: str, verb: str) -> HttpResponseBase:
    """Approve or reject the activation of a revision."""
    by = access.staff(request, Role.LEGAL)
    revision = ExpertRevision.objects.select_related("expert").filter(pk=identity).first()
    act = {"approve": experts.approve_activation, "reject": experts.reject_activation}.get(verb)
    if revision is None or act is None:
        raise Http404
    try:
        act(revision, by=by, at=timezone.now())
        said = "approved; a build with it is planned" if verb == "approve" else "rejected"
        messages.success(request, f"Activation of {revision} is {said}.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:approvals")


@access.staff_page(Role.LEGAL)
def due_page(request: HttpRequest) -> HttpResponse:
    """What runs out soon, what has failed, which gaps in policy wait for a person."""
    now = timezone.now()
    ending = Licence.objects.in_force(now).filter(ends_at__lte=now + SOON)
    gaps = FollowUp.objects.filter(kind=FollowUpKind.RESOLVE_GAP).exclude(state=FollowUpState.DONE)
    context = {
        "licences": _listed(ending).order_by("ends_at"),
        "gaps": gaps,
        "failed": FollowUp.objects.filter(state=FollowUpState.FAILED)[:ROWS_A_PAGE],
        "endings": Ending.objects.select_related("licence", "expert", "ended_by")[:10],
    }
    return render(request, "legal/due.html", context)


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def log_page(request: HttpRequest) -> HttpResponse:
    """The tamper-evident log, newest first, and its last signed checkpoint."""
    rows = LogLeaf.objects.order_by("-seq")
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "events": _told(list(page.object_list)),
        "checkpoint": LogCheckpoint.objects.first(),
    }
    return render(request, "legal/log.html", context)


@access.staff_page(Role.LEGAL, Role.AUDITOR)
@require_POST
def verify_log(request: HttpRequest) -> HttpResponse:
    """Check the whole log now and say what was found."""
    log = sequencer.configured()
    report = verify(log.origin, log.signer.verifier, log.tiles)
    return render(request, "legal/_verification.html", {"report": report})


def _listed(rows: QuerySet[Licence]) -> QuerySet[Licence]:
    """With what a row shows; `standing` are the endings that no resumption has lifted."""
    endings = Ending.objects.filter(lifts=None, lifted_by=None)
    return rows.select_related("corpus__owner", "requested_by", "decided_by").prefetch_related(
        Prefetch("endings", queryset=endings, to_attr="standing")
    )


def _told(leaves: list[LogLeaf]) -> list[dict[str, Any]]:
    """The events of the leaves. The log names accounts by number alone; here they get names."""
    events = [{**json.loads(bytes(leaf.body)), "seq": leaf.seq} for leaf in leaves]
    numbers = {event["by"].removeprefix("account:") for event in events} - {"system"}
    known = {f"account:{one.pk}": str(one) for one in Account.objects.filter(pk__in=numbers)}
    for event in events:
        event["at"] = datetime.fromisoformat(event["at"])
        event["by"] = known.get(event["by"], event["by"])
    return events


def _not_over(at: datetime) -> QuerySet[Licence]:
    """Approved licences that an act can still end: suspended or not yet begun ones too."""
    approved = Licence.objects.filter(state=LicenceState.APPROVED)
    return approved.filter(Q(ends_at=None) | Q(ends_at__gt=at)).filter(
        Q(stops_at=None) | Q(stops_at__gt=at)
    )


def _licence(reference: str) -> Licence:
    found = _listed(Licence.objects.filter(reference=reference)).first()
    if found is None:
        raise Http404
    return found


urlpatterns = [
    *consumers.urlpatterns,
    path("owners/", owners_page, name="owners"),
    path("owners/<slug:slug>/", owner_page, name="owner"),
    path("owners/<slug:slug>/members/", add_member, name="member-add"),
    path("licences/", licences_page, name="licences"),
    path("licences/new/", request_licence, name="licence-request"),
    path("licences/<slug:reference>/", licence_page, name="licence"),
    path("licences/<slug:reference>/end/", end_licence, name="licence-end"),
    path("licences/<slug:reference>/resume/", resume_licence, name="licence-resume"),
    path("licences/<slug:reference>/<slug:verb>/", decide_licence, name="licence-decide"),
    path("approvals/", approvals_page, name="approvals"),
    path("revisions/<uuid:identity>/<slug:verb>/", decide_activation, name="activation-decide"),
    path("due/", due_page, name="due"),
    path("log/", log_page, name="log"),
    path("log/verify/", verify_log, name="log-verify"),
]
