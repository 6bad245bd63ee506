"""The gateway's view of policy: the newest snapshot, and how fresh it is.

A wake-up from PostgreSQL makes it fast, a poll every third of a lease makes it true. Policy that
could not be read for a whole lease is no policy: the gateway then refuses rather than guesses. The
runner decides again on its own leased snapshot, so this is admission, not enforcement.
"""

from __future__ import annotations

import asyncio
import time

import psycopg
import structlog
from django.conf import settings
from django.db import DatabaseError, connections

from governance.errors import StalePolicy
from governance.policy.types import Snapshot
from governance.services import snapshots
from web.gateway.database import in_database

CHANNEL = "reclaim_policy"
logger = structlog.get_logger(__name__)


class PolicyFeed:
    """Keeps the newest policy snapshot of one event loop. `lease_s` bounds its age in seconds."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._snapshot: Snapshot | None = None
        self._read_at_s = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._woken = asyncio.Event()

    async def current(self, *, min_policy_epoch: int = 0) -> Snapshot:
        """The newest snapshot, read again when a caller has already seen a newer epoch.

        Raises:
            StalePolicy: nothing promoted yet, not readable for a whole lease, or older than
                `min_policy_epoch`.
        """
        self._start()
        snapshot = self._snapshot
        if (
            snapshot is None
            or snapshot.policy_epoch < min_policy_epoch
            or self._age_s() > self.lease_s
        ):
            await self._read()
            snapshot = self._snapshot
        if self._age_s() > self.lease_s:
            raise StalePolicy(
                f"expected policy read within {self.lease_s:g} s, found it unreadable for longer; "
                "retry when the database is back"
            )
        if snapshot is None:
            raise StalePolicy("expected a promoted build, found none; promote one first")
        if snapshot.policy_epoch < min_policy_epoch:
            raise StalePolicy(
                f"expected policy epoch {min_policy_epoch} or newer, found {snapshot.policy_epoch}"
            )
        return snapshot

    def newest(self) -> Snapshot | None:
        """What has been read so far, however old; for checks that can only narrow."""
        return self._snapshot

    def _age_s(self) -> float:
        return time.monotonic() - self._read_at_s

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop and all(not task.done() for task in self._tasks):
            return
        self._loop = loop
        self._woken = asyncio.Event()
        self._tasks = [loop.create_task(self._poll()), loop.create_task(self._listen())]

    async def _poll(self) -> None:
        while True:
            await self._read()
            try:
                await asyncio.wait_for(self._woken.wait(), self.lease_s / 3)
            except TimeoutError:
                continue
            self._woken.clear()

    async def _read(self) -> None:
        begun_at_s = time.monotonic()
        try:
            found = await in_database(snapshots.current)
        except (DatabaseError, psycopg.Error) as error:
            logger.warning("policy unreadable", error=str(error))
            return
        known = self._snapshot
        if found is not None and known is not None and found.policy_epoch < known.policy_epoch:
            logger.error(
                "policy epoch went back", known=known.policy_epoch, found=found.policy_epoch
            )
            return
        self._snapshot, self._read_at_s = found or known, begun_at_s

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (psycopg.Error, OSError) as error:
                logger.warning("policy wake-up lost; polling goes on", error=str(error))
            await asyncio.sleep(1)

    async def _listen_once(self) -> None:
        parameters = connections["default"].get_connection_params()
        names = ("dbname", "host", "port", "user", "password", "sslmode")
        connection = await psycopg.AsyncConnection.connect(
            autocommit=True, **{name: parameters[name] for name in names if name in parameters}
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self._woken.set()
            async for _ in connection.notifies():
                self._woken.set()


feed = PolicyFeed(lease_s=settings.RECLAIM_LEASE_S)
"""One feed a process: the views share it."""
