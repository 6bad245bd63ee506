"""REST: licences in other vocabularies, and proposals out of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from governance import exchange
from governance.canonical import plain
from governance.exchange.rights import MAX_BYTES
from governance.models import Licence
from governance.vocabulary import Role
from web import access
from web.api.room import Room, one

READABLE = [code for code, each in exchange.FORMATS.items() if each.load]


class LossSerializer(serializers.Serializer[Any]):
    """One thing the other vocabulary cannot say, or ours cannot."""

    term = serializers.CharField()
    value = serializers.CharField()
    reason = serializers.CharField()
    direction = serializers.ChoiceField(choices=[str(each) for each in exchange.Direction])


class ExportSerializer(serializers.Serializer[Any]):
    """A licence in another vocabulary, with what that could not say."""

    format = serializers.ChoiceField(choices=list(exchange.FORMATS))
    media_type = serializers.CharField()
    body = serializers.CharField()
    losses = LossSerializer(many=True)


class ImportSerializer(serializers.Serializer[Any]):
    """A file in another vocabulary: `content` as text, or `file` as an upload."""

    format = serializers.ChoiceField(choices=READABLE)
    content = serializers.CharField(required=False, max_length=MAX_BYTES, trim_whitespace=False)
    file = serializers.FileField(required=False, max_length=200)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Exactly one of the two ways."""
        if ("content" in attrs) == ("file" in attrs):
            raise serializers.ValidationError("Expected either content or file. Send one of them.")
        return attrs


class ProposalSerializer(serializers.Serializer[Any]):
    """Terms a file proposes. Nothing is stored: request a licence with them, once completed."""

    terms = serializers.DictField(child=serializers.JSONField(), source="terms_fields")
    losses = LossSerializer(many=True)


class LicenceExport(Room):
    """A licence in another vocabulary; `?report=1` wraps it with what was lost."""

    @extend_schema(
        operation_id="v1_licences_export",
        parameters=[
            OpenApiParameter("format_code", str, "path", enum=list(exchange.FORMATS)),
            OpenApiParameter("report", bool, "query"),
        ],
        responses={200: ExportSerializer, (200, "*/*"): OpenApiTypes.ANY},
    )
    def get(self, request: Request, reference: str, format_code: str) -> HttpResponseBase:
        rows = Licence.objects.select_related("corpus__owner")
        licence = one(rows, reference=reference)
        readers = (Role.LEGAL, Role.ENGINEER, Role.AUDITOR)
        access.owner_for(self.asking, licence.corpus.owner.slug, or_staff=readers)
        rights = dataclasses.replace(
            exchange.of(licence),
            policy_url=request.build_absolute_uri(f"/api/v1/licences/{reference}/export/odrl"),
        )
        written = exchange.export(format_code, rights)
        if request.query_params.get("report"):
            told = {
                "format": format_code,
                "media_type": written.media_type,
                "body": written.body.decode(),
                "losses": written.losses,
            }
            return Response(ExportSerializer(told).data)
        answer = HttpResponse(written.body, content_type=written.media_type)
        name = f"{reference}{exchange.FORMATS[format_code].suffix}"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer


class Imports(Room):
    """Read a file in another vocabulary as proposed terms. Stores nothing; for legal staff."""

    parser_classes = (JSONParser, MultiPartParser)

    @extend_schema(request=ImportSerializer, responses=ProposalSerializer)
    def post(self, request: Request) -> Response:
        access.staff(self.asking, Role.LEGAL)
        given = self.given(ImportSerializer)
        upload = given.get("file")
        body = upload.read(MAX_BYTES + 1) if upload else given["content"].encode()
        found = exchange.load(given["format"], body)
        told = {"terms_fields": plain(found.terms_fields), "losses": found.losses}
        return Response(ProposalSerializer(told).data)
