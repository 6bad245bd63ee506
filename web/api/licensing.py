"""REST: licences, from the request to their end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from governance import selectors
from governance.models import Corpus, Document, Licence
from governance.services import documents, effects, licences
from governance.services import terms as terms_service
from governance.vocabulary import Role
from web import access, stepup
from web.api import acts
from web.api import terms as wire
from web.api.room import Room, one, shown
from web.api.terms import LicenceSerializer

_IN_TWO_TIMES = [
    OpenApiParameter("as_of", OpenApiTypes.DATETIME, description="when it held; now by default"),
    OpenApiParameter("known_at", OpenApiTypes.DATETIME, description="by what was recorded by then"),
]


class Licences(Room, ListAPIView[Licence]):
    """Licences: all for staff, those on their corpora for owners.

    With `as_of` or `known_at` only those in force at the one instant, as known at the other.
    """

    serializer_class = LicenceSerializer
    queryset = Licence.objects.none()
    filterset_fields = ("state", "corpus__slug")
    ordering_fields = ("requested_at", "starts_at", "reference")

    def get_queryset(self) -> QuerySet[Licence]:
        rows = _visible(self.asking)
        if not {"as_of", "known_at"} & set(self.request.query_params):
            return rows
        valid_at, known_at = _two_times(self.request)
        return selectors.in_force_as_of(rows, valid_at=valid_at, known_at=known_at)

    @extend_schema(parameters=_IN_TWO_TIMES)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(request=wire.RequestLicence, responses={201: LicenceSerializer})
    def post(self, request: Request) -> Response:
        """Request a licence, or the next version of one; others decide."""
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(wire.RequestLicence)
        former = given.pop("supersedes", "")
        licence = licences.request(
            one(Corpus.objects.all(), slug=given.pop("corpus")),
            terms=wire.terms_of(given),
            supersedes=one(Licence.objects.all(), reference=former) if former else None,
            needs_countersignature=given["needs_countersignature"],
            by=by,
            at=timezone.now(),
        )
        return shown(LicenceSerializer, licence, new=True)


class OneLicence(Room):
    """One licence by its reference."""

    @extend_schema(responses=LicenceSerializer)
    def get(self, request: Request, reference: str) -> Response:
        return shown(LicenceSerializer, one(_visible(self.asking), reference=reference))


class LicencePreview(Room):
    """Terms in plain words, and what does not hold, without storing anything."""

    @extend_schema(request=wire.PreviewLicence, responses=wire.PlainWordsSerializer)
    def post(self, request: Request) -> Response:
        access.staff(self.asking, Role.LEGAL)
        given = self.given(wire.PreviewLicence)
        slug = given.pop("corpus", "")
        corpus = one(Corpus.objects.select_related("owner"), slug=slug) if slug else None
        return _in_words(corpus, wire.terms_of(given))


class LicenceWords(Room):
    """A licence in plain words, sentence by sentence."""

    @extend_schema(responses=wire.PlainWordsSerializer)
    def get(self, request: Request, reference: str) -> Response:
        licence = one(_visible(self.asking), reference=reference)
        return _in_words(licence.corpus, terms_service.of(licence))


class LicenceVersions(Room):
    """Every version in the chain of a licence, oldest first."""

    @extend_schema(responses=LicenceSerializer(many=True), operation_id="v1_licences_versions")
    def get(self, request: Request, reference: str) -> Response:
        licence = one(_visible(self.asking), reference=reference)
        chain = [version.pk for version in selectors.versions_of(licence)]
        rows = {row.pk: row for row in _visible(self.asking).filter(pk__in=chain)}
        found = [rows[pk] for pk in chain]
        return Response(LicenceSerializer(found, many=True).data)


class LicenceDifferences(Room):
    """What a licence says otherwise than another version, by default the one it replaces."""

    @extend_schema(
        parameters=[OpenApiParameter("against", str, description="reference of the other version")],
        responses=wire.DifferenceSerializer(many=True),
        operation_id="v1_licences_differences",
    )
    def get(self, request: Request, reference: str) -> Response:
        licence = one(_visible(self.asking), reference=reference)
        against = self.request.query_params.get("against", "")
        other = (
            one(_visible(self.asking), reference=against, corpus=licence.corpus_id)
            if against
            else licence.supersedes
        )
        if other is None:
            told = f"Expected the version to compare with, because {licence} replaces none."
            raise serializers.ValidationError({"against": told})
        found = terms_service.differences(terms_service.of(other), terms_service.of(licence))
        return Response(wire.DifferenceSerializer(found, many=True).data)


class LicenceAsOf(Room):
    """How one licence stood at `as_of`, by what was recorded by `known_at`."""

    @extend_schema(parameters=_IN_TWO_TIMES, responses=wire.AsOfSerializer)
    def get(self, request: Request, reference: str) -> Response:
        valid_at, known_at = _two_times(self.request)
        rows = _visible(self.asking).filter(reference=reference)
        found = selectors.as_of(rows, valid_at=valid_at, known_at=known_at).first()
        if found is None:
            raise Http404
        return Response(wire.AsOfSerializer(found).data)


class Contracts(Room):
    """Signed files, handed in before the licence that names them."""

    parser_classes = (MultiPartParser,)

    @extend_schema(
        request={"multipart/form-data": wire.UploadContract},
        responses={201: wire.DocumentSerializer},
    )
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        file = self.given(wire.UploadContract)["file"]
        document = documents.store(
            file.read(),
            name=file.name,
            media_type=file.content_type or "",
            by=by,
            at=timezone.now(),
        )
        return shown(wire.DocumentSerializer, document, new=True)


class LicenceContract(Room):
    """The signed file of a licence, for those who may see the licence."""

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, reference: str) -> HttpResponse:
        licence = one(_visible(self.asking), reference=reference)
        document = one(Document.objects.all(), pk=licence.contract_digest)
        answer = HttpResponse(bytes(document.content), content_type=document.media_type)
        answer["Content-Disposition"] = f'attachment; filename="{licence.reference}-contract"'
        answer["X-Content-Type-Options"] = "nosniff"
        return answer


class LicenceReadings(Room):
    """Readings of the signed file against the terms."""

    @extend_schema(
        responses=wire.ReadingSerializer(many=True), operation_id="v1_licences_readings_list"
    )
    def get(self, request: Request, reference: str) -> Response:
        licence = one(_visible(self.asking), reference=reference)
        rows = licence.readings.select_related("reader")
        return Response(wire.ReadingSerializer(rows, many=True).data)

    @extend_schema(request=wire.ReadContract, responses={201: wire.ReadingSerializer})
    def post(self, request: Request, reference: str) -> Response:
        """Say as a second person whether the file says what the terms say."""
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        given = self.given(wire.ReadContract)
        reading = licences.read_contract(licence, **given, by=by, at=timezone.now())
        return shown(wire.ReadingSerializer, reading, new=True)


class LicenceCountersignature(Room):
    """The owner's own yes to the terms; only the owner gives it."""

    @extend_schema(request=None, responses={201: wire.CountersignatureSerializer})
    def post(self, request: Request, reference: str) -> Response:
        asking = access.person(self.asking)
        owned = Licence.objects.filter(corpus__owner__in=asking.owner_ids)
        signature = licences.countersign(
            one(owned, reference=reference), by=asking.account, at=timezone.now(), method="api"
        )
        return shown(wire.CountersignatureSerializer, signature, new=True)


