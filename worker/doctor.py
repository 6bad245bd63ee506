"""`reclaim doctor`: what this machine and this installation lack, and what to do about it.

Looks and never mends: nothing is started, migrated or written, apart from the folder of
RECLAIM_HOME itself, whose rights can only be known by trying.
"""

import importlib.metadata
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from worker.processes import SERVERS, Home, ProcessesError, control, servers, status

State = Literal["ok", "warn", "fail", "skip"]

QUEUES = ("enforce", "models", "upkeep", "notices")
_GIB = 1024**3
_NEEDED_DISK_GIB, _NEEDED_MEMORY_GIB = 3, 4
_CLOCKS_APART = timedelta(seconds=2)
_LATE = timedelta(minutes=5)


@dataclass(frozen=True)
class Check:
    """One thing looked at. `to_do` is empty when `state` is "ok"."""

    name: str
    state: State
    found: str
    to_do: str = ""


def examine(
    home: Home, environ: Mapping[str, str], prepare_django: Callable[[], None]
) -> list[Check]:
    """Every check, in the order in which one would mend things.

    Args:
        prepare_django: loads the settings; raises ImproperlyConfigured where they are odd.
    """
    checks = [python(), *packages(), *binaries(environ), folder(home)]
    if checks[-1].state == "ok":
        checks += [disk(home), private_files(home)]
    checks += [memory(), *processes(home)]
    settled = settings(prepare_django)
    checks.append(settled)
    if settled.state == "fail":
        return [*checks, *_skipped("the settings cannot be read", "database", "broker")]
    checks.append(signing_keys())
    reached = database()
    checks.append(reached)
    if reached.state == "ok":
        checks += [clocks(), migrations()]
    else:
        checks += _skipped("the database cannot be reached", "clocks", "migrations")
    if checks[-1].state == "ok":
        looks = {"history": history, "runners": runners, "follow-ups": follow_ups}
        checks += [_asked(name, look) for name, look in looks.items()]
    else:
        checks += _skipped("the tables are not up to date", "history", "runners", "follow-ups")
    reached = broker()
    checks.append(reached)
    if reached.state == "ok":
        checks.append(queues())
    else:
        checks += _skipped("the broker cannot be reached", "queues")
    return checks


def examine_one(name: str, prepare_django: Callable[[], None]) -> list[Check]:
    """One check by name, quick enough for a container's health check.

    Raises:
        KeyError: not one of `ALONE`.
    """
    look = ALONE[name]
    settled = settings(prepare_django)
    return [settled] if settled.state == "fail" else [_asked(name, look)]


def table(checks: list[Check]) -> str:
    """For people: one line a check, and below it what to do."""
    words = {"ok": "ok  ", "warn": "look", "fail": "FAIL", "skip": "skip"}
    lines = []
    for check in checks:
        lines.append(f"{words[check.state]}  {check.name:<12} {check.found}")
        if check.to_do:
            lines.append(f"{'':<18} → {check.to_do}")
    bad = sum(check.state == "fail" for check in checks)
    lines.append(f"{bad} of {len(checks)} checks failed" if bad else "nothing is missing")
    return "\n".join(lines)


def _asked(name: str, look: Callable[[], Check]) -> Check:
    """A check that reads our tables, which another version may have left in another shape."""
    from django.db import DatabaseError

    try:
        return look()
    except DatabaseError as error:
        to_do = "Run this version against its own database, or `make clean` in a demo."
        return Check(name, "fail", _first_line(error), to_do)


def _skipped(why: str, *names: str) -> list[Check]:
    return [Check(name, "skip", f"not looked at: {why}") for name in names]


# ── This machine ─────────────────────────────────────────────────────────────────────────────────


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    text = ".".join(map(str, version))
    if version >= (3, 11):
        return Check("python", "ok", text)
    return Check("python", "fail", f"{text}; expected 3.11 or later", "Install CPython 3.11.")


def packages() -> Iterator[Check]:
    """Each requirement of this version against what is installed."""
    from packaging.requirements import Requirement

    try:
        required = importlib.metadata.requires("reclaim") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("packages", "warn", "reclaim is not installed", "Run: pip install -e .")
        return
    wrong = []
    for requirement in map(Requirement, required):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found}, expected {requirement.specifier}")
    if wrong:
        to_do = "Run: pip install -c constraints.txt -e '.[embedded]'"
        yield Check("packages", "fail", "; ".join(wrong), to_do)
    else:
        yield Check("packages", "ok", f"{len(required)} requirements met")


