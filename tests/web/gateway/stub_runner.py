"""A runner without a model: speaks the port's contract and does what the test tells it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from modelops.contract import (
    Delta,
    Done,
    FinishReason,
    GenerationOrder,
    Refused,
    ScoredToken,
    Tally,
    from_wire,
    to_wire,
)

Script = Callable[[GenerationOrder], Iterable[Delta | Done | Refused | float | bytes]]
"""What to answer an order: messages in turn; a float pauses for so many seconds, bytes go as is."""


def plain_answer(order: GenerationOrder):
    """Says which experts it was allowed, in three pieces."""
    names = ",".join(expert.name for expert in order.allowed) or "nobody"
    if order.score_prompt:
        yield Delta(order.order_id, "", scored=(
            ScoredToken(1, order.prompt[:1], 1, None), ScoredToken(2, order.prompt[1:], 9, -2.5),
        ))  # fmt: skip
    else:
        for piece in ("with ", names, "."):
            yield Delta(order.order_id, piece, (7,))
    mass = {"public": 3.0} | {expert.name: 1.0 for expert in order.allowed}
    yield Done(order.order_id, FinishReason.STOP, Tally(5, 3, {"public": 3}, mass),
               order.policy_epoch)  # fmt: skip


class StubRunner:
    """Listens on a unix socket from a thread of its own. `orders` is what it was sent.

    `hung_up_on` names those whose reader went away before their end.
    """

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self.script: Script = plain_answer
        self.orders: list[GenerationOrder] = []
        self.hung_up = threading.Event()
        self.hung_up_on: set[str] = set()
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_unix_server(self._answer, str(self._path))
        )
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order_id = ""
        try:
            line = await reader.readline()
            if b'"health"' in line:
                writer.write(b'{"kind": "health", "lease_ms_left": 900}\n')
                return
            order = from_wire(line)
            assert isinstance(order, GenerationOrder)
            self.orders.append(order)
            order_id = order.order_id
            steps = iter(self.script(order))  # in a thread: scripts may use the database
            while (step := await asyncio.to_thread(next, steps, None)) is not None:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    continue
                writer.write(step if isinstance(step, bytes) else to_wire(step))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            self.hung_up_on.add(order_id)
            self.hung_up.set()
        finally:
            writer.close()
