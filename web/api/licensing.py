"""REST: licences, from the request to their end."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    Corpus,
    Licence,
)
from governance.services import (
    licences,
)
from governance.vocabulary import Role
from web import access
from web.api import acts
from web.api.room import Room, one, shown
from web.api.serializers import (
    LicenceSerializer,
)


class Licences(Room, ListAPIView[Licence]):
    """Licences: all for staff, those on their corpora for owners."""

    serializer_class = LicenceSerializer
    queryset = Licence.objects.none()
    filterset_fields = ("state", "corpus__slug")

    def get_queryset(self) -> QuerySet[Licence]:
        return _visible(self.asking)

    @extend_schema(request=acts.RequestLicence, responses={201: LicenceSerializer})
    def post(self, request: Request) -> Response:
        """Request a licence; a second person decides."""
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(acts.RequestLicence)
        corpus = one(Corpus.objects.all(), slug=given.pop("corpus"))
        terms = licences.Terms(**given)
        licence = licences.request(corpus, terms=terms, by=by, at=timezone.now())
        return shown(LicenceSerializer, licence, new=True)


class OneLicence(Room):
    """One licence by its reference."""

    @extend_schema(responses=LicenceSerializer)
    def get(self, request: Request, reference: str) -> Response:
        return shown(LicenceSerializer, one(_visible(self.asking), reference=reference))


class LicenceDecision(Room):
    """Approve or reject a requested licence; never one's own request."""

    @extend_schema(
        operation_id="v1_licences_decide",
        parameters=[OpenApiParameter("verb", str, "path", enum=["approve", "reject"])],
        request=acts.Decide,
        responses=LicenceSerializer,
    )
    def post(self, request: Request, reference: str, verb: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        note = self.given(acts.Decide)["note"]
        act = licences.approve if verb == "approve" else licences.reject
        act(licence, by=by, at=timezone.now(), note=note)
        licence.refresh_from_db()
        return shown(LicenceSerializer, licence)


class LicenceEnding(Room):
    """End or pause a licence."""

    @extend_schema(request=acts.EndLicence, responses=LicenceSerializer)
    def post(self, request: Request, reference: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        licences.end(licence, **self.given(acts.EndLicence), by=by, at=timezone.now())
        licence.refresh_from_db()
        return shown(LicenceSerializer, licence)


class LicenceResumption(Room):
    """Lift the suspension of a licence."""

    @extend_schema(request=acts.Resume, responses=LicenceSerializer)
    def post(self, request: Request, reference: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        licences.resume(licence, **self.given(acts.Resume), by=by, at=timezone.now())
        licence.refresh_from_db()
        return shown(LicenceSerializer, licence)


def _visible(request: HttpRequest) -> QuerySet[Licence]:
    found = Licence.objects.select_related("corpus").prefetch_related("endings")
    asking = access.person(request)
    return found if asking.has(*access.STAFF) else found.filter(corpus__owner__in=asking.owner_ids)
