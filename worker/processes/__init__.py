"""Embedded PostgreSQL and Redis, and the processes that make a running Reclaim.

    home = Home.named_in(os.environ)
    start(home, os.environ)                        # everything; again: only what is missing
    start(home, os.environ, ("postgres", "redis"))
    status(home) -> [Row(name="web", state="running", …)]
    stop(home)

With DATABASE_URL or REDIS_URL (or their `_FILE` forms) in the environment, that server is not
started here. The addresses of those that are go to `RECLAIM_HOME/servers.json`
(`database_url`, `redis_url`), which `web/settings.py` reads.
"""

from worker.processes.catalogue import PROGRAM_NAMES, SERVERS, Program, programs
from worker.processes.control import (
    Row,
    addresses,
    erase,
    follow,
    logs,
    prepare,
    start,
    status,
    stop,
    web_url,
)
from worker.processes.errors import (
    AccountMissing,
    BinaryMissing,
    FolderNotWritable,
    NotOurs,
    NotReady,
    PathTooLong,
    PathUnfit,
    PortTaken,
    ProcessesError,
    UnknownProcess,
)
from worker.processes.home import Home

__all__ = [
    "PROGRAM_NAMES",
    "SERVERS",
    "AccountMissing",
    "BinaryMissing",
    "FolderNotWritable",
    "Home",
    "NotOurs",
    "NotReady",
    "PathTooLong",
    "PathUnfit",
    "PortTaken",
    "ProcessesError",
    "Program",
    "Row",
    "UnknownProcess",
    "addresses",
    "erase",
    "follow",
    "logs",
    "prepare",
    "programs",
    "start",
    "status",
    "stop",
    "web_url",
]
