"""REST: pauses and endings of experts with their preview, legal holds, the board of what is due."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import Expert, LegalHold, Licence
from governance.services import effects, experts, holds
from governance.vocabulary import Instrument, Role
from web import access, stepup
from web.api.acts import DemandInput, demand_of
from web.api.room import Room, one, shown
from web.api.serializers import EndingSerializer

_STAFF = (Role.LEGAL, Role.ENGINEER)
_HOLD_ACTS = {"approve": holds.approve, "refuse": holds.refuse, "lift": holds.lift}
_REACH = [
    OpenApiParameter("instrument", str, enum=[str(one) for one in Instrument]),
    OpenApiParameter("purposes", str, many=True, description="none: all"),
    OpenApiParameter("consumers", str, many=True, description="none: everybody"),
]


class ReachSerializer(serializers.Serializer[Any]):
    """How far an act reaches. Empty lists mean everything."""

    purposes = serializers.ListField(child=serializers.CharField(max_length=64), default=list)
    consumers = serializers.ListField(child=serializers.SlugField(), default=list)
    reason = serializers.CharField(default="", allow_blank=True)


class InstrumentSerializer(DemandInput, ReachSerializer):
    """One of the six instruments, put on an expert."""

    instrument = serializers.ChoiceField(choices=Instrument.choices())


class AffectedSerializer(serializers.Serializer[Any]):
    """A consumer an act would reach, with its use of the last 30 days."""

    slug = serializers.CharField()
    name = serializers.CharField()
    requests = serializers.IntegerField()
    tokens = serializers.IntegerField()
    last_used_at = serializers.DateTimeField()
    may_wind_down = serializers.BooleanField()


class PreviewSerializer(serializers.Serializer[Any]):
    """What an act would do. Nothing has happened."""

    instrument = serializers.CharField(source="rule.instrument")
    disabled_at = serializers.DateTimeField()
    wind_down_until = serializers.DateTimeField(allow_null=True)
    erases = serializers.BooleanField()
    held_until = serializers.DateTimeField(allow_null=True)
    requests = serializers.IntegerField()
    tokens = serializers.IntegerField()
    consumers = AffectedSerializer(many=True)
    builds = serializers.ListField(child=serializers.IntegerField())
    sentences = serializers.ListField(child=serializers.CharField())


class HoldSerializer(serializers.ModelSerializer[LegalHold]):
    """An order to keep an expert's bytes for a while."""

    expert = serializers.SlugRelatedField[Expert](slug_field="name", read_only=True)

    class Meta:
        model = LegalHold
        fields: ClassVar[list[str]] = [
            "id", "expert", "authority", "reason", "until_at", "state", "requested_at",
            "decided_at", "lifted_at",
        ]  # fmt: skip


class RequestHold(serializers.Serializer[Any]):
    """Ask for a hold; a second person decides."""

    authority = serializers.CharField(max_length=200)
    reason = serializers.CharField()
    until_at = serializers.DateTimeField()


def _asked(request: Request) -> tuple[Instrument, effects.Scope]:
    instrument = request.query_params.get("instrument", Instrument.WITHDRAW)
    if instrument not in set(Instrument):
        raise Http404
    asked = request.query_params
    scope = effects.Scope.of(asked.getlist("purposes"), asked.getlist("consumers"))
    return Instrument(instrument), scope


class ExpertEffect(Room):
    """What an instrument would do to an expert, or put it into effect."""

    @extend_schema(parameters=_REACH, responses=PreviewSerializer)
    def get(self, request: Request, name: str) -> Response:
        expert = access.expert_for(self.asking, name, or_staff=_STAFF)
        instrument, scope = _asked(request)
        found = effects.preview(expert, instrument=instrument, scope=scope, at=timezone.now())
        return Response(PreviewSerializer(found).data)

    @extend_schema(request=InstrumentSerializer, responses={201: EndingSerializer})
    def post(self, request: Request, name: str) -> Response:
        """Put an instrument into effect. Repeated, it gives the first ending back."""
        expert = access.expert_for(self.asking, name, or_staff=_STAFF)
        if expert.owner_id not in access.person(self.asking).owner_ids:
            stepup.check_rest(request)
        given = self.given(InstrumentSerializer)
        done = effects.put_into_effect(
            Instrument(given["instrument"]),
            expert,
            by=access.person(self.asking).account,
            at=timezone.now(),
            method="api",
            scope=effects.Scope.of(given["purposes"], given["consumers"]),
            reason=given["reason"],
            demand=demand_of(given),
        )
        return shown(EndingSerializer, done.ending, new=True)


class ExpertResumption(Room):
    """Lift a pause of an expert that one's own side put."""

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, name: str) -> Response:
        expert = access.expert_for(self.asking, name, or_staff=_STAFF)
        experts.resume(expert, by=access.person(self.asking).account, at=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class LicenceEffect(Room):
    """What an instrument would do to a licence."""

    @extend_schema(parameters=_REACH, responses=PreviewSerializer)
    def get(self, request: Request, reference: str) -> Response:
        licence = one(Licence.objects.select_related("corpus"), reference=reference)
        asking = access.person(self.asking)
        if licence.corpus.owner_id not in asking.owner_ids and not asking.has(Role.LEGAL):
            raise Http404
        instrument, scope = _asked(request)
        found = effects.preview(licence, instrument=instrument, scope=scope, at=timezone.now())
        return Response(PreviewSerializer(found).data)


class ExpertHolds(Room):
    """Legal holds of an expert: read by its owner and legal staff, asked for by legal staff."""

    @extend_schema(responses=HoldSerializer(many=True))
    def get(self, request: Request, name: str) -> Response:
        expert = access.expert_for(self.asking, name, or_staff=(Role.LEGAL,))
        return Response(HoldSerializer(LegalHold.objects.filter(expert=expert), many=True).data)

    @extend_schema(request=RequestHold, responses={201: HoldSerializer})
    def post(self, request: Request, name: str) -> Response:
        """Ask for a hold; a second person decides."""
        by = access.staff(self.asking, Role.LEGAL)
        expert = one(Expert.objects.all(), name=name)
        hold = holds.request(expert, **self.given(RequestHold), by=by, at=timezone.now())
        return shown(HoldSerializer, hold, new=True)


class HoldDecision(Room):
    """Approve or refuse a hold, never one's own; or lift one."""

    @extend_schema(
        parameters=[OpenApiParameter("verb", str, "path", enum=list(_HOLD_ACTS))],
        request=None,
        responses=HoldSerializer,
    )
    def post(self, request: Request, identity: str, verb: str) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        hold = one(LegalHold.objects.select_related("expert"), pk=identity)
        return shown(HoldSerializer, _HOLD_ACTS[verb](hold, by=by, at=timezone.now()))
