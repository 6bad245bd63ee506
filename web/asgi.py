"""ASGI entry point with three lanes, because they want three things of a server.

Static files need no Django at all. Gateway requests keep the event loop: they carry an API key and
no session, so none of the page middleware applies to them, and health has nothing to hide. Pages
and the REST API run the whole middleware chain in one thread per request.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.db import connection
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]

from web.gateway import database, gate
from web.gateway.gate import Receive, Scope, Send

HEALTH = ("/healthz", gate.READY_PATH)
PLAYGROUND = "/playground/answer/"
"""A page of our staff that answers as the gateway does, and within its bounds."""


class GatewayLane(ASGIHandler):
    """Django's request cycle without middleware; the gateway's views check the API key."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Without a thread of its own for each request: nothing here runs synchronous code.
        await self.handle(scope, receive, send)

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        answer = self._get_response_async  # type: ignore[attr-defined] # the stubs omit it
        self._middleware_chain = convert_exception_to_response(answer)


class StaticLane:
    """The files WhiteNoise found at start, sent in one piece each."""

    def __init__(self) -> None:
        self._files = WhiteNoiseMiddleware(None)

    def has(self, path: str) -> bool:
        return path in self._files.files

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        headers = {
            f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}": value.decode("latin-1")
            for name, value in scope["headers"]
        }
        found = self._files.files[scope["path"]].get_response(scope["method"], headers)
        body = b""
        if found.file is not None:
            body = found.file.read()
            found.file.close()
        await send(
            {
                "type": "http.response.start",
                "status": int(found.status),
                "headers": [
                    (name.lower().encode("latin-1"), value.encode("latin-1"))
                    for name, value in (*found.headers, ("X-Content-Type-Options", "nosniff"))
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})


class Lanes:
    """Chooses the lane by path; answers uvicorn's lifespan events itself."""

    def __init__(self) -> None:
        self._pages, self._static = ASGIHandler(), StaticLane()
        self._gateway = GatewayLane()
        self.gateway = gate.Gate(self._answering, settings.RECLAIM_OPEN_ANSWERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.gateway.is_ending = False
            await _lifespan(receive, send)
        elif scope["path"].startswith("/v1/") or scope["path"] in (*HEALTH, PLAYGROUND):
            await self.gateway(scope, receive, send)
        elif self._static.has(scope["path"]):
            await self._static(scope, receive, send)
        else:
            await self._pages(scope, receive, send)

    async def _answering(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane = self._pages if scope["path"] == PLAYGROUND else self._gateway
        await lane(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.shutdown":
            await asyncio.to_thread(database.hang_up)
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
django.setup()
if connection.vendor == "unknown":
    # Better no server than one that answers 500 to everything.
    connection.ensure_connection()

application = Lanes()
