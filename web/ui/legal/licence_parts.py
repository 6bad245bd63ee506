"""The parts of a licence's page: terms by clause, history in two times, machine view, what-if."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_POST

from governance import exchange, selectors
from governance.errors import GovernanceError, NotFound
from governance.models import Document, Licence
from governance.services import licences, whatif
from governance.services import terms as terms_of
from governance.vocabulary import Instrument, LicenceState, Role
from web import access
from web.ui import contracts, forms
from web.ui.legal.rows import listed

WHAT_IF_DAYS = (7, 30, 90)


@dataclass(frozen=True)
class Said:
    """One term in words, and the clause it comes from."""

    label: str
    words: str
    clause: str


def licence_for(reference: str) -> Licence:
    """The licence with what its pages show.

    Raises:
        Http404: there is none.
    """
    rows = listed(Licence.objects.filter(reference=reference))
    found = rows.select_related("countersignature__signed_by", "supersedes").first()
    if found is None:
        raise Http404
    return found


def head_context(request: HttpRequest, licence: Licence) -> dict[str, Any]:
    """What the head of every part shows: standing, countersignature, contract, newer version."""
    account = access.staff(request, Role.LEGAL)
    waiting = licence.successors.exclude(state=LicenceState.REJECTED).first()
    return {
        "licence": licence,
        "is_in_force": Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists(),
        "is_suspended": licence.endings.filter(
            instrument=Instrument.SUSPEND, lifts=None, lifted_by=None
        ).exists(),
        "is_own_request": licence.requested_by_id == account.pk,
        "is_confirmed": licences.contract_is_confirmed(licence),
        "countersignature": getattr(licence, "countersignature", None),
        "newer": waiting,
        "may_supersede": licence.state == LicenceState.APPROVED and waiting is None,
    }


@contracts.framing
@access.staff_page(Role.LEGAL)
def terms_page(request: HttpRequest, reference: str) -> HttpResponse:
    """Every term with its clause, beside the signed file, for a second reader to confirm."""
    return _terms_page(request, licence_for(reference), forms.ReadingForm())


def _terms_page(request: HttpRequest, licence: Licence, form: forms.ReadingForm) -> HttpResponse:
    terms = terms_of.of(licence)
    file = Document.objects.filter(pk=licence.contract_digest).first()
    account = access.staff(request, Role.LEGAL)
    groups = [
        (
            group,
            [
                Said(
                    terms_of.LABELS[name],
                    terms_of.said(name, terms),
                    str(terms.clauses.get(name, "")),
                )
                for name in group.fields
                if name != "clauses"
            ],
        )
        for group in terms_of.GROUPS
    ]
    context = {
        **head_context(request, licence),
        "groups": groups,
        "contract": contracts.viewed(file) if file else None,
        "readings": licence.readings.select_related("reader"),
        "may_read": file is not None
        and licence.state == LicenceState.REQUESTED
        and account.pk not in (licence.requested_by_id, file.stored_by_id),
        "form": form,
    }
    status = forms.status_of(form)
    return render(request, "legal/licence_terms.html", context, status=status)


@contracts.framing
@access.staff_page(Role.LEGAL)
@require_POST
def read_contract(request: HttpRequest, reference: str) -> HttpResponseBase:
    """Confirm that the signed file says what the terms say, or say where it differs."""
    licence = licence_for(reference)
    form = forms.ReadingForm(request.POST)
    if form.is_valid():
        with forms.refusals_shown(form):
            reading = licences.read_contract(
                licence,
                is_match=form.cleaned_data["is_match"],
                note=form.cleaned_data["note"],
                by=access.staff(request, Role.LEGAL),
                at=timezone.now(),
            )
            said = "matches the terms" if reading.is_match else "differs from the terms"
            messages.success(request, f"It is recorded that the contract {said}.")
            return redirect("legal:licence", reference)
    return _terms_page(request, licence, form)


@contracts.framed
@access.staff_page(Role.LEGAL, Role.AUDITOR)
def contract_file(request: HttpRequest, reference: str) -> HttpResponse:
    """The signed file of a licence; `?keep` hands it out as a download."""
    file = Document.objects.filter(pk=licence_for(reference).contract_digest).first()
    if file is None:
        raise Http404
    return contracts.sent(file, is_kept="keep" in request.GET)


@access.staff_page(Role.LEGAL)
def history_page(request: HttpRequest, reference: str) -> HttpResponse:
    """What happened, the versions and what changed between two, and how it stood on a day as known
    on another."""
    licence = licence_for(reference)
    versions = selectors.versions_of(licence)
    by_reference = {one.reference: one for one in versions}
    other = by_reference.get(request.GET.get("against", "")) or licence.supersedes
    valid, known = _day(request, "valid"), _day(request, "known")
    endings = licence.endings.select_related("ended_by", "lifts").order_by("-recorded_at")
    context = {
        **head_context(request, licence),
        "versions": versions,
        "other": other,
        "differences": terms_of.differences(terms_of.of(other), terms_of.of(licence))
        if other
        else (),
        "valid": valid,
        "known": known,
        "then": selectors.as_of(
            Licence.objects.filter(corpus=licence.corpus_id),
            valid_at=end_of(valid),
            known_at=end_of(known),
        ).order_by("requested_at"),
        "endings": endings,
        "readings": licence.readings.select_related("reader"),
    }
    return render(request, "legal/licence_history.html", context)


@access.staff_page(Role.LEGAL)
def machine_page(request: HttpRequest, reference: str) -> HttpResponse:
    """The licence as machines read it; `?keep` hands it out as a download."""
    licence = licence_for(reference)
    code = request.GET.get("format", "odrl")
    try:
        written = exchange.export(code, licence)
    except GovernanceError as refusal:
        raise Http404 from refusal
    if "keep" in request.GET:
        answer = HttpResponse(written.body, content_type=written.media_type)
        name = f"{licence.reference}{exchange.FORMATS[code].suffix}"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer
    context = {
        **head_context(request, licence),
        "formats": exchange.FORMATS.values(),
        "format": code,
        "body": written.body.decode("utf-8", "replace"),
        "losses": written.losses,
    }
    return render(request, "legal/licence_machine.html", context)


@access.staff_page(Role.LEGAL)
def what_if_page(request: HttpRequest, reference: str) -> HttpResponse:
    """What approving it, or taking it away, would change for the requests of the past days."""
    licence, now = licence_for(reference), timezone.now()
    asked = request.GET.get("days", "")
    days = int(asked) if asked.isdecimal() and int(asked) in WHAT_IF_DAYS else 30
    is_granted = licence.state == LicenceState.APPROVED
    effect, refusal = None, ""
    try:
        effect = whatif.effect(
            whatif.deciding(licence),
            since=now - timedelta(days=days),
            until=now,
            by=access.staff(request, Role.LEGAL),
        )
    except NotFound:
        refusal = (
            "Nothing is served under this licence yet, so no past request hangs on it."
            if is_granted
            else "No build serves yet, so there is no past request to ask again."
        )
    except GovernanceError as error:
        refusal = error.message
    context = {
        **head_context(request, licence),
        "days": days,
        "choices": WHAT_IF_DAYS,
        "is_granted": is_granted,
        "effect": effect,
        "refusal": refusal,
    }
    return render(request, "legal/licence_what_if.html", context)


def _day(request: HttpRequest, name: str) -> date:
    """The day asked for; today where none, or none that a calendar knows, is named."""
    try:
        found = parse_date(request.GET.get(name, ""))
    except ValueError:
        found = None
    return found or timezone.now().date()


def end_of(day: date) -> datetime:
    """The last instant of a day in UTC."""
    return datetime.combine(day, time.max, UTC)


urlpatterns = [
    path("licences/<slug:reference>/terms/", terms_page, name="licence-terms"),
    path("licences/<slug:reference>/read-contract/", read_contract, name="licence-read"),
    path("licences/<slug:reference>/contract/", contract_file, name="licence-contract"),
    path("licences/<slug:reference>/history/", history_page, name="licence-history"),
    path("licences/<slug:reference>/machine/", machine_page, name="licence-machine"),
    path("licences/<slug:reference>/what-if/", what_if_page, name="licence-what-if"),
]
