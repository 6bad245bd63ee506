"""Pages of data owners: the register, and one owner with its corpora, its people and its past."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Account, DataOwner, Document, Licence
from governance.services import approvals, corpora, documents, owners
from governance.services.approvals import subjects
from governance.vocabulary import OwnerRole, OwnerStatus, Role
from web import access
from web.ui import forms, people
from web.ui.legal import way
from web.ui.legal.rows import listed
from web.ui.lists.parties import OWNERS


@access.staff_page(Role.LEGAL)
def owners_page(request: HttpRequest) -> HttpResponse:
    """Every data owner, by name and status."""
    return render(request, "legal/owners.html", {"shown": OWNERS.shown(request)})


@access.staff_page(Role.LEGAL)
def new_owner(request: HttpRequest) -> HttpResponseBase:
    """Take on an owner; one that may be registered already is shown first."""
    form = forms.NewOwnerForm(request.POST or None, request.FILES or None)
    alike: list[DataOwner] = []
    if request.method == "POST" and form.is_valid():
        by, at = access.staff(request, Role.LEGAL), timezone.now()
        with forms.refusals_shown(form):
            facts = _facts(form.cleaned_data, by, at)
            told = {name: form.cleaned_data[name] for name in ("status", "is_distinct")}
            owner = owners.register(**facts, **told, by=by, at=at)
            waits = "A colleague decides on it first. " if _needs_approval(owner) else ""
            messages.success(
                request, f"{owner} is registered. {waits}Invite who signs for it next."
            )
            return redirect("legal:owner", owner.slug)
        if "is_distinct" in form.errors:
            names = ("legal_name", "jurisdiction", "registry_number")
            alike = owners.duplicates(**{name: form.cleaned_data[name] for name in names})
    context = {"form": form, "alike": alike}
    return render(request, "legal/owner_new.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
def owner_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One owner: its facts, corpora, experts, licences and people."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.CorpusForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            corpus = corpora.describe(owner, **form.cleaned_data, by=by, at=timezone.now())
            messages.success(request, f"{corpus} is described. Request its licence next.")
            return redirect("legal:owner", slug)
    return _owner_page(request, owner, form)


@access.staff_page(Role.LEGAL)
def edit_owner(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Edit what is known of an owner; what it was stays in its history."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    initial = {name: getattr(owner, name) for name in owners.FACTS if name != "authority"}
    form = forms.OwnerForm(request.POST or None, request.FILES or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        by, at = access.staff(request, Role.LEGAL), timezone.now()
        with forms.refusals_shown(form):
            owners.change(owner, facts=_facts(form.cleaned_data, by, at), by=by, at=at)
            messages.success(request, "Kept. What it was before is in the history.")
            return redirect("legal:owner", slug)
    context = {"form": form, "owner": owner}
    return render(request, "legal/owner_edit.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL)
@require_POST
def move_owner(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Move an owner to another status."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.OwnerMoveForm(request.POST, status=owner.status)
    if not form.is_valid():
        messages.error(request, f"{owner} cannot move there from {owner.status}.")
        return redirect("legal:owner", slug)
    by, told = access.staff(request, Role.LEGAL), form.cleaned_data
    to = OwnerStatus(told["to"])
    try:
        owners.move(owner, to=to, reason=told["reason"], by=by, at=timezone.now())
        messages.success(request, f"{owner} is {to.label.lower()} now.")
    except GovernanceError as refusal:
        messages.error(request, refusal.message)
    return redirect("legal:owner", slug)


@access.staff_page(Role.LEGAL)
def owner_history(request: HttpRequest, slug: str) -> HttpResponse:
    """Every change, and how the owner stood at the end of a day."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    day = parse_date(request.GET.get("on", "")) or timezone.now().date()
    until = datetime.combine(day + timedelta(days=1), time(), UTC)
    facts = owners.as_of(owner, until - timedelta(microseconds=1))
    context = {
        "owner": owner,
        "day": day,
        "facts": [(name.replace("_", " "), told) for name, told in (facts or {}).items() if told],
        "changes": owner.changes.select_related("by").order_by("-at", "-id"),
    }
    return render(request, "legal/owner_history.html", context)


