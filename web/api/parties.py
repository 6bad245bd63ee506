"""REST: owners, consumers with their keys, corpora."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    ApiKey,
    Consumer,
    DataOwner,
)
from governance.services import (
    consumers,
    owners,
)
from governance.services.limits import KeyLimits
from governance.vocabulary import ConsumerStatus, OwnerStatus, Role
from web import access, stepup
from web.api import acts
from web.api.room import Room, one, shown
from web.api.serializers import (
    ApiKeySerializer,
    ConsumerSerializer,
    IssuedKeySerializer,
    OwnerSerializer,
    PersonSerializer,
)


class Me(Room):
    """Who is logged in, and what they may do."""

    @extend_schema(responses=PersonSerializer)
    def get(self, request: Request) -> Response:
        asking = access.person(self.asking)
        spoken_for = access.owners_of(self.asking).values_list("slug", flat=True)
        return Response(
            {
                "email": asking.account.email,
                "name": str(asking.account),
                "roles": sorted(asking.roles),
                "owners": list(spoken_for),
            }
        )


class Owners(Room, ListAPIView[DataOwner]):
    """Data owners: all of them for staff, their own for members."""

    serializer_class = OwnerSerializer
    queryset = DataOwner.objects.none()
    ordering_fields = ("slug", "legal_name", "registered_at")

    def get_queryset(self) -> QuerySet[DataOwner]:
        if access.person(self.asking).has(*access.STAFF):
            return DataOwner.objects.all()
        return access.owners_of(self.asking)

    @extend_schema(request=acts.RegisterOwner, responses={201: OwnerSerializer})
    def post(self, request: Request) -> Response:
        """Register a data owner; for legal staff."""
        by = access.staff(self.asking, Role.LEGAL)
        owner = owners.register(**self.given(acts.RegisterOwner), by=by, at=timezone.now())
        return shown(OwnerSerializer, owner, new=True)


class OneOwner(Room):
    """One data owner: for staff and its own members."""

    @extend_schema(responses=OwnerSerializer)
    def get(self, request: Request, slug: str) -> Response:
        found = access.owner_for(self.asking, slug, or_staff=tuple(access.STAFF))
        return shown(OwnerSerializer, found)

    @extend_schema(request=acts.ChangeOwner, responses=OwnerSerializer)
    def patch(self, request: Request, slug: str) -> Response:
        """Edit an owner's facts; what it was before stays readable. For legal staff."""
        by = access.staff(self.asking, Role.LEGAL)
        owner = one(DataOwner.objects.all(), slug=slug)
        facts = self.given(acts.ChangeOwner)
        return shown(OwnerSerializer, owners.change(owner, facts=facts, by=by, at=timezone.now()))