def binaries(environ: Mapping[str, str]) -> Iterator[Check]:
    """The private servers' programs, for those no URL replaces."""
    finders: dict[str, Callable[[], Path]] = {
        "postgres": servers.postgres_binaries,
        "redis": servers.redis_binary,
    }
    needed = control.embedded(environ)
    for name, find in finders.items():
        if name not in needed:
            yield Check(name, "ok", "a server of yours, named by its URL")
            continue
        try:
            yield Check(name, "ok", str(find()))
        except ProcessesError as error:
            yield Check(name, "fail", *_split(error))


def folder(home: Home) -> Check:
    try:
        home.prepare()
    except ProcessesError as error:
        return Check("folder", "fail", *_split(error))
    return Check("folder", "ok", str(home.path))


def disk(home: Home) -> Check:
    free_gib = shutil.disk_usage(home.path).free / _GIB
    found = f"{free_gib:.1f} GiB free at {home.path}"
    if free_gib >= _NEEDED_DISK_GIB:
        return Check("disk", "ok", found)
    # PostgreSQL stops at once on a full disk; artefacts and training only need room to grow
    state: State = "fail" if free_gib < 0.2 else "warn"
    return Check("disk", state, found, f"Make room: {_NEEDED_DISK_GIB} GiB is what the demo needs.")


