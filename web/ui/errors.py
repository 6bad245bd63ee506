"""Error pages. They say nothing of what exists: a row you may not see is a plain 404."""

from __future__ import annotations

from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

from web.api import problems

_API = "/api/"


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    return _page(request, "403.html", 403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    if request.path.startswith(_API):
        return problems.not_found(request)
    return _page(request, "404.html", 404)


def failed(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(_API):
        return problems.failed()
    # No request in the context: what failed may be the very thing a context processor asks.
    return HttpResponse(render_to_string("500.html"), status=500)


def _page(request: HttpRequest, template: str, status: int) -> HttpResponse:
    try:
        return render(request, template, status=status)
    finally:
        # Django may do this in a thread of its pool, whose connection no request's end closes.
        if not connection.in_atomic_block:
            close_old_connections()
