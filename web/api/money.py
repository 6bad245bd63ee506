"""REST: duties, statements and quotas."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import Document, Duty, Licence, Statement, StatementRemark
from governance.services import duties, quotas, statements
from governance.vocabulary import RemarkKind, Role
from web import access
from web.api.room import Room, one, shown
from web.ui import downloads


class DutySerializer(serializers.ModelSerializer[Duty]):
    """Something owed to an owner; `state` is due, overdue or done."""

    owner = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    licence = serializers.SlugRelatedField[Any](slug_field="reference", read_only=True)
    expert = serializers.SlugRelatedField[Any](slug_field="name", read_only=True, allow_null=True)
    state = serializers.SerializerMethodField()

    class Meta:
        model = Duty
        fields: ClassVar = [
            "id",
            "owner",
            "licence",
            "expert",
            "action",
            "about",
            "cause",
            "state",
            "opened_at",
            "due_at",
            "done_at",
            "proof",
            "proof_document",
        ]

    def get_state(self, duty: Duty) -> str:
        """At this moment."""
        if duty.done_at is not None:
            return "done"
        return "overdue" if duty.due_at <= timezone.now() else "due"


class RemarkSerializer(serializers.ModelSerializer[StatementRemark]):
    """Words about a statement."""

    written_by = serializers.CharField(read_only=True)

    class Meta:
        model = StatementRemark
        fields: ClassVar = ["kind", "text", "written_by", "written_at"]


class StatementSerializer(serializers.ModelSerializer[Statement]):
    """An owner's account of a month; `digest` is over the canonical JSON of `body`."""

    owner = serializers.SlugRelatedField[Any](slug_field="slug", read_only=True)
    month = serializers.SerializerMethodField()
    remarks = RemarkSerializer(many=True, read_only=True)

    class Meta:
        model = Statement
        fields: ClassVar = [
            "id",
            "owner",
            "month",
            "body",
            "digest",
            "rows_digest",
            "row_count",
            "issued_at",
            "remarks",
        ]

    def get_month(self, statement: Statement) -> str:
        """As YYYY-MM."""
        return f"{statement.month:%Y-%m}"


class QuotaSerializer(serializers.Serializer[Any]):
    """How far a quota is used in its present period."""

    licence = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True)
    max_tokens = serializers.IntegerField(allow_null=True)
    max_answers = serializers.IntegerField(allow_null=True)
    spent_tokens = serializers.IntegerField()
    promised_tokens = serializers.IntegerField()
    spent_answers = serializers.IntegerField()
    promised_answers = serializers.IntegerField()
    is_used_up = serializers.BooleanField()


class FulfilDuty(serializers.Serializer[Any]):
    """Proof that a duty was fulfilled: words, a document handed in before, or both."""

    proof = serializers.CharField(default="", allow_blank=True, max_length=10_000)
    document = serializers.RegexField(r"\A[0-9a-f]{64}\Z", required=False, allow_null=True)


class IssueStatement(serializers.Serializer[Any]):
    """Whose statement, for which month."""

    owner = serializers.SlugField()
    month = serializers.DateField(input_formats=["%Y-%m"], help_text="YYYY-MM")


class WriteRemark(serializers.Serializer[Any]):
    """Owners dispute or comment, legal staff answer or settle."""

    kind = serializers.ChoiceField(choices=RemarkKind.choices())
    text = serializers.CharField(max_length=10_000)


class Duties(Room, ListAPIView[Duty]):
    """What is owed under licences: all for staff, their own for owners. Most urgent first."""

    serializer_class = DutySerializer
    queryset = Duty.objects.none()
    filterset_fields = ("action", "owner__slug", "licence__reference")

    def get_queryset(self) -> QuerySet[Duty]:
        found = Duty.objects.select_related("owner", "licence", "expert").order_by("due_at", "id")
        asking = access.person(self.asking)
        return found if asking.has(*access.STAFF) else found.filter(owner__in=asking.owner_ids)


class DutyFulfilment(Room):
    """Mark a duty as done, with proof; for legal staff."""

    @extend_schema(request=FulfilDuty, responses=DutySerializer)
    def post(self, request: Request, identity: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        duty, given = one(Duty.objects.all(), pk=identity), self.given(FulfilDuty)
        digest = given.get("document")
        document = one(Document.objects.all(), pk=digest) if digest else None
        done = duties.mark_done(
            duty, by=by, at=timezone.now(), proof=given["proof"], document=document
        )
        return shown(DutySerializer, done)


class Statements(Room, ListAPIView[Statement]):
    """Statements, newest month first: all for legal staff and auditors, their own for owners."""

    serializer_class = StatementSerializer
    queryset = Statement.objects.none()
    filterset_fields = ("owner__slug", "month")

    def get_queryset(self) -> QuerySet[Statement]:
        return _statements(self)

    @extend_schema(request=IssueStatement, responses={201: StatementSerializer})
    def post(self, request: Request) -> Response:
        """Issue the statement of a month that has ended; repeating it gives the same one."""
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(IssueStatement)
        owner = access.owner_for(self.asking, given["owner"], or_staff=(Role.LEGAL,))
        issued = statements.issue(owner, month=given["month"], by=by, at=timezone.now())
        return shown(StatementSerializer, issued, new=True)


class OneStatement(Room, RetrieveAPIView[Statement]):
    """One statement."""

    serializer_class = StatementSerializer
    queryset = Statement.objects.none()
    lookup_url_kwarg = "identity"

    def get_queryset(self) -> QuerySet[Statement]:
        return _statements(self)


class StatementRows(Room):
    """The rows a statement was computed from, as JSON lines; their SHA-256 is `rows_digest`."""

    @extend_schema(
        responses={(200, "application/jsonl"): OpenApiResponse(OpenApiTypes.STR, "JSON lines")}
    )
    def get(self, request: Request, identity: str) -> HttpResponseBase:
        return downloads.rows_json_lines(one(_statements(self), pk=identity))


class StatementRemarks(Room):
    """Dispute or comment a statement (its owner), answer or settle a dispute (legal staff)."""

    @extend_schema(request=WriteRemark, responses={201: StatementSerializer})
    def post(self, request: Request, identity: str) -> Response:
        statement = one(_statements(self), pk=identity)
        by = access.person(self.asking).account
        statements.remark(statement, **self.given(WriteRemark), by=by, at=timezone.now())
        return shown(StatementSerializer, one(_statements(self), pk=identity), new=True)


class Quotas(Room):
    """How far the quotas of licences in force are used: all for staff, their own for owners."""

    @extend_schema(responses=QuotaSerializer(many=True))
    def get(self, request: Request) -> Response:
        asking, now = access.person(self.asking), timezone.now()
        found = Licence.objects.in_force(now)
        if not asking.has(*access.STAFF):
            found = found.filter(corpus__owner__in=asking.owner_ids)
        references = list(found.values_list("reference", flat=True))
        rows = quotas.standings(references, at=now).values()
        return Response(QuotaSerializer(rows, many=True).data)


def _statements(room: Room) -> QuerySet[Statement]:
    found = Statement.objects.select_related("owner").prefetch_related("remarks__written_by")
    asking = access.person(room.asking)
    is_staff = asking.has(Role.LEGAL, Role.AUDITOR)
    return found if is_staff else found.filter(owner__in=asking.owner_ids)
