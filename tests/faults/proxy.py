"""A network between a runner and its database that fails as networks do.

One `Line` is one runner's way to PostgreSQL: every connection over it can be slowed down, cut, or
left open while nothing arrives any more, in one direction or both. All lines of a world share one
thread with an event loop; attributes are set from others.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass

_LOOK_S = 0.002
_RENEWAL = b"INTO governance_runnerlease"


@dataclass
class Line:
    """One runner's way to the server. What is held is never delivered: the connection is cut."""

    server: tuple[str, int]
    port: int = 0
    delay_s: float = 0.0
    holds_requests: bool = False
    holds_renewals: bool = False
    holds_replies: bool = False
    holds_notices: bool = False
    is_cut: bool = False

    def heal(self) -> None:
        """Everything passes again, over new connections where something was held."""
        self.delay_s = 0.0
        self.holds_requests = self.holds_renewals = False
        self.holds_replies = self.holds_notices = self.is_cut = False

    async def listen(self) -> asyncio.Server:
        """Accept connections from now on, at `port`."""
        accepting = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = accepting.sockets[0].getsockname()[1]
        return accepting

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            if not self.is_cut:
                server = await asyncio.open_connection(*self.server)
                await Link(self, (reader, writer), server).carry()
        except OSError:
            pass
        finally:
            writer.close()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class Link:
    """One connection over a line."""

    line: Line
    client: Ends
    server: Ends
    listens: bool = False

    async def carry(self) -> None:
        """Until either side closes, or the line is cut."""
        pumps = [
            asyncio.create_task(self._pump(self.client[0], self.server[1], is_request=True)),
            asyncio.create_task(self._pump(self.server[0], self.client[1], is_request=False)),
            asyncio.create_task(self._until_cut()),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for _, writer in (self.client, self.server):
                writer.transport.abort()

    async def _until_cut(self) -> None:
        while not self.line.is_cut:  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(_LOOK_S)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(1 << 16):
                self.listens |= is_request and b"LISTEN" in chunk
                # The answer to a request that arrived is slow, not the request itself.
                if self.line.delay_s and not is_request:
                    await asyncio.sleep(self.line.delay_s)
                if self._holds(chunk, is_request=is_request):
                    while self._holds(chunk, is_request=is_request):  # noqa: ASYNC110 - likewise
                        await asyncio.sleep(_LOOK_S)
                    return
                sink.write(chunk)
                await sink.drain()

    def _holds(self, chunk: bytes, *, is_request: bool) -> bool:
        line = self.line
        if is_request:
            return line.holds_requests or (line.holds_renewals and _RENEWAL in chunk)
        return line.holds_replies or (line.holds_notices and self.listens)


class Network:
    """The thread that all lines of a world live in."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._ready, self._stopping = threading.Event(), asyncio.Event()
        self._accepting: list[asyncio.Server] = []
        self._thread = threading.Thread(target=asyncio.run, args=(self._live(),), daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._stopping.wait()
        for each in self._accepting:
            each.close()

    def line(self) -> Line:
        """A new way to the server, listening."""
        made = Line(self._server)
        opening = asyncio.run_coroutine_threadsafe(made.listen(), self._loop)
        self._accepting.append(opening.result(10))
        return made

    def stop(self) -> None:
        """End every connection and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(timeout=5)
