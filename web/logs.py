"""Log lines: structlog and the standard library's loggers through one renderer.

Prompts and answers never reach a line (they are not stored by default); a request's line carries
its path without the query.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO
from uuid import uuid4

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from web.environment import Lines

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

# Without the local variables: they may hold a prompt, a password or a key.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)

log = structlog.stdlib.get_logger("reclaim.web")


def arrange(lines: Lines, stream: TextIO) -> None:
    """Send every logger of this process to `stream`; repeatable, the last call wins."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if lines.as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _TRACEBACKS if lines.as_json else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
    )
    outlet = logging.StreamHandler(stream)
    outlet.setFormatter(formatter)
    outlet.set_name("reclaim")
    root = logging.getLogger()
    for earlier in [entry for entry in root.handlers if entry.get_name() == "reclaim"]:
        root.removeHandler(earlier)
    root.addHandler(outlet)
    root.setLevel(lines.level)
    for loud in ("asyncio", "axes", "httpx", "urllib3", "uvicorn.access"):
        logging.getLogger(loud).setLevel(logging.WARNING)


class RequestLines:
    """Middleware: one line per request, with a request id the answer carries as X-Request-Id."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = uuid4().hex
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self._get_response(request)
            log.info(
                "request",
                method=request.method,
                path=request.path,
                status=response.status_code,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
            )
        response["X-Request-Id"] = request_id
        return response