def private_files(home: Home) -> Check:
    """Files with passwords and keys: readable by this account alone."""
    secret = [home.path / name for name in ("secrets.json", "servers.json")]
    secret += [path for path in (home.path / "keys").glob("*") if path.suffix != ".pub"]
    present = [path for path in secret if path.is_file()]
    open_to_others = [str(path) for path in present if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_to_others:
        names = " ".join(open_to_others)
        return Check("rights", "fail", f"others may read {names}", f"Run: chmod 600 {names}")
    return Check("rights", "ok", f"{len(present)} files with secrets are private")


def memory() -> Check:
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / _GIB
    if gib >= _NEEDED_MEMORY_GIB:
        return Check("memory", "ok", f"{gib:.1f} GiB")
    to_do = f"{_NEEDED_MEMORY_GIB} GiB lets two trainings run side by side."
    return Check("memory", "warn", f"{gib:.1f} GiB", to_do)


def processes(home: Home) -> Iterator[Check]:
    rows = status(home)
    ours = [row for row in rows if row.name not in SERVERS]
    down = [f"{row.name} ({row.state})" for row in ours if row.state != "running"]
    if not down:
        yield Check("processes", "ok", f"{len(ours)} run")
    elif len(down) == len(ours):
        yield Check("processes", "warn", "none runs under this home", "Run: reclaim up")
    else:
        to_do = f"Read why: reclaim logs {down[0].split()[0]}"
        yield Check("processes", "fail", f"not running: {', '.join(down)}", to_do)


# ── This installation ────────────────────────────────────────────────────────────────────────────


def settings(prepare_django: Callable[[], None]) -> Check:
    from django.core.exceptions import ImproperlyConfigured

    try:
        prepare_django()
    except ImproperlyConfigured as error:
        return Check("settings", "fail", *_split(error))
    return Check("settings", "ok", "read")


def signing_keys() -> Check:
    """The log's key must be there once events are sealed; the other comes with a certificate."""
    from django.conf import settings as configured

    from governance import keys

    folder = Path(configured.RECLAIM_KEYS)
    names = (keys.LOG_KEY, keys.CERTIFICATE_KEY)
    found = [name for name in names if (folder / f"{name}.pem").is_file()]
    if keys.LOG_KEY not in found:
        to_do = "Run: reclaim up (the first sealing makes it), or bring back your RECLAIM_KEYS."
        return Check("keys", "fail", f"no key for the log in {folder}", to_do)
    return Check("keys", "ok", f"{', '.join(found)} in {folder}")


def database() -> Check:
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DatabaseError, connection

    to_do = "Run: reclaim up, or correct DATABASE_URL."
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version'), current_database()")
            version, name = cursor.fetchone()
            cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'btree_gist'")
            has_gist = cursor.fetchone() is not None
    except (DatabaseError, ImproperlyConfigured) as error:
        return Check("database", "fail", _first_line(error), to_do)
    if not has_gist:
        return Check(
            "database",
            "fail",
            f"PostgreSQL {version} without btree_gist",
            "Install PostgreSQL's contrib package (postgresql-contrib).",
        )
    return Check("database", "ok", f"PostgreSQL {version}, database {name}")


def clocks() -> Check:
    """This machine's clock against the database's. Safety rests on neither; reports do."""
    from django.db import connection
    from django.utils import timezone

    with connection.cursor() as cursor:
        before = timezone.now()
        cursor.execute("SELECT clock_timestamp()")
        theirs = cursor.fetchone()[0]
        apart = abs(theirs - (before + (timezone.now() - before) / 2))
    found = f"{apart.total_seconds() * 1000:.0f} ms from the database's"
    if apart <= _CLOCKS_APART:
        return Check("clocks", "ok", found)
    return Check("clocks", "warn", found, "Keep both with NTP: reports show wall-clock times.")


def migrations() -> Check:
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not missing:
        return Check("migrations", "ok", "all applied")
    names = ", ".join(f"{step.app_label}.{step.name}" for step, _ in missing[:3])
    return Check("migrations", "fail", f"{len(missing)} to apply: {names}", "Run: reclaim migrate")


def history() -> Check:
    """Whether the database holds all that this machine has published of the log."""
    from governance.errors import GovernanceError
    from governance.log import sequencer

    try:
        sequencer.check_published()
    except GovernanceError as error:
        to_do = "See docs/operate.md, After a restore. Runners serve nothing until then."
        return Check("history", "fail", error.message, to_do)
    return Check("history", "ok", "the database is not behind the published log")


def runners() -> Check:
    """Whether any runner holds a lease that has not run out."""
    from django.utils import timezone

    from governance.models import RunnerLease

    at = timezone.now()
    fresh = [
        lease.runner
        for lease in RunnerLease.objects.filter(closed_at=None)
        if lease.renewed_at + timedelta(seconds=lease.lease_s) > at
    ]
    if fresh:
        return Check("runners", "ok", f"{len(fresh)} with a fresh lease: {', '.join(fresh)}")
    to_do = "Run: reclaim up; then read why: reclaim logs runner"
    return Check("runners", "fail", "no runner holds a lease", to_do)


def follow_ups() -> Check:
    """Promised work that is due for long, or given up: the relay or a worker stands still."""
    from django.db.models import Q
    from django.utils import timezone

    from governance.models import FollowUp
    from governance.vocabulary import FollowUpState

    free_to_go = Q(after=None) | Q(after__state=FollowUpState.DONE)
    due = FollowUp.objects.filter(free_to_go, state=FollowUpState.DUE)
    late = due.filter(due_at__lt=timezone.now() - _LATE).count()
    failed = FollowUp.objects.filter(state=FollowUpState.FAILED).count()
    if failed:
        to_do = "Open the engineer's page, read why, and send them again."
        return Check("follow-ups", "warn", f"{failed} failed, {late} late", to_do)
    if late:
        to_do = "Read why: reclaim logs relay"
        return Check("follow-ups", "warn", f"{late} due for over five minutes", to_do)
    return Check("follow-ups", "ok", "none is late, none failed")


def broker() -> Check:
    import redis
    from django.conf import settings as configured

    to_do = "Run: reclaim up, or correct REDIS_URL."
    if not configured.REDIS_URL:
        return Check("broker", "fail", "no Redis is named or started", to_do)
    client = redis.Redis.from_url(configured.REDIS_URL, socket_timeout=3, socket_connect_timeout=3)
    try:
        client.ping()
    except redis.RedisError as error:
        return Check("broker", "fail", _first_line(error), to_do)
    finally:
        client.close()
    return Check("broker", "ok", "Redis answers")


def queues(patience_s: float = 3) -> Check:
    """Whether every queue has a worker that answers within `patience_s`."""
    from worker.celery import app

    found = app.control.inspect(timeout=patience_s).active_queues() or {}
    served = {queue["name"] for each in found.values() for queue in each}
    missing = [name for name in QUEUES if name not in served]
    if not missing:
        return Check("queues", "ok", f"{len(found)} workers serve {', '.join(QUEUES)}")
    to_do = f"Run: reclaim up; then read why: reclaim logs worker-{missing[0]}"
    return Check("queues", "fail", f"no worker answers on: {', '.join(missing)}", to_do)


ALONE: Mapping[str, Callable[[], Check]] = {
    "database": database,
    "broker": broker,
    "migrations": migrations,
    "history": history,
    "runners": runners,
    "follow-ups": follow_ups,
    "queues": queues,
}


def _split(error: Exception) -> tuple[str, str]:
    """An error of ours into what was found and what to do: its last sentence."""
    text = str(error)
    for mark in (" To do: ", " Run: ", " Set ", " Choose ", " Start "):
        before, found, after = text.partition(mark)
        if found:
            return before.strip(), f"{mark.strip()} {after}".removeprefix("To do: ")
    return text, "Correct it and run `reclaim doctor` again."


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
