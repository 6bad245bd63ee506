"""Pages of engineers: experts and their revisions, runs, builds, runners, audits."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import (
    Build,
    Expert,
    ExpertRevision,
    Finding,
    FollowUp,
    PolicySnapshot,
    RunnerLease,
    Withdrawal,
)
from governance.services import experts
from governance.vocabulary import BuildState, FollowUpKind, FollowUpState, Role
from web import access
from web.ui import builds, forms
from web.ui.lists.experts import EXPERTS

app_name = "engineer"
ROWS_A_PAGE = 25


@access.staff_page(Role.ENGINEER)
def experts_page(request: HttpRequest) -> HttpResponse:
    """Every expert with its newest revision and what its audit found; the form proposes another."""
    form = forms.ExpertForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by, given = access.staff(request, Role.ENGINEER), form.cleaned_data
        with forms.refusals_shown(form):
            expert = experts.propose(
                given["name"], title=given["title"], owner=given["corpus"].owner,
                corpus=given["corpus"], by=by, at=timezone.now(),
            )  # fmt: skip
            messages.success(request, f"{expert} is proposed. Its owner consents next.")
            return redirect("engineer:expert", expert.name)
    served = Build.objects.filter(state=BuildState.PROMOTED).first()
    names = {entry["name"] for entry in served.experts} if served else set()
    context = {
        "shown": EXPERTS.shown(request),
        "served": names,
        "form": form,
        # Only when asked for: it lists every corpus.
        "is_new": form.is_bound or "new" in request.GET,
    }
    return render(request, "engineer/experts.html", context, status=forms.status_of(form))


@access.staff_page(Role.ENGINEER)
def expert_page(request: HttpRequest, name: str) -> HttpResponse:
    """One expert: its revisions, gate reports and findings; train, audit, ask for activation."""
    return _expert_page(request, access.expert_for(request, name, or_staff=(Role.ENGINEER,)))


def _expert_page(
    request: HttpRequest,
    expert: Expert,
    *,
    training: forms.TrainingForm | None = None,
    audit: tuple[ExpertRevision, forms.AuditForm] | None = None,
) -> HttpResponse:
    """The page, with the form that was refused if one was."""
    paths = _paths_of_last_training(expert)
    training = training or forms.TrainingForm(
        initial={
            "corpus_path": paths.get("members_path", ""),
            "heldout_path": paths.get("controls_path", ""),
        }
    )
    rows = []
    for revision in expert.revisions.prefetch_related("findings").order_by("-number"):
        fresh = forms.AuditForm(initial=paths, auto_id=f"revision-{revision.number}-%s")
        rows.append((revision, audit[1] if audit and audit[0] == revision else fresh))
    context = {
        "expert": expert,
        "revisions": rows,
        "runs": _runs_about(expert)[:10],
        "training_form": training,
    }
    refused = [training, *([audit[1]] if audit else [])]
    status = forms.status_of(*refused)
    return render(request, "engineer/expert.html", context, status=status)


@access.staff_page(Role.ENGINEER)
@require_POST
def order_training(request: HttpRequest, name: str) -> HttpResponseBase:
    """Train on our workers."""
    expert = access.expert_for(request, name, or_staff=(Role.ENGINEER,))
    by, form = access.staff(request, Role.ENGINEER), forms.TrainingForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            experts.order_training(expert, order=form.order(), by=by, at=timezone.now())
            messages.success(request, f"Training of {expert} is ordered.")
            return redirect("engineer:runs")
    return _expert_page(request, expert, training=form)


@access.staff_page(Role.ENGINEER)
@require_POST
def order_audit(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Audit a revision again."""
    revision, by = _revision(identity), access.staff(request, Role.ENGINEER)
    form = forms.AuditForm(request.POST, auto_id=f"revision-{revision.number}-%s")
    if form.is_valid():
        with forms.refusals_shown(form):
            experts.order_audit(revision, order=form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"An audit of {revision} is ordered.")
            return redirect("engineer:runs")
    return _expert_page(request, revision.expert, audit=(revision, form))