class LicenceTemplates(Room):
    """Terms to start from."""

    @extend_schema(
        responses=wire.TemplateSerializer(many=True), operation_id="v1_licence_templates_list"
    )
    def get(self, request: Request) -> Response:
        access.staff(self.asking)
        return Response(wire.TemplateSerializer(licences.templates(), many=True).data)

    @extend_schema(request=wire.SaveTemplate, responses={201: wire.SavedTemplateSerializer})
    def post(self, request: Request) -> Response:
        """Keep terms as the next version of a template."""
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(wire.SaveTemplate)
        terms = wire.terms_of(dict(given.pop("terms")))
        name = given.pop("name")
        saved = licences.save_template(name, terms=terms, **given, by=by, at=timezone.now())
        return shown(wire.SavedTemplateSerializer, saved, new=True)


class LicenceDecision(Room):
    """Sign, reject or return a requested licence; never one's own request.

    It stays requested until the last signature its route asks for.
    """

    @extend_schema(
        operation_id="v1_licences_decide",
        parameters=[OpenApiParameter("verb", str, "path", enum=["approve", "reject", "return"])],
        request=acts.Decide,
        responses=LicenceSerializer,
    )
    def post(self, request: Request, reference: str, verb: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.all(), reference=reference)
        stepup.check_rest(request)
        note = self.given(acts.Decide)["note"]
        act = {
            "approve": licences.approve,
            "reject": licences.reject,
            "return": licences.send_back,
        }[verb]
        act(licence, by=by, at=timezone.now(), note=note)
        licence.refresh_from_db()
        return shown(LicenceSerializer, licence)


class LicenceEnding(Room):
    """End or pause a licence."""

    @extend_schema(request=acts.EndLicence, responses=LicenceSerializer)
    def post(self, request: Request, reference: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        licence = one(Licence.objects.all(), reference=reference)
        given = self.given(acts.EndLicence)
        scope = effects.Scope.of(given.pop("purposes"), given.pop("consumers"))
        demand = acts.demand_of(given)
        licences.end(licence, **given, scope=scope, demand=demand, by=by, at=timezone.now())
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


def _two_times(request: Request) -> tuple[datetime, datetime]:
    """The instants asked for; now, where one is not named.

    Raises:
        ValidationError: not an instant with its time zone.
    """
    now, found = timezone.now(), []
    for name in ("as_of", "known_at"):
        given = request.query_params.get(name)
        at = _instant(given) if given else now
        if at is None:
            told = f"Expected an instant such as 2027-03-01T12:00:00Z, found {given!r}."
            raise serializers.ValidationError({name: told})
        found.append(at)
    return found[0], found[1]


def _instant(text: str) -> datetime | None:
    """The instant a text means; None where it means none or leaves its offset out."""
    try:
        # A plus in a query reads as a space, and an offset begins with one.
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return at.astimezone(UTC) if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _in_words(corpus: Corpus | None, terms: licences.Terms) -> Response:
    told = {
        "words": terms_service.words_of(corpus, terms),
        "sentences": terms_service.sentences(terms),
        "wrong": terms_service.wrong_fields(terms),
    }
    return Response(wire.PlainWordsSerializer(told).data)


def _visible(request: HttpRequest) -> QuerySet[Licence]:
    found = Licence.objects.select_related(
        "corpus__owner", "supersedes", "countersignature"
    ).prefetch_related("endings")
    asking = access.person(request)
    return found if asking.has(*access.STAFF) else found.filter(corpus__owner__in=asking.owner_ids)
