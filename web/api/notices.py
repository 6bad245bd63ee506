"""REST: the inbox, and webhooks with their delivery log."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    Consumer,
    DataOwner,
    Notice,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from governance.services import notices, webhooks
from governance.vocabulary import MailRhythm, NoticeKind, Role
from web import access
from web.api.room import Room, one

_ACTS = {"test": webhooks.send_test, "secret": webhooks.change_secret, "disable": webhooks.disable}


class NoticeSerializer(serializers.ModelSerializer[Notice]):
    """Something the account was told."""

    class Meta:
        model = Notice
        fields: ClassVar[list[str]] = [
            "id", "kind", "subject", "title", "text", "told_at", "read_at",
        ]  # fmt: skip


class EndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    """An address that is told. Its secret is in the answer when it is made or changed, only."""

    owner = serializers.SlugRelatedField[DataOwner](
        slug_field="slug", read_only=True, allow_null=True
    )
    consumer = serializers.SlugRelatedField[Consumer](
        slug_field="slug", read_only=True, allow_null=True
    )

    class Meta:
        model = WebhookEndpoint
        fields: ClassVar[list[str]] = [
            "id", "url", "kinds", "owner", "consumer", "created_at", "disabled_at",
            "disabled_because",
        ]  # fmt: skip


class EndpointWithSecretSerializer(EndpointSerializer):
    """An endpoint with its secret, where this answer is the one time it is shown."""

    secret = serializers.CharField(allow_null=True, help_text="what signatures are checked with")

    class Meta(EndpointSerializer.Meta):
        fields: ClassVar[list[str]] = [*EndpointSerializer.Meta.fields, "secret"]


class CreateEndpoint(serializers.Serializer[Any]):
    """An address to be told: an owner's, a consumer's, or one of our own."""

    url = serializers.CharField(max_length=500)
    kinds = serializers.ListField(child=serializers.CharField(max_length=32), default=list)
    owner = serializers.SlugField(default="", allow_blank=True)
    consumer = serializers.SlugField(default="", allow_blank=True)


class AttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    """One try to deliver."""

    class Meta:
        model = WebhookAttempt
        fields: ClassVar[list[str]] = ["at", "address", "status", "error", "took_ms"]


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    """One message to one endpoint, with its tries."""

    attempts = AttemptSerializer(many=True, read_only=True)

    class Meta:
        model = WebhookDelivery
        fields: ClassVar[list[str]] = [
            "id", "kind", "body", "state", "created_at", "due_at", "tries", "ended_at", "attempts",
        ]  # fmt: skip


class Notices(Room, ListAPIView[Notice]):
    """The notices of the account asking, newest first."""

    serializer_class = NoticeSerializer
    queryset = Notice.objects.none()
    filterset_fields = ("kind",)

    def get_queryset(self) -> QuerySet[Notice]:
        return Notice.objects.filter(account=access.person(self.asking).account)


class NoticesRead(Room):
    """Mark all notices as read."""

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        notices.mark_read(access.person(self.asking).account, at=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class PreferenceSerializer(serializers.Serializer[Any]):
    """When notices are mailed, and which never are; the inbox shows everything."""

    mail = serializers.ChoiceField(choices=MailRhythm.choices())
    never_mailed = serializers.ListField(
        child=serializers.ChoiceField(choices=NoticeKind.choices()), default=list
    )


class Preferences(Room):
    """How one wants to be told."""

    @extend_schema(responses=PreferenceSerializer)
    def get(self, request: Request) -> Response:
        known = notices.preference_of(access.person(self.asking).account)
        return Response(PreferenceSerializer(known).data)

    @extend_schema(request=PreferenceSerializer, responses=PreferenceSerializer)
    def post(self, request: Request) -> Response:
        """Say how one wants to be told from now on."""
        given = self.given(PreferenceSerializer)
        mail, never = MailRhythm(given["mail"]), given["never_mailed"]
        account = access.person(self.asking).account
        told = notices.prefer(account, mail=mail, never_mailed=never)
        return Response(PreferenceSerializer(told).data)


class AcknowledgeByLetter(serializers.Serializer[Any]):
    """Who acknowledged."""

    as_whom = serializers.CharField(max_length=200)


class Acknowledgement(Room):
    """Note an acknowledgement that came another way than by the link; for legal staff."""

    @extend_schema(request=AcknowledgeByLetter, responses={204: None})
    def post(self, request: Request, identity: UUID) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        found = one(Notice.objects.filter(needs_acknowledgement=True), pk=identity)
        as_whom = self.given(AcknowledgeByLetter)["as_whom"]
        notices.acknowledge(found, by=by, at=timezone.now(), as_whom=as_whom)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _visible(room: Room) -> QuerySet[WebhookEndpoint]:
    asking = access.person(room.asking)
    if not asking.has(Role.LEGAL, Role.OWNER):
        raise Http404
    found = WebhookEndpoint.objects.select_related("owner", "consumer")
    return found if asking.has(Role.LEGAL) else found.filter(owner_id__in=asking.owner_ids)


class Webhooks(Room, ListAPIView[WebhookEndpoint]):
    """Endpoints: all for legal staff, their owner's for members."""

    serializer_class = EndpointSerializer
    queryset = WebhookEndpoint.objects.none()

    def get_queryset(self) -> QuerySet[WebhookEndpoint]:
        return _visible(self)

    @extend_schema(request=CreateEndpoint, responses={201: EndpointWithSecretSerializer})
    def post(self, request: Request) -> Response:
        """Add an endpoint; its secret is in the answer, once."""
        given = self.given(CreateEndpoint)
        parties: dict[str, Any] = {}
        if given["owner"]:
            parties["owner"] = access.owner_for(self.asking, given["owner"], or_staff=(Role.LEGAL,))
        if given["consumer"]:
            access.staff(self.asking, Role.LEGAL)
            parties["consumer"] = one(Consumer.objects.all(), slug=given["consumer"])
        by = access.person(self.asking).account
        endpoint = webhooks.create(
            given["url"], kinds=given["kinds"], **parties, by=by, at=timezone.now()
        )
        return _with_secret(endpoint, status.HTTP_201_CREATED)


