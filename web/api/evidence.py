"""REST: what is read as evidence: a licence on trial, an owner's history, the log checked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.log import sequencer
from governance.log.verify import verify
from governance.models import Licence, OwnerChange
from governance.services import consent, whatif
from governance.services.consent import dpv
from governance.vocabulary import Role
from web import access
from web.api.room import Room, one

LONGEST_DAYS = 90


class ConsumerEffectSerializer(serializers.Serializer[whatif.ConsumerEffect]):
    """What changes for one consumer, in requests of the period."""

    consumer = serializers.CharField()
    requests = serializers.IntegerField()
    changed = serializers.IntegerField()
    refused = serializers.IntegerField()
    admitted = serializers.IntegerField()


class ExpertEffectSerializer(serializers.Serializer[whatif.ExpertEffect]):
    """In how many requests an expert would be won or lost."""

    expert = serializers.CharField()
    gained = serializers.IntegerField()
    lost = serializers.IntegerField()


class WhatIfSerializer(serializers.Serializer[whatif.Effect]):
    """What would differ: the period's decisions asked again of policy with the change."""

    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    as_of = serializers.DateTimeField()
    policy_epoch = serializers.IntegerField()
    requests = serializers.IntegerField()
    left_out = serializers.IntegerField()
    asked_alike = serializers.IntegerField()
    changed = serializers.IntegerField()
    consumers = ConsumerEffectSerializer(many=True)
    experts = ExpertEffectSerializer(many=True)


class Days(serializers.Serializer[Any]):
    """How far back to ask."""

    days = serializers.IntegerField(min_value=1, max_value=LONGEST_DAYS, default=30)


class LicenceWhatIf(Room):
    """What approving a requested licence, or taking an approved one away, would have changed."""

    @extend_schema(parameters=[Days], responses=WhatIfSerializer)
    def get(self, request: Request, reference: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        licence = one(Licence.objects.select_related("corpus"), reference=reference)
        asked = Days(data=request.query_params)
        asked.is_valid(raise_exception=True)
        now = timezone.now()
        since = now - timedelta(days=asked.validated_data["days"])
        found = whatif.effect(whatif.deciding(licence), since=since, until=now, by=by)
        return Response(WhatIfSerializer(found).data)


class OwnerChangeSerializer(serializers.ModelSerializer[OwnerChange]):
    """How an owner stood from an instant on, and which facts that changed."""

    facts = serializers.DictField()
    actor = serializers.CharField(source="by.full_name", allow_null=True, default=None)

    class Meta:
        model = OwnerChange
        fields: ClassVar[list[str]] = ["at", "changed", "facts", "reason", "actor"]


class OwnerHistory(Room, ListAPIView[OwnerChange]):
    """Every change of an owner, newest first; for legal staff."""

    serializer_class = OwnerChangeSerializer
    queryset = OwnerChange.objects.none()
    ordering = ("-at",)
    ordering_fields = ("at",)

    def get_queryset(self) -> QuerySet[OwnerChange]:
        access.staff(self.asking, Role.LEGAL)
        owner = access.owner_for(self.asking, self.kwargs["slug"], or_staff=(Role.LEGAL,))
        return owner.changes.select_related("by")


class LogReportSerializer(serializers.Serializer[Any]):
    """What a check of the whole log found; sound without a problem."""

    origin = serializers.CharField()
    size = serializers.IntegerField()
    root_hash = serializers.CharField(source="root")
    heads = serializers.IntegerField()
    waiting = serializers.IntegerField()
    problems = serializers.ListField(child=serializers.CharField())
    is_sound = serializers.BooleanField()


class LogVerification(Room):
    """Check the whole log now; for legal staff and auditors."""

    @extend_schema(responses=LogReportSerializer)
    def get(self, request: Request) -> Response:
        access.staff(self.asking, Role.LEGAL, Role.AUDITOR)
        log = sequencer.configured()
        report = verify(log.origin, log.signer.verifier, log.tiles)
        return Response(LogReportSerializer(report).data)


class ConsentLinkedData(Room):
    """A consent record as JSON-LD of the Data Privacy Vocabulary."""

    @extend_schema(
        parameters=[OpenApiParameter("identity", OpenApiTypes.UUID, "path")],
        responses=OpenApiTypes.OBJECT,
    )
    def get(self, request: Request, identity: UUID) -> Response:
        record = one(access.consents_for(self.asking), pk=identity)
        return Response(dpv.export(consent.receipt(record)))
