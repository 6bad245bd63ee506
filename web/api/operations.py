"""REST: builds, runs and runners."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView, RetrieveAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import (
    Build,
    FollowUp,
    HandOut,
    RunnerLease,
)
from governance.services import (
    builds,
)
from governance.vocabulary import Role
from web import access
from web.api import acts
from web.api.room import Room, one, shown
from web.api.serializers import (
    BuildSerializer,
    HandOutSerializer,
    RunnerSerializer,
    RunSerializer,
)


class Builds(Room, ListAPIView[Build]):
    """Builds, newest first; for staff."""

    serializer_class = BuildSerializer
    queryset = Build.objects.none()
    ordering_fields = ("number", "planned_at", "state")
    filterset_fields = ("state",)

    def get_queryset(self) -> QuerySet[Build]:
        access.staff(self.asking)
        return Build.objects.select_related("anchor")

    @extend_schema(request=acts.PlanBuild, responses={201: BuildSerializer})
    def post(self, request: Request) -> Response:
        """Plan a rebuild from what is active now; for engineers."""
        by = access.staff(self.asking, Role.ENGINEER)
        reason = self.given(acts.PlanBuild)["reason"]
        build = builds.plan_current(reason=reason, by=by, at=timezone.now())
        return shown(BuildSerializer, build, new=True)


class OneBuild(Room, RetrieveAPIView[Build]):
    """One build by its number."""

    serializer_class = BuildSerializer
    lookup_field = "number"
    queryset = Build.objects.none()

    def get_queryset(self) -> QuerySet[Build]:
        access.staff(self.asking)
        return Build.objects.select_related("anchor")


class HandOuts(Room, ListAPIView[HandOut]):
    """To whom copies of a build's files went, newest first; for staff."""

    serializer_class = HandOutSerializer
    queryset = HandOut.objects.none()
    ordering_fields = ("at",)

    def get_queryset(self) -> QuerySet[HandOut]:
        access.staff(self.asking)
        build = one(Build.objects.all(), number=self.kwargs["number"])
        return HandOut.objects.filter(build=build).select_related("by")


class Runs(Room, ListAPIView[FollowUp]):
    """Long work and its progress, newest first; for staff."""

    serializer_class = RunSerializer
    queryset = FollowUp.objects.none()
    ordering_fields = ("opened_at", "due_at", "state")
    filterset_fields = ("kind", "state", "subject_kind", "subject_id")

    def get_queryset(self) -> QuerySet[FollowUp]:
        access.staff(self.asking)
        return FollowUp.objects.all()


class Runners(Room, ListAPIView[RunnerLease]):
    """Runners and what they hold; for staff."""

    serializer_class = RunnerSerializer
    queryset = RunnerLease.objects.none()
    ordering_fields = ("runner", "renewed_at", "started_at")

    def get_queryset(self) -> QuerySet[RunnerLease]:
        access.staff(self.asking)
        return RunnerLease.objects.select_related("loaded_build").order_by("-renewed_at")
