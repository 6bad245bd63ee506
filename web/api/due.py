"""REST: the board of what is due, its clocks and gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import FollowUp
from governance.selectors.due import due_board
from governance.services import clocks, gaps
from governance.vocabulary import Clock, Role
from web import access
from web.api.room import Room, one, shown
from web.api.serializers import RunSerializer

_VERBS: dict[str, Callable[..., object]] = {"pause": clocks.pause, "resume": clocks.resume}


class DueSerializer(serializers.Serializer[Any]):
    """One clock that runs."""

    clock = serializers.CharField()
    what = serializers.CharField()
    about = serializers.CharField()
    subject = serializers.CharField()
    deadline = serializers.DateTimeField()
    words = serializers.CharField()
    is_paused = serializers.SerializerMethodField()

    def get_is_paused(self, line: Any) -> bool:
        """Whether it stands still."""
        return line.pause is not None


class ClockWords(serializers.Serializer[Any]):
    """Why a clock stands still, or runs again."""

    reason = serializers.CharField(default="", allow_blank=True)


class GapNote(serializers.Serializer[Any]):
    """How a gap was seen to."""

    note = serializers.CharField(default="", allow_blank=True)


class Due(Room):
    """Every clock that runs, soonest first; for legal staff."""

    @extend_schema(responses=DueSerializer(many=True))
    def get(self, request: Request) -> Response:
        access.staff(self.asking, Role.LEGAL)
        return Response(DueSerializer(due_board(at=timezone.now()), many=True).data)


class ClockVerb(Room):
    """Pause a clock that may be paused, with its reason, or let it run again; for legal staff."""

    @extend_schema(
        operation_id="v1_due_clock",
        parameters=[
            OpenApiParameter("clock", str, "path", enum=[str(each) for each in Clock]),
            OpenApiParameter("verb", str, "path", enum=list(_VERBS)),
        ],
        request=ClockWords,
        responses={204: None},
    )
    def post(self, request: Request, clock: str, identity: UUID, verb: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        reason = self.given(ClockWords)["reason"]
        _VERBS[verb](Clock(clock), UUID(str(identity)), by=by, at=timezone.now(), reason=reason)
        return Response(status=status.HTTP_204_NO_CONTENT)


class GapResolution(Room):
    """Note how a gap was seen to; where policy still cannot read it, it comes back."""

    @extend_schema(request=GapNote, responses=RunSerializer)
    def post(self, request: Request, identity: UUID) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        gap = one(FollowUp.objects.all(), pk=identity)
        note = self.given(GapNote)["note"]
        return shown(RunSerializer, gaps.resolve(gap, by=by, at=timezone.now(), note=note))
