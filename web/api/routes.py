"""REST: how requests go: routes, the groups they name, and who decides in whose place."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import Account, ApprovalDelegation
from governance.services import approvals
from governance.vocabulary import ApprovalKind, ApprovalRule, Role
from web import access, stepup
from web.api.approvals import ApprovalSerializer
from web.api.room import Room, one, shown


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


class GroupSerializer(serializers.ModelSerializer[Group]):
    """A group that steps may ask for, with its people by e-mail address."""

    members = serializers.SerializerMethodField()

    class Meta:
        model = Group
        fields: ClassVar[list[str]] = ["name", "members"]

    def get_members(self, group: Group) -> list[str]:
        """In the order of their addresses."""
        return sorted(account.email for account in group.user_set.all())


class SetGroup(serializers.Serializer[Any]):
    """Who is in a group from now on, by e-mail address."""

    name = serializers.CharField(max_length=64)
    members = serializers.ListField(child=serializers.EmailField(), max_length=500)


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


class AbsenceEnd(Room):
    """Decide for oneself again."""

    @extend_schema(request=None, responses=AbsenceSerializer)
    def post(self, request: Request, identity: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL, Role.ENGINEER)
        row = one(ApprovalDelegation.objects.all(), pk=identity, giver=by)
        return shown(AbsenceSerializer, approvals.end_absence(row, by=by, at=timezone.now()))


class Groups(Room):
    """Groups that steps may ask for; for our staff."""

    @extend_schema(responses=GroupSerializer(many=True), operation_id="v1_approval_groups_list")
    def get(self, request: Request) -> Response:
        access.staff(self.asking)
        rows = Group.objects.prefetch_related("user_set").order_by("name")
        return Response(GroupSerializer(rows, many=True).data)

    @extend_schema(request=SetGroup, responses=GroupSerializer)
    def post(self, request: Request) -> Response:
        """Say who is in a group; nobody adds themselves."""
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        given = self.given(SetGroup)
        wanted = {email.lower() for email in given["members"]}
        members = Account.objects.filter(email__in=wanted)
        if len(members) < len(wanted):
            unknown = ", ".join(sorted(wanted - {each.email for each in members}))
            raise serializers.ValidationError({"members": [f"Expected accounts, found {unknown}."]})
        group = approvals.set_group(given["name"], members=members, by=by, at=timezone.now())
        return Response(GroupSerializer(group).data)