class OwnerStatusMove(Room):
    """Move an owner to another status, as far as its licences and experts allow."""

    @extend_schema(request=acts.MoveOwner, responses=OwnerSerializer)
    def post(self, request: Request, slug: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        owner = one(DataOwner.objects.all(), slug=slug)
        given = self.given(acts.MoveOwner)
        to = OwnerStatus(given["to"])
        moved = owners.move(owner, to=to, reason=given["reason"], by=by, at=timezone.now())
        return shown(OwnerSerializer, moved)


class Consumers(Room, ListAPIView[Consumer]):
    """Consumers, for legal staff."""

    serializer_class = ConsumerSerializer
    queryset = Consumer.objects.none()
    ordering_fields = ("slug", "name", "registered_at")

    def get_queryset(self) -> QuerySet[Consumer]:
        access.staff(self.asking, Role.LEGAL, Role.AUDITOR)
        return Consumer.objects.all()

    @extend_schema(request=acts.RegisterConsumer, responses={201: ConsumerSerializer})
    def post(self, request: Request) -> Response:
        """Register a consumer; for legal staff."""
        by = access.staff(self.asking, Role.LEGAL)
        consumer = consumers.register(**self.given(acts.RegisterConsumer), by=by, at=timezone.now())
        return shown(ConsumerSerializer, consumer, new=True)


class OneConsumer(Room):
    """One consumer; for legal staff and auditors."""

    @extend_schema(responses=ConsumerSerializer)
    def get(self, request: Request, slug: str) -> Response:
        access.staff(self.asking, Role.LEGAL, Role.AUDITOR)
        return shown(ConsumerSerializer, one(Consumer.objects.all(), slug=slug))

    @extend_schema(request=acts.ChangeConsumer, responses=ConsumerSerializer)
    def patch(self, request: Request, slug: str) -> Response:
        """Edit a consumer; policy sees it from its next request on. For legal staff."""
        by = access.staff(self.asking, Role.LEGAL)
        found = one(Consumer.objects.all(), slug=slug)
        facts = self.given(acts.ChangeConsumer)
        changed = consumers.change(found, facts=facts, by=by, at=timezone.now())
        return shown(ConsumerSerializer, changed)


class ConsumerStatusMove(Room):
    """Suspend, resume or close a consumer: unless it is active, its keys open nothing, at once."""

    @extend_schema(request=acts.MoveConsumer, responses=ConsumerSerializer)
    def post(self, request: Request, slug: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        found = one(Consumer.objects.all(), slug=slug)
        given = self.given(acts.MoveConsumer)
        to = ConsumerStatus(given["to"])
        moved = consumers.move(found, to=to, reason=given["reason"], by=by, at=timezone.now())
        return shown(ConsumerSerializer, moved)


class ConsumerKeys(Room, ListAPIView[ApiKey]):
    """The API keys of a consumer, without their secrets; for legal staff and auditors."""

    serializer_class = ApiKeySerializer
    queryset = ApiKey.objects.none()
    ordering_fields = ("issued_at",)

    def get_queryset(self) -> QuerySet[ApiKey]:
        access.staff(self.asking, Role.LEGAL, Role.AUDITOR)
        return ApiKey.objects.filter(consumer=one(Consumer.objects.all(), slug=self.kwargs["slug"]))

    @extend_schema(request=acts.IssueApiKey, responses={201: IssuedKeySerializer})
    def post(self, request: Request, slug: str) -> Response:
        """Issue a key; its secret is in this answer and nowhere else."""
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        consumer = one(Consumer.objects.all(), slug=slug)
        given = self.given(acts.IssueApiKey)
        limits = KeyLimits.taken_from(given)
        issued = consumers.issue_key(consumer, **given, limits=limits, by=by, at=timezone.now())
        return with_secret(issued, status.HTTP_201_CREATED)


def with_secret(issued: consumers.IssuedKey, code: int) -> Response:
    """A key with its secret, which no cache and no table keeps."""
    answer = {**ApiKeySerializer(issued.api_key).data, "secret": issued.secret}
    return Response(answer, status=code, headers={"Cache-Control": "no-store"})


class KeyRotation(Room):
    """Give an API key a new secret, which is in this answer and nowhere else."""

    @extend_schema(request=acts.RotateApiKey, responses=IssuedKeySerializer)
    def post(self, request: Request, slug: str, prefix: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        key = one(ApiKey.objects.all(), consumer__slug=slug, prefix=prefix)
        overlap = timedelta(hours=self.given(acts.RotateApiKey)["overlap_hours"])
        issued = consumers.rotate_key(key, overlap=overlap, by=by, at=timezone.now())
        return with_secret(issued, status.HTTP_200_OK)


class KeyRevocation(Room):
    """End an API key at once and for good. Repeating it changes nothing."""

    @extend_schema(request=None, responses=ApiKeySerializer)
    def post(self, request: Request, slug: str, prefix: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        key = one(ApiKey.objects.all(), consumer__slug=slug, prefix=prefix)
        return shown(ApiKeySerializer, consumers.revoke_key(key, by=by, at=timezone.now()))
