"""Real servers for the tests: a private PostgreSQL and Redis per run, unless the URLs name others.

Ports and passwords are chosen here, before Django reads its settings; the servers themselves
start with the first test that needs one, so a run of pure tests starts nothing. The processes
of pytest-xdist share them. RECLAIM_TEST_HOME=<folder> keeps them running between runs.
"""

import contextlib
import os
import re
import shutil
import tempfile
import uuid
from pathlib import Path

import django
import pytest

from governance import tenancy
from worker import processes

_BASE = Path(tempfile.gettempdir()) / f"reclaim-tests-{os.geteuid()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end_killed_runs() -> None:
    """Stop the servers of runs that were killed before they could."""
    for folder in _BASE.iterdir():
        if folder.name.isdigit() and not _alive(int(folder.name)):
            with contextlib.suppress(processes.ProcessesError):
                processes.erase(processes.Home(folder))
            shutil.rmtree(folder, ignore_errors=True)


def _own_home() -> processes.Home:
    _BASE.mkdir(mode=0o711, exist_ok=True)
    if _BASE.stat().st_uid != os.geteuid():
        pytest.exit(f"expected {_BASE} to be ours; remove it or set TMPDIR", returncode=3)
    _end_killed_runs()
    return processes.Home(_BASE / str(os.getpid()))


_GIVEN = os.environ.get("RECLAIM_TEST_HOME")
_IS_FIRST = not _GIVEN
_HOME = processes.Home(Path(_GIVEN).absolute()) if _GIVEN else _own_home()


def _worker_number() -> int:
    return int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)


def _set_environment() -> dict[str, str]:
    """Point Django at the servers; return the environment the servers themselves start in."""
    urls = ("DATABASE_URL", "REDIS_URL")
    # the first process tells the others of this run which addresses the operator gave
    given = os.environ.setdefault(
        "RECLAIM_TEST_GIVEN", ",".join(key for key in urls if os.environ.get(key)) or "none"
    ).split(",")
    environ = {key: value for key, value in os.environ.items() if key not in {*urls} - {*given}}
    environ.pop("RECLAIM_WEB_PORT", None)
    chosen = processes.prepare(_HOME, environ)
    os.environ["RECLAIM_HOME"] = os.environ["RECLAIM_TEST_HOME"] = str(_HOME.path)
    os.environ["DJANGO_SETTINGS_MODULE"] = "web.settings"
    if "database_url" in chosen:
        os.environ["DATABASE_URL"] = chosen["database_url"]
    if "redis_url" in chosen:
        # a database of its own for each xdist process: queues must not mix
        os.environ["REDIS_URL"] = re.sub(r"/0$", f"/{_worker_number()}", chosen["redis_url"])
    return environ


_ENVIRON = _set_environment()
django.setup()
# Tests act for the system, as our own processes do; requests and tests of tenancy act for people.
tenancy.be_system()


LONG = re.compile(r"tests/(browser|faults|model|trips|worker)/")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: what is left at the end is short, and no process waits for another."""
    items.sort(key=lambda item: LONG.match(item.nodeid) is None)


def pytest_unconfigure() -> None:
    if _IS_FIRST:
        processes.erase(_HOME)


@pytest.fixture(scope="session")
def servers() -> dict[str, str]:
    """`database_url` and `redis_url` of servers that are up."""
    processes.start(_HOME, _ENVIRON, processes.SERVERS)
    return {"database_url": os.environ["DATABASE_URL"], "redis_url": os.environ["REDIS_URL"]}


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers, django_db_modify_db_settings_parallel_suffix):
    """pytest-django's door before it makes the test database: the server must be up."""


@pytest.fixture
def redis_url(servers):
    """The address of a real Redis, emptied before the test."""
    import redis

    with redis.Redis.from_url(servers["redis_url"]) as client:
        client.flushdb()
    return servers["redis_url"]


@pytest.fixture(autouse=True)
def log_published_apart(monkeypatch):
    """Each test's database has a history of its own; files of another would contradict it."""
    from governance.log import sequencer

    folder = _HOME.path / "logs" / uuid.uuid4().hex
    monkeypatch.setattr(sequencer, "FOLDER", str(folder))
    yield
    if folder.exists():
        shutil.rmtree(folder)
