"""Processes that outlived a supervisord which was killed, and how they are ended."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from worker.processes.home import Home

if TYPE_CHECKING:
    import psutil

_PATIENCE_S = 10


def end(home: Home, clusters: tuple[Path, ...]) -> list[str]:
    """End every process this home's dead supervisord left behind; return their names.

    Only processes that carry this home's mark are touched: ours by the variables supervisord
    gave them, the two servers (which overwrite their environment) by their pid files.
    """
    import psutil

    found = [*_marked(home), *_redis(home), *_postgres(clusters)]
    for left_behind, kind in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            # INT is PostgreSQL's fast shutdown; TERM would wait for its clients
            left_behind.send_signal(signal.SIGINT if kind == "postgres" else signal.SIGTERM)
    for left_behind in _outlasting([each for each, _ in found]):
        with contextlib.suppress(psutil.NoSuchProcess):
            left_behind.kill()
    _outlasting([each for each, _ in found])
    for cluster in clusters:
        if not list(_postgres((cluster,))):
            # left by kill -9; after a reboot its number may be somebody else's
            (cluster / "postmaster.pid").unlink(missing_ok=True)
    return [kind for _, kind in found]


def lives(pid: int) -> bool:
    """Whether the process still runs; one that only waits to be collected does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _outlasting(group: "list[psutil.Process]") -> "list[psutil.Process]":
    # not psutil.wait_procs: a container's first process may never collect the dead
    deadline = time.monotonic() + _PATIENCE_S
    while group and time.monotonic() < deadline:
        time.sleep(0.05)
        group = [each for each in group if lives(each.pid)]
    return group


def _marked(home: Home) -> "Iterator[tuple[psutil.Process, str]]":
    import psutil

    here = psutil.Process()
    ours = {here.pid, *(parent.pid for parent in here.parents())}
    for each in psutil.process_iter():
        try:
            environ = each.environ()
        except (psutil.Error, OSError):
            continue
        name = environ.get("RECLAIM_PROCESS")
        if name and environ.get("RECLAIM_HOME") == str(home.path) and each.pid not in ours:
            yield each, name


def _redis(home: Home) -> "Iterator[tuple[psutil.Process, str]]":
    yield from _from_pid_file(home.run / "redis.pid", home.path / "redis", "redis")


def _postgres(clusters: tuple[Path, ...]) -> "Iterator[tuple[psutil.Process, str]]":
    for cluster in clusters:
        yield from _from_pid_file(cluster / "postmaster.pid", cluster, "postgres")


def _from_pid_file(file: Path, folder: Path, kind: str) -> "Iterator[tuple[psutil.Process, str]]":
    import psutil

    try:
        pid = int(file.read_text().split()[0])
        candidate = psutil.Process(pid)
        # a pid number is reused; the folder a server works in is not
        if Path(candidate.cwd()) == folder.resolve():
            yield candidate, kind
    except (OSError, ValueError, IndexError, psutil.Error):
        return
