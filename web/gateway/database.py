"""Database calls from async views: a few threads of their own, each with its own connection.

A thread keeps its connection, since making one costs more than the calls do; one that may have
been dropped meanwhile is looked at before it is used.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import connection

from governance import tenancy

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 8
IDLE_S = 1.0
"""After so long without a call a connection is asked whether it is still one."""

_used = threading.local()

# The gateway acts for consumers under the compiled policy, so it reads as the system does.
_threads = ThreadPoolExecutor(
    max_workers=THREADS,
    thread_name_prefix="gateway-database",
    initializer=tenancy.be_system_in_this_thread,
)


async def in_database(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `call` in a database thread."""

    def run() -> R:
        idle_s = time.monotonic() - getattr(_used, "at_s", 0.0)
        if connection.connection is not None and idle_s > IDLE_S and not connection.is_usable():
            connection.close()
        try:
            return call(*args, **kwargs)
        except Exception:
            connection.close_if_unusable_or_obsolete()
            raise
        finally:
            _used.at_s = time.monotonic()

    return await asyncio.get_running_loop().run_in_executor(_threads, run)


def hang_up() -> None:
    """Close the connection of every thread; the next call makes a new one."""
    together = threading.Barrier(THREADS)  # so that no thread takes two of these errands

    def close() -> None:
        connection.close()
        together.wait()

    for errand in [_threads.submit(close) for _ in range(THREADS)]:
        errand.result()
