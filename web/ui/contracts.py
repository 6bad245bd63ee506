"""Signed files on pages: shown beside the terms, and handed out as they were handed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from csp.constants import NONE, SELF
from csp.decorators import csp_replace, csp_update
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header
from django.views.decorators.clickjacking import xframe_options_sameorigin

from governance.models import Document

_SHOWN_AS = {
    "application/pdf": "pdf",
    "image/png": "picture",
    "image/jpeg": "picture",
    "text/plain": "text",
}
_MOST_SHOWN = 200_000


@dataclass(frozen=True)
class Viewed:
    """A signed file as a page shows it: how, and its text where it is one."""

    document: Document
    shown_as: str
    text: str


def viewed(document: Document) -> Viewed:
    """How a page shows the file; what browsers cannot show is only offered to keep."""
    shown_as = _SHOWN_AS.get(document.media_type, "")
    text = ""
    if shown_as == "text":
        text = bytes(document.content).decode("utf-8", "replace")[:_MOST_SHOWN]
    return Viewed(document, shown_as, text)


def sent(document: Document, *, is_kept: bool) -> HttpResponse:
    """The bytes as they were handed in; never run as anything, never cached by others."""
    is_shown = document.media_type in _SHOWN_AS and not is_kept
    answer = HttpResponse(bytes(document.content), content_type=document.media_type)
    kind = content_disposition_header(not is_shown, document.name)
    answer["Content-Disposition"] = kind or "attachment"
    answer["Cache-Control"] = "private, no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def framing(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A page that shows a file in a frame: its own site's frames are allowed."""
    return _keeping_gate(view, csp_update({"frame-src": [SELF]}))


def framed(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A file that our own pages may frame, and that may load nothing."""
    # A PDF viewer of a browser draws with styles and pictures of its own.
    lone = {
        "default-src": [NONE],
        "frame-ancestors": [SELF],
        "style-src": ["'unsafe-inline'"],
        "img-src": [SELF, "data:"],
        "object-src": [SELF],
        "script-src": [NONE],
    }
    return _keeping_gate(view, lambda inner: csp_replace(lone)(xframe_options_sameorigin(inner)))


def _keeping_gate(
    view: Callable[..., HttpResponseBase], decorate: Callable[..., Any]
) -> Callable[..., HttpResponseBase]:
    decorated = decorate(view)

    @wraps(view)
    def gated(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer: HttpResponseBase = decorated(request, *args, **kwargs)
        return answer

    gated.gate = view.gate  # type: ignore[attr-defined]
    return gated
