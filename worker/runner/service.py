"""One life of one runner: lease, engines, usage rows and socket, put together and taken apart."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

from django.db import DatabaseError, InterfaceError, connection

from governance.models import Build, Expert
from governance.services import builds
from governance.services.locks import Channel
from governance.vocabulary import ExpertState
from modelops.contract import Authority, EngineClient, ExpertRef
from worker.listening import Listener
from worker.runner.desk import Desk
from worker.runner.escrow import Escrow
from worker.runner.fleet import Fleet, WantedBuild
from worker.runner.lease import LeaseHolder, Memory
from worker.runner.meter import Meter
from worker.runner.registry import DatabaseRegistry, kept_connection
from worker.runner.server import Server

log = logging.getLogger(__name__)

REPORT_S = 1.0
GRACE_S = 5.0
END_LOOK_S = 0.1
_WITHDRAWN = (ExpertState.WITHDRAWN, ExpertState.ERASED)


class Runner:
    """Serves on `url` under a lease of `lease_s` seconds until `stop` is called.

    `make_engine(anchor_digest, authority)` makes the engine for an anchor when the first build on
    it is wanted. Streams that run at the end get `grace_s` to come to theirs. One that does not
    `listens` learns of policy by polling alone, every third of its lease. `seen` remembers the
    policy epoch across incarnations.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        lease_s: float,
        make_engine: Callable[[str, Authority], EngineClient],
        grace_s: float = GRACE_S,
        listens: bool = True,
        seen: Memory | None = None,
    ) -> None:
        self.incarnation: UUID = uuid4()
        self.fleet = Fleet(lambda anchor_digest: make_engine(anchor_digest, self.holder))
        self._registry = DatabaseRegistry(self.incarnation, runner=name, lease_s=lease_s)
        self.holder = LeaseHolder(
            self._registry,
            lease_s=lease_s,
            withdraw=self.fleet.withdraw,
            seen=seen,
        )
        self._meter = Meter(self.incarnation)
        desk = Desk(self.holder, self.fleet, self._meter, Escrow(self.incarnation))
        self._server = Server(
            url, desk=desk, meter=self._meter, holder=self.holder, health=self.health
        )
        self._name, self._grace_s, self._listens = name, grace_s, listens
        self._whole: tuple[WantedBuild, ...] = ()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask `run` to end; callable from a signal's handler and from any thread."""
        self._stopping.set()

    async def run(self) -> bool:
        """Serve until `stop`, then close the lease. False if this incarnation was taken away."""
        listener = Listener(Channel.POLICY.value, self.holder.ring)
        if self._listens:
            listener.start()
        lease = threading.Thread(
            target=_closing, args=(self.holder.run,), name="lease", daemon=True
        )
        keeper = threading.Thread(target=_closing, args=(self._keep,), name="builds", daemon=True)
        lease.start()
        keeper.start()
        await self._server.start()
        log.info("runner %s serves as incarnation %s", self._name, self.incarnation)
        await asyncio.to_thread(self._wait_for_end)
        was_lost = self.holder.is_lost
        self.stop()
        await self._server.stop(self._grace_s)
        listener.stop()
        await asyncio.to_thread(self._wind_up, lease, keeper)
        return not was_lost

    def _wait_for_end(self) -> None:
        while not self._stopping.wait(END_LOOK_S):
            if self.holder.is_lost:
                return

    def _wind_up(self, lease: threading.Thread, keeper: threading.Thread) -> None:
        keeper.join(timeout=GRACE_S)
        self.fleet.close()
        self.holder.stop()
        lease.join(timeout=GRACE_S)
        try:
            self._meter.settle()
            self._registry.close()
            connection.close()
        except (DatabaseError, InterfaceError) as error:
            # Nothing is lost: an unclosed lease runs out, and a withdrawal waits for that.
            log.warning("lease of %s not closed: %s", self.incarnation, error)

    def _keep(self) -> None:
        """Hold the builds that are wanted, say so, and close rows that are still owed.

        By the clock alone: at the moment policy changes, every query would be in the way of the
        acknowledgements.
        """
        reported: Mapping[str, Any] = {}
        reported_s = 0.0
        while not self._stopping.is_set():
            try:
                report = self._bring_and_describe()
                if report != reported or time.monotonic() - reported_s > self.holder.lease_s:
                    self._registry.report(sorted(self.fleet.loaded()), self._newest_whole(), report)
                    reported, reported_s = report, time.monotonic()
                self._meter.settle()
            except (DatabaseError, InterfaceError) as error:
                log.warning("builds cannot be read or reported: %s", error)
            except Exception:
                log.exception("builds cannot be kept")
            self._stopping.wait(REPORT_S)

    def _bring_and_describe(self) -> Mapping[str, Any]:
        # Read before the builds: the report then holds for at least this policy epoch.
        warrant = self.holder.warrant()
        with kept_connection():
            gone = withdrawn_names()
            wanted = wanted_builds(gone)
        self._whole = tuple(self.fleet.bring_to(wanted))
        if gone & {ref.name for ref in self.fleet.loaded()}:
            self.holder.ring()  # the wake-up was lost: what withdraws it waits for the clock
        return {
            "policy_epoch": warrant.policy_epoch if warrant is not None else 0,
            "builds": [build.build_id for build in self._whole],
            "loaded": [f"{ref.name}@{ref.digest}" for ref in sorted(self.fleet.loaded())],
            "pid": os.getpid(),
            **self.fleet.stats(),
        }

    def _newest_whole(self) -> Build | None:
        if not self._whole:
            return None
        return Build.objects.filter(pk=self._whole[0].build_id).first()

    def health(self) -> Mapping[str, Any]:
        """What a health line answers. Reads memory alone."""
        warrant = self.holder.warrant()
        left_ns = warrant.deadline_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME) if warrant else 0
        return {
            "runner": self._name,
            "incarnation": str(self.incarnation),
            "policy_epoch": warrant.policy_epoch if warrant else 0,
            "lease_ms_left": max(0, left_ns // 1_000_000),
            "build": warrant.snapshot.build_digest if warrant else "",
            "builds": [build.digest for build in self._whole],
            "loaded": [ref.name for ref in sorted(self.fleet.loaded())],
            "lease_fault": self.holder.counters.last_error,
            **self.fleet.stats(),
        }


def _closing(work: Callable[[], None]) -> None:
    """Run a thread's work, and give its database connection back at the end."""
    try:
        work()
    finally:
        connection.close()


def withdrawn_names() -> frozenset[str]:
    """The experts that no runner may hold."""
    return frozenset(Expert.objects.filter(state__in=_WITHDRAWN).values_list("name", flat=True))


def wanted_builds(gone: frozenset[str]) -> list[WantedBuild]:
    """The builds a runner should hold, newest first, without the experts `gone` from them."""
    return [
        WantedBuild(
            build_id=str(build.pk),
            digest=build.digest,
            anchor_digest=build.anchor.digest,
            experts=frozenset(
                ExpertRef(expert["name"], expert["digest"])
                for expert in build.experts
                if expert["name"] not in gone
            ),
        )
        for build in builds.wanted()
    ]
