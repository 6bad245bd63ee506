"""Errors of the REST API as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from governance.errors import GovernanceError


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to a lawful refusal or a malformed request; anything else is a fault of ours."""
    if isinstance(error, GovernanceError):
        return _problem(error.status, error.code, error.message, error.fields)
    response = exception_handler(error, context)
    if response is None:
        return None
    fields: dict[str, Any] = {}
    detail, code = "", "error"
    if isinstance(error, exceptions.ValidationError):
        fields = response.data if isinstance(response.data, dict) else {"body": response.data}
        detail, code = "The request does not fit; see `fields`.", "invalid"
    elif isinstance(response.data, dict):
        found = response.data.get("detail", "")
        detail, code = str(found), str(getattr(found, "code", code))
    problem = _problem(response.status_code, code, detail, fields)
    for name, value in response.headers.items():
        if name.lower() != "content-type":
            problem[name] = value
    return problem


def not_found(request: HttpRequest) -> HttpResponse:
    """An address that the interface does not have."""
    detail = f"Expected an address that /api/schema lists, found {request.path}."
    return _plain(404, "not_found", detail)


def failed() -> HttpResponse:
    """A fault of ours, without its cause."""
    return _plain(500, "fault", "Something failed on our side. Ask again; a repeat is safe.")


def _plain(status: int, code: str, detail: str) -> HttpResponse:
    body = _problem(status, code, detail, {}).data
    return JsonResponse(body, status=status, content_type="application/problem+json")


def _problem(status: int, code: str, detail: str, fields: dict[str, Any]) -> Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if fields:
        body["fields"] = fields
    return Response(body, status=status, content_type="application/problem+json")
