"""The one door to a runner: orders out, pieces of answers back, over a local socket.

Everything else on the web side takes the port's words (`GenerationOrder`, `Delta`, `Done`,
`Refused`) from here, so that this is the only module that knows `modelops.contract`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from modelops.contract import (
    PUBLIC,
    Delta,
    Done,
    EndCause,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
    Sampling,
    ScoredToken,
    Tally,
    Turn,
    from_wire,
    to_wire,
)

__all__ = [
    "PUBLIC",
    "Delta",
    "Done",
    "EndCause",
    "ExpertRef",
    "FinishReason",
    "GenerationOrder",
    "HungUp",
    "RefusalReason",
    "Refused",
    "RunnerLost",
    "RunnerPort",
    "RunnerUnavailable",
    "Sampling",
    "ScoredToken",
    "Tally",
    "Turn",
]

HELD_BYTES = 64 * 1024
"""So much of an answer may wait here for a slow client; then the runner has to wait as well."""

_LINE_LIMIT_BYTES = 16 * 1024 * 1024
"""Scored prompts come back in one line; a context of 4,096 tokens stays far below this."""


class RunnerUnavailable(Exception):
    """The runner cannot be reached; the order was not sent."""


class RunnerLost(Exception):
    """The runner went away after the order was sent: it may have begun, and is not sent again."""


class HungUp(RunnerLost):
    """This side ended the conversation."""


@dataclass(frozen=True)
class RunnerPort:
    """Where a runner listens: `unix:///path/to.sock` or `tcp://host:port`.

    `quiet_s` bounds the silence between two messages; a runner that is silent for longer is
    treated as gone.
    """

    url: str
    connect_s: float = 2.0
    quiet_s: float = 60.0
    _lines: set[_Lines] = field(default_factory=set, compare=False, repr=False)

    async def stream(self, order: GenerationOrder) -> AsyncGenerator[Delta | Done | Refused]:
        """Send `order` and yield what comes back, up to and including `Done` or `Refused`.

        Leaving the iteration closes the connection, which cancels the order at the runner.

        Raises:
            RunnerUnavailable: no runner listens.
            RunnerLost: it fell silent or went away in between; HungUp: `hang_up` was called.
        """
        async with self._connected() as lines:
            lines.send(to_wire(order))
            while True:
                message = self._read(await lines.next())
                yield message
                if isinstance(message, Done | Refused):
                    return

    async def health(self) -> Mapping[str, Any]:
        """What the runner says about itself.

        Raises:
            RunnerUnavailable, RunnerLost: as `stream`.
        """
        async with self._connected() as lines:
            lines.send(b'{"kind": "health"}\n')
            try:
                said: dict[str, Any] = json.loads(await lines.next())
            except ValueError as error:
                raise RunnerLost("what answers is no runner") from error
            return said

    def hang_up(self, why: str) -> None:
        """End every conversation under way; the runner cancels what it was answering."""
        for lines in tuple(self._lines):
            lines.end(HungUp(why))

    def _read(self, line: bytes) -> Delta | Done | Refused:
        try:
            message = from_wire(line)
        except ValueError as error:
            raise RunnerLost(f"what answers is no runner: {error}") from error
        if isinstance(message, GenerationOrder):
            raise RunnerLost("what answers is no runner: it sent an order")
        return message

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Lines]:
        try:
            async with asyncio.timeout(self.connect_s):
                lines = await self._open()
        except (TimeoutError, OSError) as error:
            raise RunnerUnavailable(
                f"expected a runner at {self.url}, found none ({error}); start it: `reclaim up`"
            ) from error
        self._lines.add(lines)
        try:
            yield lines
        finally:
            self._lines.discard(lines)
            lines.close()

    async def _open(self) -> _Lines:
        loop, parts = asyncio.get_running_loop(), urlsplit(self.url)

        if parts.scheme == "unix":
            _, lines = await loop.create_unix_connection(self._made, parts.path)
        else:
            _, lines = await loop.create_connection(
                self._made, str(parts.hostname), parts.port or 0
            )
        return lines

    def _made(self) -> _Lines:
        return _Lines(self.quiet_s)


class _Lines(asyncio.Protocol):
    """One connection's lines, taken one by one; nothing is read while many wait to be taken."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._loop = asyncio.get_running_loop()
        self._whole: deque[bytes] = deque()
        self._rest = b""
        self._held_bytes = 0
        self._is_paused = False
        self._taker: asyncio.Future[None] | None = None
        self._ended: RunnerLost | None = None
        self._heard_s = self._loop.time()
        self._watch = self._loop.call_later(quiet_s, self._look)

    def send(self, line: bytes) -> None:
        self._transport.write(line)

    async def next(self) -> bytes:
        """The next line.

        Raises:
            RunnerLost: there is none and none will come.
        """
        if not self._whole:
            if self._ended is not None:
                raise self._ended
            self._taker = self._loop.create_future()
            try:
                await self._taker
            finally:
                self._taker = None
            if self._ended is not None and not self._whole:
                raise self._ended
        line = self._whole.popleft()
        self._held_bytes -= len(line)
        if self._is_paused and self._ended is None and self._held_bytes < HELD_BYTES // 2:
            self._is_paused, self._heard_s = False, self._loop.time()
            self._transport.resume_reading()
        return line

    def end(self, why: RunnerLost) -> None:
        """Nothing comes any more; what is here already can still be taken."""
        self._ended = self._ended or why
        self._wake()
        self.close()

    def close(self) -> None:
        self._watch.cancel()
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._whole.extend(whole)
        self._held_bytes += sum(map(len, whole))
        if self._held_bytes > HELD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        if whole:
            self._wake()
        elif len(self._rest) > _LINE_LIMIT_BYTES:
            self.end(RunnerLost(f"the runner sent a line of more than {_LINE_LIMIT_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        why = "the runner went away in the middle" + (f": {exc}" if exc else "")
        self.end(RunnerLost(why))

    def _wake(self) -> None:
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    def _look(self) -> None:
        """Whether the runner has been silent for too long; not while we would not listen."""
        left_s = self._quiet_s - (self._loop.time() - self._heard_s)
        if left_s <= 0 and not self._is_paused:
            self.end(RunnerLost(f"the runner fell silent for {self._quiet_s:g} s"))
        else:
            self._watch = self._loop.call_later(max(left_s, 0.05), self._look)


def ask_on_the_wire(
    *,
    consumer: str,
    purpose: str,
    territory: str,
    exclude: frozenset[str],
    require: frozenset[str],
    sector: str = "",
    recipient_class: str = "",
) -> Mapping[str, Any]:
    """The ask as it rides in an order, for the runner to decide again on its own snapshot."""
    return {
        "consumer": consumer,
        "purpose": purpose,
        "territory": territory,
        "exclude": sorted(exclude),
        "require": sorted(require),
        "sector": sector,
        "recipient_class": recipient_class,
    }
