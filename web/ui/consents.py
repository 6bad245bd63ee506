"""Consent records on pages: one list, one record and its downloads, for legal staff and owners."""

from __future__ import annotations

import json
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from governance import keys
from governance.errors import UnlawfulMove
from governance.models import ConsentRecord
from governance.services import consent
from governance.services.consent import dpv
from governance.vocabulary import LawfulBasis, Role, Use
from web import access
from web.ui.lists.consents import CONSENTS


class BasisForm(forms.Form):
    """On which basis an activity rests."""

    activity = forms.ChoiceField(choices=Use.choices())
    lawful_basis = forms.ChoiceField(choices=LawfulBasis.choices())
    justification = forms.CharField(
        max_length=500, required=False, help_text="Why it holds; a contract is the licence itself."
    )


def listed(request: HttpRequest, *, room: str) -> HttpResponse:
    """The records this person may see, by state."""
    context = {"shown": CONSENTS[room].shown(request), "room": room}
    return render(request, "consents/list.html", context)


def one(request: HttpRequest, identity: UUID, *, room: str) -> HttpResponse:
    """One record: what was agreed, what happened since, whether it says all it must."""
    record = _record(request, identity)
    body = consent.receipt(record)
    context = {
        "record": record,
        "body": body,
        "events": record.events.select_related("actor").order_by("-at", "-id"),
        "faults": consent.faults(body),
        "is_intact": record.record_digest == consent.digest_of(record),
        "activities": record.expert.activities.select_related("licence"),
        "may_record": access.person(request).has(Role.LEGAL),
        "basis_form": BasisForm(),
        "room": room,
    }
    return render(request, "consents/one.html", context)


def receipt(request: HttpRequest, identity: UUID) -> HttpResponse:
    """The signed receipt of the record as it stands, as a file."""
    record = _record(request, identity)
    signer = keys.load_or_create(settings.RECLAIM_KEYS, keys.CERTIFICATE_KEY)
    try:
        issued = consent.issue(record, signer=signer, at=timezone.now())
    except UnlawfulMove as refusal:
        return render(request, "consents/no_receipt.html", {"said": refusal.message}, status=409)
    return _file(issued.envelope.encode(), f"receipt-{record.expert.name}.json", "application/json")


def linked_data(request: HttpRequest, identity: UUID) -> HttpResponse:
    """The record as JSON-LD of the Data Privacy Vocabulary, as a file."""
    record = _record(request, identity)
    document = dpv.export(consent.receipt(record))
    content = json.dumps(document, indent=2, ensure_ascii=False).encode()
    return _file(content, f"consent-{record.expert.name}.jsonld", "application/ld+json")


def _file(content: bytes, name: str, media_type: str) -> HttpResponse:
    response = HttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _record(request: HttpRequest, identity: UUID) -> ConsentRecord:
    found = access.consents_for(request).filter(pk=identity).first()
    if found is None:
        raise Http404
    return found
