"""ETag, If-None-Match and If-Match: what an answer's version is, and changes bound to one.

The version of a thing is the digest of what a GET of it shows to the person asking. A change with
If-Match is carried out only if that is still what the thing looks like; changes with If-Match to
one address are held one after another, so two of them never pass on the same version.
"""

from __future__ import annotations

import copy
import hashlib
from http import HTTPStatus
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from rest_framework.exceptions import APIException

_SILENT = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IDEMPOTENCY_KEY")


class NotThatVersion(APIException):
    """The thing has changed since, or cannot be read."""

    status_code = HTTPStatus.PRECONDITION_FAILED
    default_code = "changed_since"
    default_detail = "Expected the version in If-Match, found another. Read it again and decide."


def mark(request: HttpRequest, response: HttpResponse) -> HttpResponseBase:
    """A whole answer with its version, or 304 where the person has it already."""
    response["ETag"] = version = _version(response.content)
    response["Cache-Control"] = response.headers.get("Cache-Control", "private, no-cache")
    answer = get_conditional_response(request, etag=version, response=response)
    return answer if answer is not None else response


def check(request: HttpRequest) -> None:
    """Hold a change to the version its If-Match names; needs an open transaction.

    Raises:
        NotThatVersion: it is another by now.
    """
    named = parse_etags(request.headers["If-Match"])
    path = request.path
    for _ in range(2):
        found = _read(request, path)
        if found is not None:
            _one_by_one(path)
            found = _read(request, path)
            break
        path = path.rsplit("/", 1)[0]
    is_there = found is not None and found.status_code == HTTPStatus.OK
    if not is_there or ("*" not in named and _version(found.content) not in named):  # type: ignore[union-attr]
        raise NotThatVersion


def _version(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _read(request: HttpRequest, path: str) -> HttpResponse | None:
    """What a GET of `path` shows to the same person; None where nothing can be read there."""
    try:
        match = resolve(path)
    except Resolver404:
        return None
    view: Any = getattr(match.func, "view_class", None) or getattr(match.func, "cls", None)
    if view is None or not hasattr(view, "get"):
        return None
    reading = copy.copy(request)
    reading.method, reading.path, reading.path_info = "GET", path, path
    reading.META = {name: value for name, value in request.META.items() if name not in _SILENT}
    reading.META["QUERY_STRING"] = ""
    if hasattr(reading, "environ"):
        reading.environ = reading.META
    for cached in ("headers", "GET"):
        reading.__dict__.pop(cached, None)
    answer: Any = match.func(reading, *match.args, **match.kwargs)
    if hasattr(answer, "render"):
        answer.render()
    return answer if isinstance(answer, HttpResponse) else None


def _one_by_one(path: str) -> None:
    told = hashlib.sha256(f"If-Match {path}".encode()).digest()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s)", [int.from_bytes(told[:8], "big", signed=True)]
        )
