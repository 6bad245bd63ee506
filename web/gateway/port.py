"""The one door to the runner: orders out, pieces of answers back, over a local socket.

Everything else on the web side takes the port's words (`GenerationOrder`, `Delta`, `Done`,
`Refused`) from here, so that this is the only module that knows `modelops.contract`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
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
    "RefusalReason",
    "Refused",
    "RunnerPort",
    "RunnerUnavailable",
    "Sampling",
    "ScoredToken",
    "Tally",
    "Turn",
]

_LINE_LIMIT_BYTES = 16 * 1024 * 1024
"""Scored prompts come back in one line; a context of 4,096 tokens stays far below this."""


class RunnerUnavailable(Exception):
    """No runner answers, or it stopped in the middle of an answer."""


@dataclass(frozen=True)
class RunnerPort:
    """Where a runner listens: `unix:///path/to.sock` or `tcp://host:port`.

    `quiet_s` bounds the silence between two messages; a runner that is silent for longer is
    treated as gone.
    """

    url: str
    connect_s: float = 2.0
    quiet_s: float = 60.0

    async def stream(self, order: GenerationOrder) -> AsyncGenerator[Delta | Done | Refused]:
        """Send `order` and yield what comes back, up to and including `Done` or `Refused`.

        Leaving the iteration closes the connection, which cancels the order at the runner.

        Raises:
            RunnerUnavailable: no runner listens, or it fell silent or went away in between.
        """
        async with self._connected() as (reader, writer):
            writer.write(to_wire(order))
            await writer.drain()
            while True:
                message = await self._next(reader)
                yield message
                if isinstance(message, Done | Refused):
                    return

    async def _next(self, reader: asyncio.StreamReader) -> Delta | Done | Refused:
        try:
            line = await asyncio.wait_for(reader.readline(), self.quiet_s)
        except (TimeoutError, OSError, ValueError) as error:
            raise RunnerUnavailable(f"the runner at {self.url} fell silent: {error}") from error
        if not line.endswith(b"\n"):
            raise RunnerUnavailable(f"the runner at {self.url} went away in the middle")
        try:
            message = from_wire(line)
        except ValueError as error:
            raise RunnerUnavailable(f"the runner at {self.url} is not one: {error}") from error
        if isinstance(message, GenerationOrder):
            raise RunnerUnavailable(f"the runner at {self.url} answered with an order")
        return message

    @asynccontextmanager
    async def _connected(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        try:
            reader, writer = await asyncio.wait_for(self._open(), self.connect_s)
        except (TimeoutError, OSError) as error:
            raise RunnerUnavailable(
                f"expected a runner at {self.url}, found none ({error}); start it: `reclaim up`"
            ) from error
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return await asyncio.open_unix_connection(parts.path, limit=_LINE_LIMIT_BYTES)
        return await asyncio.open_connection(parts.hostname, parts.port, limit=_LINE_LIMIT_BYTES)


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
