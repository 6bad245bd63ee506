"""REST: requests, what people do with them, routes, absences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import django_filters
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    Account,
    ApprovalAct,
    ApprovalDelegation,
    ApprovalRequest,
    ApprovalStep,
    Consumer,
    ExpertRevision,
)
from governance.services import approvals, documents, signoffs
from governance.services.approvals import subjects
from governance.vocabulary import ApprovalKind, ApprovalRule, ApprovalState, Role
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


class AskForKey(serializers.Serializer[Any]):
    """A key somebody else is to approve."""

    consumer = serializers.SlugField()
    label = serializers.CharField(max_length=100)  # type: ignore[assignment] # a field named label
    purposes = serializers.ListField(child=serializers.CharField(max_length=64), min_length=1)
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=64), allow_null=True, default=None
    )
    expires_at = serializers.DateTimeField(allow_null=True, default=None)
    words = serializers.CharField(default="", allow_blank=True, max_length=10_000)


class AskForWaiver(serializers.Serializer[Any]):
    """A revision that is to serve although its audit did not pass."""

    revision = serializers.UUIDField()
    words = serializers.CharField(max_length=10_000)


class RouteStep(serializers.Serializer[Any]):
    """One step of a route."""

    title = serializers.CharField(max_length=200)
    role = serializers.CharField(default="", allow_blank=True, max_length=16)
    group = serializers.CharField(default="", allow_blank=True, max_length=64)
    needed = serializers.IntegerField(default=1, min_value=1, max_value=9)
    days = serializers.IntegerField(default=None, allow_null=True, min_value=1, max_value=3650)


class ProposeRoute(serializers.Serializer[Any]):
    """The next version of a route; in force once a colleague has approved it."""

    key = serializers.SlugField(max_length=64)
    kind = serializers.ChoiceField(choices=ApprovalKind.choices())
    title = serializers.CharField(max_length=200)
    steps = RouteStep(many=True)
    conditions = serializers.DictField(default=dict)
    rules = serializers.ListField(
        child=serializers.ChoiceField(choices=[(r.value, r.label) for r in ApprovalRule]),
        default=list,
    )
    is_on = serializers.BooleanField(default=True)


class RouteSerializer(serializers.Serializer[Any]):
    """A route in force; version 0 is what ships."""

    key = serializers.CharField()
    version = serializers.IntegerField()
    kind = serializers.CharField()
    title = serializers.CharField()
    steps = serializers.SerializerMethodField()
    conditions = serializers.DictField()
    rules = serializers.ListField(child=serializers.CharField())
    is_on = serializers.BooleanField()

    @extend_schema_field(RouteStep(many=True))
    def get_steps(self, route: approvals.Route) -> list[dict[str, Any]]:
        """The steps as they are proposed."""
        return [dict(vars(step)) for step in route.steps]


class AbsenceSerializer(serializers.ModelSerializer[ApprovalDelegation]):
    """A colleague decides in my place. `kinds` null is all kinds."""

    giver = serializers.CharField(source="giver.email", read_only=True)
    taker = serializers.CharField(source="taker.email", read_only=True)

    class Meta:
        model = ApprovalDelegation
        fields: ClassVar[list[str]] = [
            "id", "giver", "taker", "kinds", "starts_at", "ends_at", "reason", "revoked_at",
        ]  # fmt: skip


class RecordAbsence(serializers.Serializer[Any]):
    """Name who decides in my place, by e-mail address."""

    taker = serializers.EmailField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=ApprovalKind.choices()),
        allow_null=True,
        default=None,
    )
    reason = serializers.CharField(default="", allow_blank=True, max_length=200)


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
        return _rows().order_by("-opened_at")


class KeyRequests(Room):
    """Ask for an API key; a colleague approves exactly this one."""

    @extend_schema(request=AskForKey, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(AskForKey)
        consumer, words = (
            one(Consumer.objects.all(), slug=given.pop("consumer")),
            given.pop("words"),
        )
        subject = subjects.api_key(consumer, **given)
        found = approvals.ask(subject, by=by, at=timezone.now(), words=words)
        return shown(ApprovalSerializer, found, new=True)


class WaiverRequests(Room):
    """Ask that a revision may serve although its audit did not pass."""

    @extend_schema(request=AskForWaiver, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        given = self.given(AskForWaiver)
        rows = ExpertRevision.objects.select_related("expert__owner", "anchor")
        subject = subjects.waiver(one(rows, pk=given["revision"]))
        found = approvals.ask(subject, by=by, at=timezone.now(), words=given["words"])
        return shown(ApprovalSerializer, found, new=True)


class OneApproval(Room):
    """One request."""

    @extend_schema(responses=ApprovalSerializer)
    def get(self, request: Request, identity: str) -> Response:
        access.staff(self.asking)
        return shown(ApprovalSerializer, one(_rows(), pk=identity))


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
        return shown(ApprovalSerializer, one(_rows(), pk=identity))


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


class Routes(Room):
    """How requests go."""

    @extend_schema(responses=RouteSerializer(many=True))
    def get(self, request: Request) -> Response:
        access.staff(self.asking)
        return Response(RouteSerializer(approvals.in_force(), many=True).data)

    @extend_schema(request=ProposeRoute, responses={201: ApprovalSerializer})
    def post(self, request: Request) -> Response:
        """Propose the next version of a route; answered with the request a colleague decides."""
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        given = self.given(ProposeRoute)
        key, kind = given.pop("key"), ApprovalKind(given.pop("kind"))
        steps = [approvals.Step(**step) for step in given.pop("steps")]
        found = approvals.propose(key, kind=kind, steps=steps, **given, by=by, at=timezone.now())
        return shown(ApprovalSerializer, found, new=True)


class Absences(Room, ListAPIView[ApprovalDelegation]):
    """Who decides in whose place, as far as it is mine."""

    serializer_class = AbsenceSerializer
    queryset = ApprovalDelegation.objects.none()

    def get_queryset(self) -> QuerySet[ApprovalDelegation]:
        account = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        rows = ApprovalDelegation.objects.select_related("giver", "taker")
        return (rows.filter(giver=account) | rows.filter(taker=account)).order_by("-starts_at")

    @extend_schema(request=RecordAbsence, responses={201: AbsenceSerializer})
    def post(self, request: Request) -> Response:
        """Name who decides in my place."""
        account = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        given = self.given(RecordAbsence)
        taker = one(Account.objects.all(), email=given.pop("taker").lower())
        row = approvals.record_absence(
            giver=account, taker=taker, **given, by=account, at=timezone.now()
        )
        return Response(AbsenceSerializer(row).data, status=status.HTTP_201_CREATED)


def _rows() -> QuerySet[ApprovalRequest]:
    return ApprovalRequest.objects.select_related("owner", "requested_by").prefetch_related(
        "steps", "acts__actor", "acts__on_behalf_of", "acts__delegate"
    )
