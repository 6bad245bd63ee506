"""Worlds of runners, a coordinator and a database, in which withdrawals are made while things fail.

Every process is a real one: runners around the stub engine on the product's own lease, usage rows
and socket; a coordinator that waits as the product's does; a PostgreSQL of the world's own. A seed
says which faults meet one withdrawal (`schedules`). When a world has made its runs everything is
brought to an end, and the auditor, which knows nothing of the project, looks at what is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from django.db import Error, connection
from django.utils import timezone

from bench.withdrawal_stage import Reader, Stage, health, start_runner
from governance.models import RunnerLease, Withdrawal
from governance.services import leases, usage
from tests.faults import auditor, schedules
from tests.faults.proxy import Network
from tests.worker.installation import CODE, ROOT, Server, wait_until

T = TypeVar("T")

TOKEN_S = 0.01
UP_S = 40.0
"""How long a busy machine may take to bring a process back."""


class World:
    """`size` runners under leases of `lease_s`, each on a line of its own to the database."""

    def __init__(
        self,
        home: Path,
        postgres: Server,
        database: Mapping[str, str],
        *,
        size: int = 3,
        lease_s: float = 0.8,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home, self.size, self.lease_s = home, size, lease_s
        self.place = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
        self._postgres, self._database = postgres, dict(database)
        self._settings = dict(settings or {})
        self._network = Network((database["HOST"], int(database["PORT"])))
        self.lines = [self._network.line() for _ in range(size)]
        self._urls = [f"unix://{home / f'{number}.sock'}" for number in range(size)]
        self._runners: list[subprocess.Popen[bytes] | None] = [None] * size
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._frozen = contextlib.ExitStack()
        self._stage = Stage(12)
        self._names: list[str] = []
        self._readers: list[Reader] = []
        self._outages: list[dict[str, Any]] = []
        self._down_since: dict[str, float] = {}
        self._commits: dict[str, float] = {}

    # ── The processes, and what may befall them ──────────────────────────────────────────────────
    def start(self) -> None:
        """Bring everything up."""
        self._names = self._stage.promote()
        self._note_down("coordinator")
        self.heal()

    def stop_runner(self, which: int) -> None:
        self._signal(self._runners[which], signal.SIGSTOP)

    def kill_runner(self, which: int) -> None:
        self._kill(self._runners[which])
        self._runners[which] = None

    def resume_runner(self, which: int) -> None:
        """Let it run on, or start it where it does not run."""
        running = self._runners[which]
        if running is not None and running.poll() is None:
            self._signal(running, signal.SIGCONT)
            return
        through = {**self._database, "HOST": "127.0.0.1", "PORT": self.lines[which].port}
        self._runners[which] = start_runner(
            f"runner-{which}",
            self._urls[which],
            {**os.environ, **self._settings, "DATABASE_URL": _address(through)},
            self.lease_s,
            TOKEN_S,
            module="tests.faults.runner",
        )

    def stop_coordinator(self) -> None:
        self._note_down("coordinator")
        self._signal(self._coordinator, signal.SIGSTOP)

    def kill_coordinator(self) -> None:
        self._note_down("coordinator")
        self._kill(self._coordinator)
        self._coordinator = None

    def resume_coordinator(self) -> None:
        """Let it run on, or start it; it counts as down until it has seen the database."""
        seen = self.home / "coordinator.seen"
        if self._coordinator is not None:
            self._signal(self._coordinator, signal.SIGCONT)
            if seen.exists():
                self._note_up("coordinator")
            return
        seen.unlink(missing_ok=True)
        self._coordinator = subprocess.Popen(
            [*CODE, "tests.faults.coordinator", str(seen)],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": self.place, "RECLAIM_LOG_LEVEL": "ERROR"},
        )
        threading.Thread(target=self._see_coordinator, args=(seen,), daemon=True).start()

    def _see_coordinator(self, seen: Path) -> None:
        wait_until(seen.exists, UP_S, "the coordinator")
        self._note_up("coordinator")

    def kill_database(self) -> None:
        self._note_down("database")
        self._frozen.close()
        self._postgres.kill()

    def freeze_database(self) -> None:
        self._note_down("database")
        if self._postgres.is_running:
            self._frozen.enter_context(self._postgres.frozen())

    def resume_database(self) -> None:
        """Let it run on, or start it; returns when it answers."""
        self._frozen.close()
        if not self._postgres.is_running:
            self._postgres.start()
        self._note_up("database")

    def _note_down(self, what: str) -> None:
        self._down_since.setdefault(what, time.time())

    def _note_up(self, what: str) -> None:
        since = self._down_since.pop(what, None)
        if since is not None:
            self._outages.append({"what": what, "from_at": since, "until_at": time.time()})

    @staticmethod
    def _signal(process: subprocess.Popen[bytes] | None, number: int) -> None:
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def _kill(self, process: subprocess.Popen[bytes] | None) -> None:
        self._signal(process, signal.SIGKILL)
        if process is not None:
            process.wait()

    # ── What happens in it ───────────────────────────────────────────────────────────────────────
    def run(self, seed: int) -> None:
        """One withdrawal, met by what `seed` draws, until it is effective and all is well."""
        expert = self.next_expert()
        for which in range(self.size):
            self.listen(expert, which)
        agenda = schedules.drawn(self, seed)
        click_s = time.monotonic() - min(0.0, agenda[0][0])
        clicking = threading.Thread(target=self._click, args=(expert, click_s))
        clicking.start()
        for at_s, happening in agenda:
            time.sleep(max(0.0, click_s + at_s - time.monotonic()))
            happening()
        clicking.join()
        self.heal()
        self.wait_until_effective(expert)

    def _click(self, expert: str, at_s: float) -> None:
        time.sleep(max(0.0, at_s - time.monotonic()))
        try:
            self.withdraw(expert, wait=False)
        finally:
            connection.close()

    def heal(self) -> None:
        """Whatever was begun is over; what was killed is back."""
        for line in self.lines:
            line.heal()
        self.resume_database()
        for which in range(self.size):
            self.resume_runner(which)
        self.resume_coordinator()
        wait_until(lambda: "coordinator" not in self._down_since, UP_S, "the coordinator")

    def next_expert(self) -> str:
        """An expert that every runner holds, under a lease; the first of a new build if need be."""
        if not self._names:
            self._names = _again(self._stage.promote)
        expert = self._names.pop(0)
        for which in range(self.size):
            wait_until(lambda which=which: self._is_up(which, expert), UP_S, f"runner {which}")
        return expert

    def _is_up(self, which: int, expert: str) -> bool:
        self.resume_runner(which)  # one whose incarnation was closed has ended by itself
        said = self._said(which)
        return bool(said["policy_epoch"]) and expert in said["loaded"]

    def loaded(self, which: int) -> list[str]:
        """The experts a runner says it holds."""
        return list(self._said(which)["loaded"])

    def _said(self, which: int) -> Mapping[str, Any]:
        try:
            return health(self._urls[which])
        except (OSError, ValueError):
            return {"loaded": [], "policy_epoch": 0}

    def listen(self, expert: str, which: int, patience_s: float = UP_S) -> None:
        """Begin to read an endless answer with this expert, asking until one begins."""
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            reader = Reader(self._urls[which], self._stage.order(expert))
            self._readers.append(reader)
            while not reader.released_at and reader.is_reading:
                time.sleep(0.002)
            if reader.released_at:
                return
            time.sleep(0.01)

    def withdraw(self, expert: str, *, wait: bool = True) -> None:
        """Press the button, again while there is no database; `wait` until it is effective."""
        _again(lambda: self._stage.withdraw(expert))
        self._commits[expert] = time.time()
        if wait:
            self.wait_until_effective(expert)

    def wait_until_effective(self, expert: str) -> None:
        wait_until(
            lambda: _again(
                Withdrawal.objects.filter(expert__name=expert, quiesced_at__isnull=False).exists
            ),
            UP_S,
            f"{expert} effective",
        )

    def renewed_at(self, which: int) -> Any:
        """When a runner's newest incarnation renewed last."""
        found = RunnerLease.objects.filter(runner=f"runner-{which}", closed_at=None)
        return found.order_by("-started_at").values_list("renewed_at", flat=True).first()

    def wait_for_no_lease(self) -> None:
        """End what no process stands behind."""
        for lease in RunnerLease.objects.filter(closed_at=None):
            leases.close(lease.pk, at=timezone.now())

    def is_granting(self) -> bool:
        """Whether a renewal that takes its time is under way."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'"
            )
            return cursor.fetchone() is not None

    def lift_fence(self) -> None:
        """Take the database's own last guard away: the others must hold without it."""
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE governance_usagerecord DISABLE TRIGGER USER")

    # ── The end ──────────────────────────────────────────────────────────────────────────────────
    def evidence(self) -> dict[str, Any]:
        """What only the outside knows, for the auditor."""
        return {
            "lease_s": self.lease_s,
            "outages": self._outages,
            "committed_at": self._commits,
            "readers": [
                {
                    "order_id": reader.order.order_id,
                    "released_at": list(reader.released_at),
                }
                for reader in self._readers
            ],
        }

    def finish(self, slack_s: float = auditor.SLACK_S) -> auditor.Report:
        """End every process and row, and have it all audited."""
        self.stop()
        for reader in self._readers:
            reader.join()
        for lease in RunnerLease.objects.filter(closed_at=None):  # of those that were killed
            leases.close(lease.pk, at=timezone.now())
        usage.close_lost(at=timezone.now())
        return auditor.audit(self.place, self.evidence(), slack_s)

    def stop(self) -> None:
        """End every process but the database, which is brought back. Repeatable."""
        for line in self.lines:
            line.heal()
        self.resume_database()
        running = [*self._runners, self._coordinator]
        for process in running:
            self._signal(process, signal.SIGCONT)
            self._signal(process, signal.SIGTERM)
        for process in running:
            try:
                if process is not None:
                    process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._kill(process)
        self._network.stop()


def _address(database: Mapping[str, object]) -> str:
    return "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)


def _again(act: Callable[[], T], timeout_s: float = UP_S) -> T:
    """`act`, tried until there is a database."""
    until_s = time.monotonic() + timeout_s
    while True:
        try:
            return act()
        except Error:
            connection.close()
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def world(
    home: Path, postgres: Server, database: Mapping[str, str], **more: Any
) -> Iterator[World]:
    """A started world; its processes end with the block."""
    made = World(home, postgres, database, **more)
    try:
        made.start()
        yield made
    finally:
        made.stop()
