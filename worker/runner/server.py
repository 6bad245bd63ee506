"""The runner's local socket: one order a connection, one JSON line a message.

The peer sends a `GenerationOrder` and reads `Delta`s up to one `Done` or `Refused`; closing the
connection cancels the order. A line `{"kind": "health"}` is answered with the runner's state.

What a slow peer has not read waits with the kernel, and then here as the few words that the engine
was ahead of it: never more than one answer, for `SLOW_READER_S` at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.db import connection

from modelops.contract import (
    Delta,
    Done,
    EndCause,
    GenerationOrder,
    RefusalReason,
    Refused,
    from_wire,
    to_wire,
)
from worker.runner.desk import Admission, Desk
from worker.runner.lease import LeaseHolder
from worker.runner.meter import Meter

log = logging.getLogger(__name__)

LINE_LIMIT_BYTES = 4 << 20
"""The longest order taken; far above any context length, far below what would hurt."""

FIRST_LINE_S = 10.0
END_S = 2.0
SLOW_READER_S = 30.0
"""How long a peer may leave its socket full before its order is cancelled."""

MAX_CONNECTIONS = 512
_THREADS = 8

Message = Delta | Done | Refused


class Server:
    """Serves one runner's orders on `url` (`unix:///path` or `tcp://host:port`)."""

    def __init__(
        self,
        url: str,
        *,
        desk: Desk,
        meter: Meter,
        holder: LeaseHolder,
        health: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._url, self._desk, self._meter, self._holder = url, desk, meter, holder
        self._health = health
        # Threads of our own: each keeps its own database connection for as long as it lives.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="order")
        self._connections: set[asyncio.Task[None]] = set()
        self._answering: dict[str, tuple[Admission, asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None
        self._is_ending = False

    async def start(self) -> None:
        """Begin to accept connections; an old socket file left by a dead runner is replaced."""
        parts = urlsplit(self._url)
        if parts.scheme == "unix":
            _clear_place(Path(parts.path))
            self._server = await asyncio.start_unix_server(
                self._on_connection, parts.path, limit=LINE_LIMIT_BYTES
            )
            _guard_place(Path(parts.path))
        else:
            self._server = await asyncio.start_server(
                self._on_connection, parts.hostname, parts.port, limit=LINE_LIMIT_BYTES
            )

    async def stop(self, grace_s: float) -> None:
        """Begin nothing more, give answers `grace_s` to end, then end them; rows are closed.

        Until then who connects is told that this runner is ending, and may go elsewhere.
        """
        self._is_ending = True
        await self._wait(grace_s)
        if self._server is not None:
            self._server.close()
        for admission, _ in tuple(self._answering.values()):
            await self._in_thread(admission.engine.cancel, admission.order.order_id)
        await self._wait(END_S)
        for _, writer in tuple(self._answering.values()):
            writer.transport.abort()
        await self._wait(END_S)
        await asyncio.to_thread(self._end_threads)

    async def _wait(self, timeout_s: float) -> None:
        if self._connections:
            await asyncio.wait(self._connections, timeout=timeout_s)

    def _end_threads(self) -> None:
        """Close each thread's database connection, then the threads."""
        together = threading.Barrier(_THREADS)  # so that no thread takes two of these errands

        def close_connection() -> None:
            connection.close()
            together.wait()

        for errand in [self._threads.submit(close_connection) for _ in range(_THREADS)]:
            errand.result()
        self._threads.shutdown(wait=True)

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        # Nothing may wait in our own memory: what was written is with the kernel or still checked.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the peer has gone; its order was cancelled on the way out
        except Exception:
            log.exception("a conversation failed")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(FIRST_LINE_S):
                line = await reader.readline()
        except ValueError:
            line = b"a line longer than the limit"
        if not line:
            return
        if _is_health(line):
            said = {"kind": "health", "is_ending": self._is_ending, **self._health()}
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
            return
        found = _order(line)
        if isinstance(found, GenerationOrder):
            found = self._why_no_place(found) or await self._in_thread(self._desk.admit, found)
        if isinstance(found, Refused):
            writer.write(to_wire(found))
            await writer.drain()
            return
        await self._answer(found, reader, writer)

    def _why_no_place(self, order: GenerationOrder) -> Refused | None:
        if self._is_ending:
            detail = "this runner is ending; another may answer, or the same one once it is back"
            return Refused(order.order_id, RefusalReason.ENDING, detail, retry=True)
        if len(self._connections) > MAX_CONNECTIONS:
            detail = f"more than {MAX_CONNECTIONS} orders at once; try again shortly"
            return Refused(order.order_id, RefusalReason.OVERLOADED, detail, retry=True)
        return None

    async def _answer(
        self, admission: Admission, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Generate, and keep the row's account whatever becomes of the connection."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[Message] = asyncio.Queue()

        def deliver(message: Message) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                loop.call_soon_threadsafe(inbox.put_nowait, message)

        engine, order_id = admission.engine, admission.order.order_id
        self._answering[order_id] = (admission, writer)
        try:
            await self._in_thread(engine.submit, admission.order, deliver)
            hangup = asyncio.create_task(_until_closed(reader))
            hangup.add_done_callback(lambda _: engine.cancel(order_id))
            end = await self._pass_on(admission, inbox, writer)
            hangup.cancel()
        finally:
            self._answering.pop(order_id, None)
        writer.write(to_wire(end))
        await _read_by_peer(writer)

    async def _pass_on(
        self, admission: Admission, inbox: asyncio.Queue[Message], writer: asyncio.StreamWriter
    ) -> Done | Refused:
        """Write deltas until the end comes; returns the end with its row closed, unwritten."""
        is_open = True
        while True:
            message = await inbox.get()
            if not isinstance(message, Delta):
                end = admission.end(message)
                return await self._in_thread(
                    self._meter.close, admission.record_id, end, admission.recomputed_without
                )
            if is_open:
                is_open = await self._let_out(admission, message, writer)

    async def _let_out(
        self, admission: Admission, delta: Delta, writer: asyncio.StreamWriter
    ) -> bool:
        """Write `delta` if it still may leave; else, or if nobody reads, end the order: False."""
        with self._holder.release:
            if delta.recomputed_without:
                admission.narrow(delta.recomputed_without)
            admission.held_back = self._desk.why_held_back(admission)
            if admission.held_back is EndCause.NONE:
                writer.write(to_wire(delta))
        try:
            if admission.held_back is EndCause.NONE:
                await _read_by_peer(writer)
                return True
        except (ConnectionError, TimeoutError):
            pass
        admission.engine.cancel(admission.order.order_id)
        return False

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)


def _clear_place(path: Path) -> None:
    """Make room for the socket."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _guard_place(path: Path) -> None:
    """Only this account may connect: whoever can speaks for the gateway."""
    path.chmod(0o600)


async def _read_by_peer(writer: asyncio.StreamWriter) -> None:
    """Wait until the kernel has taken what was written; at once where it has, as it mostly has.

    Raises:
        TimeoutError: the peer reads too slowly.
    """
    if writer.transport.is_closing() or writer.transport.get_write_buffer_size():
        async with asyncio.timeout(SLOW_READER_S):
            await writer.drain()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    # Anything a peer sends after its order is ignored; only the end of the stream means something.
    with contextlib.suppress(ConnectionError):
        while await reader.read(4096):
            pass


def _is_health(line: bytes) -> bool:
    try:
        return bool(json.loads(line).get("kind") == "health")
    except (ValueError, AttributeError):
        return False


def _order(line: bytes) -> GenerationOrder | Refused:
    try:
        message = from_wire(line)
    except ValueError as error:
        return Refused("", RefusalReason.BAD_ORDER, str(error))
    if not isinstance(message, GenerationOrder):
        detail = f"expected an order, found a {type(message).__name__}"
        return Refused(message.order_id, RefusalReason.BAD_ORDER, detail)
    return message
