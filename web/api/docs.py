"""The reader's page of the REST API, drawn from the same schema that programs fetch.

Readers made for OpenAPI write their own styles into the page, which the site's rules refuse; this
one is a page like any other, also without script, in the dark and on a phone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import IsAuthenticated

from web import access

_EXAMPLE = """curl {site}/v1/chat/completions \\
  -H 'Authorization: Bearer rk_…' -H 'Content-Type: application/json' \\
  -d '{{"model": "reclaim", "messages": [{{"role": "user", "content": "Hello"}}]}}'"""
_METHODS = ("get", "post", "put", "patch", "delete")
_PREFIX = "/api/v1/"
_SHARED = frozenset({"limit", "cursor", "Idempotency-Key", "If-Match", "If-None-Match"})


class Schema(SpectacularAPIView):
    """The OpenAPI schema, for programs."""

    permission_classes = (IsAuthenticated,)


@dataclass(frozen=True)
class Field:
    """A parameter or a field of a request or an answer."""

    name: str
    kind: str
    is_required: bool
    about: str


@dataclass(frozen=True)
class Operation:
    """What one method of one address does, takes and answers."""

    method: str
    path: str
    about: str
    parameters: tuple[Field, ...]
    takes: tuple[Field, ...]
    answers: tuple[Field, ...]
    status: str


@access.signed_in_page
def page(request: HttpRequest) -> HttpResponse:
    """Every operation by what it is about."""
    example = _EXAMPLE.format(site=f"{request.scheme}://{request.get_host()}")
    return render(request, "api/docs.html", {"groups": groups(), "example": example})


@cache
def groups() -> dict[str, tuple[Operation, ...]]:
    """The operations by the first word of their address, in the order of the schema."""
    generator: Any = SchemaGenerator
    schema = generator().get_schema(request=None, public=True)
    found: dict[str, list[Operation]] = {}
    for path, methods in schema["paths"].items():
        for method in _METHODS:
            if method in methods:
                about = path.removeprefix(_PREFIX).split("/")[0]
                operation = _operation(schema, path, method, methods[method])
                found.setdefault(about, []).append(operation)
    return {about: tuple(operations) for about, operations in found.items()}


def _operation(schema: Any, path: str, method: str, stated: Any) -> Operation:
    status, answer = next(iter(stated["responses"].items()))
    return Operation(
        method=method.upper(),
        path=path,
        about=stated.get("description", ""),
        parameters=tuple(
            Field(
                each["name"],
                _kind(each["schema"]),
                each.get("required", False),
                "" if "enum" in each["schema"] else each.get("description", ""),
            )
            for each in stated.get("parameters", [])
            if each["name"] not in _SHARED
        ),
        takes=tuple(_fields(schema, _body(stated.get("requestBody", {})))),
        answers=tuple(_fields(schema, _rows(schema, _body(answer)))),
        status=status,
    )


def _body(stated: Any) -> Any:
    """The schema of the first media type of a body; empty where there is none."""
    for content in stated.get("content", {}).values():
        return content.get("schema", {})
    return {}


def _resolved(schema: Any, part: Any) -> Any:
    if "$ref" not in part:
        return part
    return schema["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]]


def _rows(schema: Any, part: Any) -> Any:
    """What a page of a list holds; anything else as it is."""
    results = _resolved(schema, part).get("properties", {}).get("results")
    return results["items"] if results else part


def _fields(schema: Any, part: Any) -> Iterator[Field]:
    stated = _resolved(schema, part)
    required = stated.get("required", [])
    for name, each in stated.get("properties", {}).items():
        yield Field(name, _kind(each), name in required, each.get("description", ""))


def _kind(stated: Any) -> str:
    """A type in words: "uuid", "list of string", "one of a, b"."""
    if "enum" in stated:
        return "one of " + ", ".join(str(each) for each in stated["enum"])
    if "$ref" in stated:
        return str(stated["$ref"].rsplit("/", 1)[1]).removesuffix("Enum").lower()
    for joined in ("allOf", "oneOf"):
        if joined in stated:
            return " or ".join(_kind(each) for each in stated[joined])
    types = stated.get("type", "any")
    named = [each for each in types if each != "null"] if isinstance(types, list) else [types]
    kind = "any" if not named else str(stated.get("format") or named[0])
    if "array" in named:
        kind = f"list of {_kind(stated['items'])}"
    return f"{kind} or null" if "null" in types and kind != "null" else kind
