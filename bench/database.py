"""A fresh, migrated PostgreSQL database for a benchmark, gone when it ends.

With DATABASE_URL set, on that server; otherwise on a private one, started for the run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from worker import processes
from worker.boot import boot

_NO_REDIS = "redis://127.0.0.1:1/0"  # named, so that none is started; nobody connects


@contextmanager
def fresh(*servers: str) -> Iterator[Path]:
    """Load Django on a new database; give the run's own state folder.

    `servers` are those that may be started, "postgres" alone unless "redis" is named as well.
    DATABASE_URL and REDIS_URL then name them, so a spawned process finds them after `boot()`.
    """
    folder = Path(tempfile.mkdtemp(prefix="reclaim-bench-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as someone else and must get through
    home = processes.Home(folder / "home")
    os.environ["RECLAIM_HOME"] = str(home.path)
    if "redis" not in servers:
        os.environ.setdefault("REDIS_URL", _NO_REDIS)
    try:
        processes.start(home, os.environ, servers or ("postgres",))
        for name, url in processes.addresses(home).items():
            os.environ.setdefault(name.upper(), url)
        with _scratch_database():
            yield home.path
    finally:
        processes.erase(home)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _scratch_database() -> Iterator[None]:
    boot()
    from django.db import connection, connections

    server = os.environ["DATABASE_URL"]
    scratch = f"bench_{os.getpid()}"
    connection.settings_dict["TEST"]["NAME"] = scratch
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    os.environ["DATABASE_URL"] = _with_name(server, scratch)
    try:
        yield
    finally:
        connections.close_all()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(scratch)))


def _with_name(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
