"""Our own processes on the test's database and Redis, started as an operator starts them.

`PostgreSQL` and `Redis` are servers of the test alone, to be stopped, frozen and killed at will.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import django
import psutil
from django.conf import settings

from worker.processes import Home, servers

ROOT = Path(__file__).resolve().parents[2]
CODE = (sys.executable, "-m")


def wait_until(is_so: Callable[[], object], timeout_s: float = 60, what: str = "") -> None:
    """Look every 20 ms until it is so.

    Raises:
        AssertionError: it was not so in time.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError(f"expected {what or is_so} within {timeout_s} s")


@dataclass
class Installation:
    """Processes with one environment; `stop` ends what still runs."""

    home: Path
    environ: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def runner_url(self) -> str:
        return f"unix://{self.home / 'r.sock'}"

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start `python -m command…` under a name; its output goes to `<home>/<name>.log`."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*CODE, *command],
                cwd=ROOT,
                env=dict(self.environ),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[name] = process
        return process

    def runner(self, name: str = "runner", lease_s: float = 1.0) -> subprocess.Popen[bytes]:
        url = f"unix://{self.home / (name[-1] + '.sock')}"
        return self.start(
            name, "worker.runner.main", "--name", name, "--url", url, "--lease-s", str(lease_s)
        )

    def worker(self, queue: str, *more: str) -> subprocess.Popen[bytes]:
        return self.start(
            queue,
            *("celery", "-A", "worker.celery", "worker", "-Q", queue, "-n", f"{queue}@%h"),
            *("--loglevel", "INFO", "--without-gossip", "--without-mingle", *(more or ("-c", "1"))),
        )

    def relay(self) -> subprocess.Popen[bytes]:
        return self.start("relay", "worker.relay")

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str) -> None:
        """SIGKILL the process and its children, as a machine that loses power does."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        for name in list(self.running):
            try:
                self.running[name].wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill(name)
            else:
                self.running.pop(name)


def installation(home: Path, database: Mapping[str, str], redis_url: str) -> Installation:
    """An installation whose state is under `home`, on this database and broker."""
    place = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RECLAIM")},
        "RECLAIM_HOME": str(home),
        "RECLAIM_RUNNER_URL": f"unix://{home / 'r.sock'}",
        "RECLAIM_LEASE_S": "1",
        "RECLAIM_LOG_FORMAT": "text",
        "DATABASE_URL": place,
        "REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": "web.settings",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return Installation(home, environ)


def database_of_test() -> dict[str, str]:
    """Where the test's own rows are, once pytest-django has made the test database."""
    from django.db import connection

    return {key: str(connection.settings_dict[key]) for key in settings.DATABASES["default"]} | {
        "NAME": str(connection.settings_dict["NAME"])
    }


class Server:
    """A server in the foreground, in a session of its own."""

    def __init__(self, command: list[str], answers: Callable[[], bool], **more: object) -> None:
        self._command, self._answers, self._more = command, answers, more
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._more,  # type: ignore[call-overload]
        )
        wait_until(self._answers, 30, "the server to answer")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP to the server and every session of it: connections stay, nobody answers."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        # The server first, so that it begins no session while the others are stopped.
        for each in (server, *server.children(recursive=True)):
            each.suspend()
        try:
            yield
        finally:
            for each in (*server.children(recursive=True), server):
                each.resume()

    def kill(self) -> None:
        """SIGKILL; the sessions of a PostgreSQL end by themselves when they miss it."""
        if self._process is not None and self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass
class OwnServers:
    """A PostgreSQL and a Redis that only this test uses."""

    postgres: Server
    redis: Server
    database: dict[str, str]
    redis_url: str


@contextlib.contextmanager
def own_servers(folder: Path) -> Iterator[OwnServers]:
    """Made, started and migrated; ended with the block."""
    home = Home(folder)
    home.prepare()
    ports = home.ports(("postgres", "redis"), None, ours_run=False)
    passwords = home.passwords()
    seat = servers.seat(home)
    servers.make_cluster(seat, passwords["postgres_superuser"])
    account: dict[str, object] = {"cwd": "/"}
    if seat.account:
        account |= {"user": seat.account, "group": seat.account, "extra_groups": []}
    postgres = Server(
        servers.postgres_command(seat, ports["postgres"]),
        lambda: servers.postgres_answers(ports["postgres"], passwords["postgres_superuser"]),
        **account,
    )
    redis = Server(
        servers.redis_command(home, ports["redis"], passwords["redis"]),
        lambda: servers.redis_answers(ports["redis"], passwords["redis"]),
    )
    try:
        postgres.start()
        redis.start()
        servers.make_database(
            ports["postgres"], passwords["postgres_superuser"], passwords["postgres"]
        )
        database = {
            "NAME": servers.DATABASE,
            "USER": servers.DATABASE,
            "PASSWORD": passwords["postgres"],
            "HOST": "127.0.0.1",
            "PORT": str(ports["postgres"]),
        }
        yield OwnServers(
            postgres, redis, database, servers.redis_url(ports["redis"], passwords["redis"])
        )
    finally:
        postgres.kill()
        redis.kill()


django.setup()
