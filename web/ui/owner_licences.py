"""An owner's licences: what they say, the signed file, and the owner's own yes."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import Document, Licence
from governance.services import licences, owners
from governance.services import terms as terms_of
from governance.vocabulary import LicenceState
from web import access
from web.ui import contracts


@access.owner_page
def licences_page(request: HttpRequest) -> HttpResponse:
    """Approved licences of the owner's data; those not countersigned yet come first."""
    rows = _rows(request).filter(state=LicenceState.APPROVED)
    now = timezone.now()
    in_force = set(Licence.objects.in_force(now).filter(pk__in=rows).values_list("pk", flat=True))
    told = [
        {"licence": one, "words": licences.plain_words(one), "is_in_force": one.pk in in_force}
        for one in rows
    ]
    context = {
        "waiting": [row for row in told if not hasattr(row["licence"], "countersignature")],
        "signed": [row for row in told if hasattr(row["licence"], "countersignature")],
    }
    return render(request, "owner/licences.html", context)


def to_countersign(request: HttpRequest) -> QuerySet[Licence]:
    """Approved licences that wait for the owner's own yes before they are in force."""
    return _rows(request).filter(
        state=LicenceState.APPROVED, needs_countersignature=True, countersignature=None
    )


@contracts.framing
@access.owner_page
def licence_page(request: HttpRequest, reference: str) -> HttpResponse:
    """One licence in plain words, beside the signed file, with the button that countersigns it."""
    licence = _licence(request, reference)
    file = Document.objects.filter(pk=licence.contract_digest).first()
    context = {
        "licence": licence,
        "sentences": terms_of.sentences(terms_of.of(licence)),
        "contract": contracts.viewed(file) if file else None,
        "countersignature": getattr(licence, "countersignature", None),
        "is_in_force": Licence.objects.in_force(timezone.now()).filter(pk=licence.pk).exists(),
        "may_sign": owners.may_bind(access.person(request).account, licence.corpus.owner),
    }
    return render(request, "owner/licence.html", context)


@access.owner_page
@require_POST
def countersign(request: HttpRequest, reference: str) -> HttpResponseBase:
    """The owner's own yes to the terms."""
    licence = _licence(request, reference)
    try:
        licences.countersign(
            licence, by=access.person(request).account, at=timezone.now(), method="owner page"
        )
        messages.success(request, f"{licence} is countersigned.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("owner:licence", reference)


@contracts.framed
@access.owner_page
def contract_file(request: HttpRequest, reference: str) -> HttpResponse:
    """The signed file; `?keep` hands it out as a download."""
    file = Document.objects.filter(pk=_licence(request, reference).contract_digest).first()
    if file is None:
        raise Http404
    return contracts.sent(file, is_kept="keep" in request.GET)


def _rows(request: HttpRequest) -> QuerySet[Licence]:
    return Licence.objects.filter(corpus__owner__in=access.owners_of(request)).select_related(
        "corpus__owner", "countersignature__signed_by"
    )


def _licence(request: HttpRequest, reference: str) -> Licence:
    found = _rows(request).filter(reference=reference).first()
    if found is None:
        raise Http404
    return found


urlpatterns = [
    path("licences/", licences_page, name="licences"),
    path("licences/<slug:reference>/", licence_page, name="licence"),
    path("licences/<slug:reference>/countersign/", countersign, name="countersign"),
    path("licences/<slug:reference>/contract/", contract_file, name="licence-contract"),
]