@access.staff_page(Role.ENGINEER)
@require_POST
def request_activation(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Ask legal staff to activate a revision that has passed."""
    revision, by = _revision(identity), access.staff(request, Role.ENGINEER)
    try:
        experts.request_activation(revision, by=by, at=timezone.now())
        messages.success(request, f"Activation of {revision} is requested; legal staff decides.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("engineer:expert", revision.expert.name)


@access.staff_page(Role.ENGINEER)
def runs_page(request: HttpRequest) -> HttpResponse:
    """Long work with live progress, newest first. htmx asks for the rows alone."""
    rows = FollowUp.objects.all()
    kind, state = request.GET.get("kind", ""), request.GET.get("state", "")
    if kind in FollowUpKind.__members__.values():
        rows = rows.filter(kind=kind)
    if state in FollowUpState.__members__.values():
        rows = rows.filter(state=state)
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "kind": kind,
        "state": state,
        "kinds": FollowUpKind.choices(),
        "states": FollowUpState.choices(),
        "titles": _titles(list(page.object_list)),
        "is_live": any(row.state in (FollowUpState.DUE, FollowUpState.CLAIMED) for row in page),
    }
    is_part = bool(getattr(request, "htmx", False))
    return render(request, "engineer/_runs.html" if is_part else "engineer/runs.html", context)


@access.staff_page(Role.ENGINEER)
def runners_page(request: HttpRequest) -> HttpResponse:
    """Runners, the policy epoch each has applied, and what each holds. htmx asks for the rows."""
    now = timezone.now()
    newest = PolicySnapshot.objects.values_list("policy_epoch", flat=True).first()
    leases = RunnerLease.objects.select_related("loaded_build").order_by("-renewed_at")[
        :ROWS_A_PAGE
    ]
    rows = [(lease, _lease_state(lease, now)) for lease in leases]
    is_part = bool(getattr(request, "htmx", False))
    template = "engineer/_runners.html" if is_part else "engineer/runners.html"
    return render(request, template, {"rows": rows, "newest": newest})


@access.staff_page(Role.ENGINEER)
def audits_page(request: HttpRequest) -> HttpResponse:
    """What audits found, newest first."""
    rows = Finding.objects.select_related("revision__expert__owner")
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "engineer/audits.html", {"page": page})


def _revision(identity: str) -> ExpertRevision:
    found = ExpertRevision.objects.select_related("expert").filter(pk=identity).first()
    if found is None:
        raise Http404
    return found


def _runs_about(expert: Expert) -> Any:
    subjects = [expert.pk, *expert.revisions.values_list("pk", flat=True)]
    return FollowUp.objects.filter(subject_id__in=subjects)


def _paths_of_last_training(expert: Expert) -> dict[str, str]:
    run = FollowUp.objects.filter(kind=FollowUpKind.TRAIN, subject_id=expert.pk).first()
    order = run.order if run else {}
    return {
        "members_path": order.get("corpus_path", ""),
        "controls_path": order.get("heldout_path", ""),
    }


def _titles(runs: list[FollowUp]) -> dict[Any, str]:
    """What each run is about, in words: a query a kind, however many."""
    ids = {run.subject_id for run in runs}
    named = {e.pk: e.name for e in Expert.objects.filter(pk__in=ids)}
    named |= {
        r.pk: str(r) for r in ExpertRevision.objects.select_related("expert").filter(pk__in=ids)
    }
    named |= {b.pk: str(b) for b in Build.objects.filter(pk__in=ids)}
    withdrawals = Withdrawal.objects.select_related("expert").filter(pk__in=ids)
    named |= {w.pk: str(w) for w in withdrawals}
    return {run.pk: named.get(run.subject_id, run.subject_kind) for run in runs}


def _lease_state(lease: RunnerLease, now: Any) -> str:
    if lease.closed_at is not None:
        return "closed"
    return "serving" if (now - lease.renewed_at).total_seconds() <= lease.lease_s else "stale"


urlpatterns = [
    path("experts/", experts_page, name="experts"),
    path("experts/<slug:name>/", expert_page, name="expert"),
    path("experts/<slug:name>/training/", order_training, name="training-order"),
    path("revisions/<uuid:identity>/audit/", order_audit, name="audit-order"),
    path("revisions/<uuid:identity>/activation/", request_activation, name="activation-request"),
    path("runs/", runs_page, name="runs"),
    *builds.urlpatterns,
    path("runners/", runners_page, name="runners"),
    path("audits/", audits_page, name="audits"),
]
