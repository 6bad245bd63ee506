"""REST: requests, what people do with them, routes, absences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    Account,
    ApprovalAct,
    ApprovalRequest,
    ApprovalStep,
)
from governance.services import approvals, documents, signoffs
from governance.vocabulary import ApprovalState, Role
from web import access, approving, stepup
from web.api.room import Room, one, shown

_DECISIONS: dict[str, Callable[..., object]] = {
    "approve": signoffs.approve,
    "reject": signoffs.reject,
    "return": signoffs.send_back,
}
_MOVES: dict[str, Callable[..., object]] = {
    "pause": approvals.pause,
    "resume": approvals.resume,
    "withdraw": signoffs.take_back,
}


class StepSerializer(serializers.ModelSerializer[ApprovalStep]):
    """One step of a request's round."""

    class Meta:
        model = ApprovalStep
        fields: ClassVar[list[str]] = [
            "round", "number", "title", "role", "group", "needed", "days",
        ]  # fmt: skip


class ActSerializer(serializers.ModelSerializer[ApprovalAct]):
    """What one person did with a request. `actor` is null for the system."""

    actor = serializers.CharField(source="actor.email", allow_null=True, read_only=True)
    on_behalf_of = serializers.CharField(
        source="on_behalf_of.email", allow_null=True, read_only=True
    )
    delegate = serializers.CharField(source="delegate.email", allow_null=True, read_only=True)
    document = serializers.CharField(source="document_id", allow_null=True, read_only=True)
    is_rule = serializers.BooleanField(source="actor.is_bot", default=False, read_only=True)

    class Meta:
        model = ApprovalAct
        fields: ClassVar[list[str]] = [
            "id", "round", "step_number", "verb", "actor", "is_rule", "on_behalf_of", "delegate",
            "digest", "words", "is_visible_to_owner", "document", "acted_at",
        ]  # fmt: skip


class ApprovalSerializer(serializers.ModelSerializer[ApprovalRequest]):
    """A request, bound to `digest`, which is over `content`."""

    owner = serializers.CharField(source="owner.slug", allow_null=True, read_only=True)
    requested_by = serializers.CharField(source="requested_by.email", read_only=True)
    steps = StepSerializer(many=True, read_only=True)
    acts = ActSerializer(many=True, read_only=True)

    class Meta:
        model = ApprovalRequest
        fields: ClassVar[list[str]] = [
            "id", "kind", "subject_kind", "subject_id", "title", "content", "digest", "owner",
            "route_key", "route_version", "rules", "requested_by", "opened_at", "round",
            "step_number", "due_at", "paused_at", "state", "closed_at", "closing_words",
            "spent_at", "steps", "acts",
        ]  # fmt: skip


class Words(serializers.Serializer[Any]):
    """Words for an act; returning and pausing need some."""

    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)


class Comment(serializers.Serializer[Any]):
    """Something said in the thread."""

    words = serializers.CharField(max_length=10_000)
    is_visible_to_owner = serializers.BooleanField(default=False)


class Attachment(serializers.Serializer[Any]):
    """A file beside the request."""

    file = serializers.FileField()
    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)
    is_visible_to_owner = serializers.BooleanField(default=False)


class HandOver(serializers.Serializer[Any]):
    """Who decides this one in my place, by e-mail address."""

    to = serializers.EmailField()
    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)


class ApprovalFilter(django_filters.FilterSet):
    """Requests by state, kind, owner and lateness."""

    owner = django_filters.CharFilter(field_name="owner__slug")
    overdue = django_filters.BooleanFilter(method="late", label="its deadline is past")

    class Meta:
        model = ApprovalRequest
        fields = ("state", "kind", "subject_id", "owner", "overdue")

    def late(
        self,
        rows: QuerySet[ApprovalRequest],
        _name: str,
        is_late: bool,
    ) -> QuerySet[ApprovalRequest]:
        """Open, with a running clock whose deadline is past; or everything else."""
        late = {"state": ApprovalState.OPEN, "due_at__lt": timezone.now(), "paused_at": None}
        return rows.filter(**late) if is_late else rows.exclude(**late)


class Approvals(Room, ListAPIView[ApprovalRequest]):
    """Requests, with their steps and threads; for our staff."""

    serializer_class = ApprovalSerializer
    queryset = ApprovalRequest.objects.none()
    filterset_class = ApprovalFilter

    def get_queryset(self) -> QuerySet[ApprovalRequest]:
        access.staff(self.asking)
        return rows().order_by("-opened_at")


class OneApproval(Room):
    """One request."""

    @extend_schema(responses=ApprovalSerializer)
    def get(self, request: Request, identity: str) -> Response:
        access.staff(self.asking)
        return shown(ApprovalSerializer, one(rows(), pk=identity))


class ApprovalVerb(Room):
    """Approve, reject or return for change; pause or resume its clock; take one's own back.

    Nobody decides their own request, nor a second step of one.
    """

    @extend_schema(
        operation_id="v1_approvals_act",
        parameters=[OpenApiParameter("verb", str, "path", enum=[*_DECISIONS, *_MOVES])],
        request=Words,
        responses=ApprovalSerializer,
    )
    def post(self, request: Request, identity: str, verb: str) -> Response:
        found = approving.request_for(self.asking, identity)
        if verb in _DECISIONS:
            by = approving.decider(self.asking, found)
            stepup.check_rest(request)
        else:
            by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        act = {**_DECISIONS, **_MOVES}[verb]
        act(found, by=by, at=timezone.now(), words=self.given(Words)["words"])
        return shown(ApprovalSerializer, one(rows(), pk=identity))


class ApprovalComments(Room):
    """Say something in a thread."""

    @extend_schema(request=Comment, responses={201: ActSerializer})
    def post(self, request: Request, identity: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        found = approving.request_for(self.asking, identity)
        act = approvals.comment(found, **self.given(Comment), by=by, at=timezone.now())
        return shown(ActSerializer, act, new=True)


class ApprovalAttachments(Room):
    """Put a file beside a request."""

    parser_classes = (MultiPartParser,)

    @extend_schema(request=Attachment, responses={201: ActSerializer})
    def post(self, request: Request, identity: str) -> Response:
        by, now = access.staff(self.asking, Role.LEGAL, Role.ENGINEER), timezone.now()
        found = approving.request_for(self.asking, identity)
        given = self.given(Attachment)
        file = given.pop("file")
        media_type = str(file.content_type)
        document = documents.store(
            file.read(), name=file.name, media_type=media_type, by=by, at=now
        )
        act = approvals.attach(found, document=document, **given, by=by, at=now)
        return shown(ActSerializer, act, new=True)


class ApprovalHandOver(Room):
    """Let a colleague decide one request in my place."""

    @extend_schema(request=HandOver, responses={201: ActSerializer})
    def post(self, request: Request, identity: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        found = approving.request_for(self.asking, identity)
        given = self.given(HandOver)
        to = one(Account.objects.all(), email=given["to"].lower())
        act = approvals.hand_over(found, to=to, words=given["words"], by=by, at=timezone.now())
        return shown(ActSerializer, act, new=True)


def rows() -> QuerySet[ApprovalRequest]:
    """Requests with everything an answer tells of them."""
    return ApprovalRequest.objects.select_related("owner", "requested_by").prefetch_related(
        "steps", "acts__actor", "acts__on_behalf_of", "acts__delegate"
    )
