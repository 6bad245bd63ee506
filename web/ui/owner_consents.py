"""An owner's own consents, with receipts to keep."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import path

from web import access
from web.ui import consents


@access.owner_page
def consents_page(request: HttpRequest) -> HttpResponse:
    """Every consent of the owner."""
    return consents.listed(request, room="owner")


@access.owner_page
def consent_page(request: HttpRequest, identity: UUID) -> HttpResponse:
    """One of them."""
    return consents.one(request, identity, room="owner")


@access.owner_page
def consent_receipt(request: HttpRequest, identity: UUID) -> HttpResponse:
    """Its signed receipt."""
    return consents.receipt(request, identity)


@access.owner_page
def consent_data(request: HttpRequest, identity: UUID) -> HttpResponse:
    """Its JSON-LD."""
    return consents.linked_data(request, identity)


urlpatterns = [
    path("consents/", consents_page, name="consents"),
    path("consents/<uuid:identity>/", consent_page, name="consent"),
    path("consents/<uuid:identity>/receipt.json", consent_receipt, name="consent-receipt"),
    path("consents/<uuid:identity>/consent.jsonld", consent_data, name="consent-data"),
]
