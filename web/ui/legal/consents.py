"""Consents for legal staff: every record, its receipt, and the basis of each activity."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.services import activities
from governance.vocabulary import LawfulBasis, Role, Use
from web import access
from web.ui import consents


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def consents_page(request: HttpRequest) -> HttpResponse:
    """Every consent record."""
    return consents.listed(request, room="legal")


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def consent_page(request: HttpRequest, identity: UUID) -> HttpResponse:
    """One record."""
    return consents.one(request, identity, room="legal")


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def consent_receipt(request: HttpRequest, identity: UUID) -> HttpResponse:
    """Its signed receipt."""
    return consents.receipt(request, identity)


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def consent_data(request: HttpRequest, identity: UUID) -> HttpResponse:
    """Its JSON-LD."""
    return consents.linked_data(request, identity)


@access.staff_page(Role.LEGAL)
@require_POST
def record_basis(request: HttpRequest, identity: UUID) -> HttpResponseBase:
    """Say on which basis an activity on the record's expert rests."""
    by = access.staff(request, Role.LEGAL)
    record = access.consents_for(request).filter(pk=identity).first()
    if record is None:
        raise Http404
    try:
        basis = LawfulBasis(request.POST.get("lawful_basis", ""))
        activities.record(
            record.expert,
            activity=Use(request.POST.get("activity", "")),
            lawful_basis=basis,
            licence=record.licence if basis == LawfulBasis.CONTRACT else None,
            justification=request.POST.get("justification", ""),
            by=by,
            at=timezone.now(),
        )
        messages.success(request, "The basis is recorded.")
    except ValueError as unknown:
        raise Http404 from unknown
    except GovernanceError as refusal:
        messages.error(request, refusal.message)
    return redirect("legal:consent", identity)


urlpatterns = [
    path("consents/", consents_page, name="consents"),
    path("consents/<uuid:identity>/", consent_page, name="consent"),
    path("consents/<uuid:identity>/receipt.json", consent_receipt, name="consent-receipt"),
    path("consents/<uuid:identity>/consent.jsonld", consent_data, name="consent-data"),
    path("consents/<uuid:identity>/basis/", record_basis, name="consent-basis"),
]