@access.staff_page(Role.LEGAL)
def owner_authority(request: HttpRequest, slug: str) -> HttpResponse:
    """The proof of authority of the signatory, as a download."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    document = owner.authority
    if document is None:
        raise Http404
    # Always a download: nothing somebody handed in is shown as a page of ours.
    response = HttpResponse(bytes(document.content), content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="authority-{owner.slug}"'
    return response


@access.staff_page(Role.LEGAL)
@require_POST
def add_member(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Invite a person to speak for the owner."""
    owner = access.owner_for(request, slug, or_staff=(Role.LEGAL,))
    form = forms.MemberForm(request.POST, auto_id="member-%s")
    if form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            people.invite(request, owner, form, by=by)
            return redirect("legal:owner", slug)
    return _owner_page(request, owner, forms.CorpusForm(), form)


def _facts(told: Mapping[str, Any], by: Account, at: datetime) -> dict[str, Any]:
    """What the service is told: the file, where one was handed in, stored first."""
    facts = {name: told[name] for name in owners.FACTS if name != "authority"}
    facts["jurisdiction"] = told["jurisdiction"]
    if told["authority"]:
        facts["authority"] = _stored(told["authority"], by, at)
    return facts


def _stored(file: Any, by: Account, at: datetime) -> Document:
    try:
        return documents.store(
            file.read(), name=file.name, media_type=file.content_type, by=by, at=at
        )
    except GovernanceError as refusal:
        refusal.fields = {"authority": refusal.fields.get("file", refusal.message)}
        raise


def _member_form(owner: DataOwner, found: people.People) -> forms.MemberForm:
    """Who signs, filled in from the register where nobody of the owner is here yet."""
    told = {"full_name": owner.signatory_name, "email": owner.signatory_email}
    is_first = not found.members and not found.invited
    initial = {**told, "owner_role": OwnerRole.SIGNATORY} if is_first else {}
    return forms.MemberForm(auto_id="member-%s", initial=initial)


def _needs_approval(owner: DataOwner) -> bool:
    """Whether it is a prospect that people decide on."""
    is_prospect = owner.status == OwnerStatus.PROSPECT
    return is_prospect and approvals.required(subjects.owner(owner))


def _owner_page(
    request: HttpRequest,
    owner: DataOwner,
    form: forms.CorpusForm,
    member_form: forms.MemberForm | None = None,
) -> HttpResponse:
    stages = way.of_owner(owner)
    found = people.of_owner(owner, at=timezone.now())
    member_form = member_form or _member_form(owner, found)
    context = {
        "owner": owner,
        "form": form,
        "needs_approval": _needs_approval(owner),
        "stages": stages,
        "is_through": all(stage.is_done for stage in stages),
        "member_form": member_form,
        "move_form": forms.OwnerMoveForm(status=owner.status, auto_id="move-%s"),
        "corpora": list(owner.corpora.all()),
        "experts": owner.experts.select_related("corpus"),
        "people": found,
        "licences": listed(Licence.objects.filter(corpus__owner=owner)),
    }
    status = forms.status_of(form, member_form)
    return render(request, "legal/owner.html", context, status=status)


urlpatterns = [
    path("staff/", people.staff_page, name="staff"),
    path("owners/", owners_page, name="owners"),
    path("owners/new/", new_owner, name="owner-new"),
    path("owners/<slug:slug>/", owner_page, name="owner"),
    path("owners/<slug:slug>/edit/", edit_owner, name="owner-edit"),
    path("owners/<slug:slug>/move/", move_owner, name="owner-move"),
    path("owners/<slug:slug>/history/", owner_history, name="owner-history"),
    path("owners/<slug:slug>/authority/", owner_authority, name="owner-authority"),
    path("owners/<slug:slug>/members/", add_member, name="member-add"),
]
