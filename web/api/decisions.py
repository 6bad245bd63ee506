"""REST: decision records, each replayed when it is read."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance import selectors
from governance.models import DecisionRecord
from governance.policy.types import Ask
from governance.services import decisions
from governance.vocabulary import Why
from web import access
from web.api.room import Room, one
from web.ui.lists.decisions import READERS, DecisionFilter


class DecisionSerializer(serializers.ModelSerializer[DecisionRecord]):
    """Why one request was permitted or denied, in OPA's field names. Never a prompt."""

    class Meta:
        model = DecisionRecord
        fields: ClassVar[list[str]] = [
            "decision_id", "timestamp", "labels", "bundles", "path", "input", "result",
            "requested_by", "policy_epoch", "erased", "masked", "metrics",
        ]  # fmt: skip


class ReplaySerializer(serializers.Serializer[Any]):
    """The decision made again from the stored policy, question and instant."""

    is_same = serializers.BooleanField(help_text="the answer has the same canonical bytes")
    policy_is_same = serializers.BooleanField(
        help_text="the policy stored for that epoch is the one the record names by digest"
    )
    decided = serializers.JSONField(allow_null=True)


class CoveredSerializer(serializers.Serializer[Any]):
    """An expert that was allowed, and the licence it is charged to."""

    expert = serializers.CharField()
    licence = serializers.CharField()
    corpus = serializers.CharField()
    owner = serializers.CharField()
    terms_digest = serializers.CharField()


class ReplayedDecisionSerializer(DecisionSerializer):
    """One decision with its licences and its replay."""

    licences = CoveredSerializer(many=True)
    replay = ReplaySerializer()

    class Meta(DecisionSerializer.Meta):
        fields: ClassVar[list[str]] = [*DecisionSerializer.Meta.fields, "licences", "replay"]


class Decisions(Room, ListAPIView[DecisionRecord]):
    """Decisions, newest first; for legal staff and auditors."""

    serializer_class = DecisionSerializer
    queryset = DecisionRecord.objects.none()
    filterset_class = DecisionFilter
    ordering = ("-timestamp",)
    ordering_fields = ("timestamp", "policy_epoch")
    is_counted = False

    def get_queryset(self) -> QuerySet[DecisionRecord]:
        access.staff(self.asking, *READERS)
        return DecisionRecord.objects.all()


class OneDecision(Room):
    """One decision, decided again as it is read; for legal staff and auditors."""

    @extend_schema(responses=ReplayedDecisionSerializer)
    def get(self, request: Request, identity: str) -> Response:
        access.staff(self.asking, *READERS)
        found = one(DecisionRecord.objects.all(), pk=identity)
        shown = {
            **DecisionSerializer(found).data,
            "licences": CoveredSerializer(selectors.licences_behind(found.pk), many=True).data,
            "replay": ReplaySerializer(decisions.replay(found)).data,
        }
        return Response(shown)


class AskedWhy(serializers.Serializer[Any]):
    """A question as policy is asked it, an expert, and when."""

    consumer = serializers.CharField(max_length=64)
    purpose = serializers.CharField(max_length=64)
    territory = serializers.CharField(max_length=2)
    sector = serializers.CharField(max_length=64, default="", allow_blank=True)
    recipient_class = serializers.CharField(max_length=32, default="", allow_blank=True)
    expert = serializers.CharField(max_length=64)
    at = serializers.DateTimeField()


class WhyNotSerializer(serializers.Serializer[Any]):
    """Why an expert could not be used; without a reason it could."""

    expert = serializers.CharField()
    policy_epoch = serializers.IntegerField()
    asked_at = serializers.DateTimeField()
    why = serializers.ListField(child=serializers.ChoiceField(choices=Why.choices()))
    sentence = serializers.CharField()


class WhyNotAsked(Room):
    """Why an ask could not have used an expert at an instant; for legal staff and auditors."""

    @extend_schema(parameters=[AskedWhy], responses=WhyNotSerializer)
    def get(self, request: Request) -> Response:
        access.staff(self.asking, *READERS)
        asked = AskedWhy(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = dict(asked.validated_data)
        expert, at = given.pop("expert"), given.pop("at")
        found = selectors.why_not(Ask(**given), expert, at)
        if found is None:
            raise serializers.ValidationError(
                {"at": ["Expected an instant after the first policy was published."]}
            )
        return Response(WhyNotSerializer(found).data)
