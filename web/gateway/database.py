"""Database calls from async views: a few threads of their own, each with its own connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

from governance import tenancy

P = ParamSpec("P")
R = TypeVar("R")

# The gateway acts for consumers under the compiled policy, so it reads as the system does.
_threads = ThreadPoolExecutor(
    max_workers=8,
    thread_name_prefix="gateway-database",
    initializer=tenancy.be_system_in_this_thread,
)


async def in_database(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `call` in a database thread; a connection the server dropped is replaced first."""

    def run() -> R:
        close_old_connections()
        try:
            return call(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_threads, run)
