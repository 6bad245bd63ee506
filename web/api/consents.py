"""REST: consent records with their receipts, and on which basis an activity rests."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import ConsentRecord, ProcessingActivity
from governance.services import activities, consent
from governance.vocabulary import LawfulBasis, Role, Use
from web import access
from web.api.room import Room, one
from web.api.serializers import ConsentReceiptSerializer


class ConsentSerializer(serializers.ModelSerializer[ConsentRecord]):
    """One consent: to what and for which purposes. Its receipt holds the whole of it."""

    owner = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    expert = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    licence = serializers.SlugRelatedField[Any](slug_field="reference", read_only=True)

    class Meta:
        model = ConsentRecord
        fields: ClassVar[list[str]] = [
            "id", "owner", "expert", "licence", "purposes", "processing", "lawful_basis",
            "controller", "jurisdiction", "record_digest", "created_at",
        ]  # fmt: skip


class ActivitySerializer(serializers.ModelSerializer[ProcessingActivity]):
    """On which basis an activity rests from now on."""

    class Meta:
        model = ProcessingActivity
        fields: ClassVar[list[str]] = ["id", "activity", "lawful_basis", "justification"]


class RecordBasis(serializers.Serializer[Any]):
    """Say on which basis an activity rests; it permits nothing, licences do."""

    activity = serializers.ChoiceField(choices=Use.choices())
    lawful_basis = serializers.ChoiceField(choices=LawfulBasis.choices())
    justification = serializers.CharField(default="", allow_blank=True, max_length=5_000)


class Consents(Room, ListAPIView[ConsentRecord]):
    """Consent records: all for legal staff and auditors, their own for owners."""

    serializer_class = ConsentSerializer
    queryset = ConsentRecord.objects.none()

    def get_queryset(self) -> QuerySet[ConsentRecord]:
        return access.consents_for(self.asking)


class ConsentReceipt(Room):
    """The receipt of a consent, with everything that happened to it."""

    @extend_schema(responses=ConsentReceiptSerializer)
    def get(self, request: Request, identity: UUID) -> Response:
        return Response(consent.receipt(one(access.consents_for(self.asking), pk=identity)))


class ConsentBasis(Room):
    """Record on which basis an activity on the record's expert rests; for legal staff."""

    @extend_schema(request=RecordBasis, responses={201: ActivitySerializer})
    def post(self, request: Request, identity: UUID) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        record = one(access.consents_for(self.asking), pk=identity)
        given = self.given(RecordBasis)
        basis = LawfulBasis(given["lawful_basis"])
        row = activities.record(
            record.expert,
            activity=Use(given["activity"]),
            lawful_basis=basis,
            licence=record.licence if basis == LawfulBasis.CONTRACT else None,
            justification=given["justification"],
            by=by,
            at=timezone.now(),
        )
        return Response(ActivitySerializer(row).data, status=status.HTTP_201_CREATED)
