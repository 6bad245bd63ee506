"""REST: policy as code. A file is planned, which changes nothing, or applied."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from governance.services import policyfile
from governance.vocabulary import Role
from web import access, stepup
from web.api.room import Room


class PolicyText(serializers.Serializer[Any]):
    """A policy file: its YAML, and what messages shall call it."""

    content = serializers.CharField(max_length=policyfile.MAX_BYTES, trim_whitespace=False)
    name = serializers.CharField(max_length=200, default="policy.yaml")


class PolicyChangeSerializer(serializers.Serializer[Any]):
    """One field that the file says otherwise."""

    field = serializers.CharField()
    before = serializers.CharField()
    after = serializers.CharField()


class PolicyStepSerializer(serializers.Serializer[Any]):
    """What becomes of one thing; `line` is null for what is not in the file."""

    kind = serializers.CharField()
    name = serializers.CharField()
    action = serializers.ChoiceField(choices=policyfile.Action.choices())
    why = serializers.CharField()
    changes = PolicyChangeSerializer(many=True)
    line = serializers.IntegerField(allow_null=True)


class PolicyOutcomeSerializer(serializers.Serializer[Any]):
    """What became of everything in the file, and of what exists beside it."""

    steps = PolicyStepSerializer(many=True)


class PolicyPlan(Room):
    """What applying a policy file would do, and nothing done; for legal staff."""

    @extend_schema(request=PolicyText, responses=PolicyOutcomeSerializer)
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        given = self.given(PolicyText)
        found = policyfile.plan(given["content"], name=given["name"], by=by, at=timezone.now())
        return Response(PolicyOutcomeSerializer({"steps": found}).data)


class PolicyApplication(Room):
    """Carry a policy file out, all or nothing; licences and routes are asked for, never granted."""

    @extend_schema(request=PolicyText, responses=PolicyOutcomeSerializer)
    def post(self, request: Request) -> Response:
        by = access.staff(self.asking, Role.LEGAL)
        stepup.check_rest(request)
        given = self.given(PolicyText)
        found = policyfile.apply(given["content"], name=given["name"], by=by, at=timezone.now())
        return Response(PolicyOutcomeSerializer({"steps": found}).data)
