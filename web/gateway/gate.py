"""In front of the gateway: how many answers may be open at once, and whether new ones are taken.

It stands before Django, so that a request too many costs nothing. What one answer may hold in
memory is bounded by its connections (`web.serve`, `web.gateway.port`).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest

from web.gateway.errors import GatewayError
from web.gateway.pool import RunnerPool

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Lane = Callable[[Scope, Receive, Send], Awaitable[None]]
Ending = Callable[[], Awaitable[None]]

READY_PATH = "/readyz"

ENDING = "reclaim.ending"
END_S = 2.0
"""How long answers that were cut short get to say so."""

LOOK_S = 0.05


def at_end(request: HttpRequest, ending: Ending) -> None:
    """Have `ending` called when an answer is over, also one that never began to stream.

    Nobody else hears of that one: its client left before the first of it could be written.
    """
    getattr(request, "scope", {}).get(ENDING, []).append(ending)


class Gate:
    """Lets at most `most` answers through to `lane` at once, and none once `drain` was called."""

    def __init__(self, lane: Lane, most: int) -> None:
        self._lane, self._most = lane, most
        self._open = 0
        self.is_ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_answer = scope.get("method") == "POST"
        refused = self._why_not() if is_answer or scope["path"] == READY_PATH else None
        if refused is not None:
            await _refuse(refused, send, is_last=self.is_ending)
            return
        if not is_answer:
            await self._lane(scope, receive, send)
            return
        self._open += 1
        scope[ENDING] = endings = list[Ending]()
        try:
            await self._lane(scope, receive, send)
        finally:
            self._open -= 1
            for ending in endings:
                await ending()

    def _why_not(self) -> GatewayError | None:
        if self.is_ending:
            return _busy("gateway_ending", "This gateway is being stopped; ask again shortly.")
        if self._open >= self._most:
            return _busy("gateway_full", f"{self._most} answers are open here; ask again shortly.")
        return None

    async def drain(self, grace_s: float, runners: RunnerPool) -> None:
        """Take no new answers; after `grace_s` cut those that still run, each with its own end.

        Answers that come on pages pass no gate; they count by their conversations with `runners`.
        """
        self.is_ending = True
        await self._until_quiet(grace_s, runners)
        runners.hang_up("This gateway is being stopped; ask again.")
        await self._until_quiet(END_S, runners)

    async def _until_quiet(self, timeout_s: float, runners: RunnerPool) -> None:
        until_s = time.monotonic() + timeout_s
        # Two counts, looked at for some seconds once in the life of a process.
        while (self._open or runners.open_answers) and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)


def _busy(code: str, message: str) -> GatewayError:
    return GatewayError(HTTPStatus.SERVICE_UNAVAILABLE, code, message, retry_after_s=1)


async def _refuse(error: GatewayError, send: Send, *, is_last: bool) -> None:
    response = error.response()
    response["X-Request-Id"] = str(uuid.uuid4())
    response["Content-Length"] = str(len(response.content))
    if is_last:
        response["Connection"] = "close"
    headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})