def _with_secret(endpoint: WebhookEndpoint, code: int) -> Response:
    body = {**EndpointSerializer(endpoint).data, "secret": webhooks.secret_of(endpoint)}
    return Response(body, status=code, headers={"Cache-Control": "no-store"})


class WebhookAct(Room):
    """Send a test message, change the secret (it is in the answer), or disable an endpoint."""

    @extend_schema(
        operation_id="v1_webhooks_act",
        parameters=[OpenApiParameter("verb", str, "path", enum=list(_ACTS))],
        request=None,
        responses=EndpointWithSecretSerializer,
    )
    def post(self, request: Request, identity: str, verb: str) -> Response:
        endpoint = one(_visible(self), pk=identity)
        by = access.person(self.asking).account
        _ACTS[verb](endpoint, by=by, at=timezone.now())
        endpoint.refresh_from_db()
        if verb == "secret":
            return _with_secret(endpoint, status.HTTP_200_OK)
        return Response({**EndpointSerializer(endpoint).data, "secret": None})


class WebhookMessages(Room, ListAPIView[WebhookDelivery]):
    """The messages of one endpoint with their tries, newest first."""

    serializer_class = DeliverySerializer
    queryset = WebhookDelivery.objects.none()
    filterset_fields = ("state", "kind")

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        endpoint = one(_visible(self), pk=self.kwargs["identity"])
        return endpoint.deliveries.prefetch_related("attempts")


class WebhookReplay(Room):
    """Send a message again, as it was and under its own id."""

    @extend_schema(request=None, responses=DeliverySerializer)
    def post(self, request: Request, identity: str) -> Response:
        found = WebhookDelivery.objects.filter(endpoint__in=_visible(self))
        delivery = one(found.select_related("endpoint"), pk=identity)
        by = access.person(self.asking).account
        again = webhooks.replay(delivery, by=by, at=timezone.now())
        return Response(DeliverySerializer(again).data)
