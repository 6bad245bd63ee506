"""Servers that only these tests use, so that they may be stopped, frozen and killed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections

from tests.worker import served
from tests.worker.installation import Installation, installation, own_servers
from worker.processes import Home, servers


@pytest.fixture(scope="module")
def own(django_db_blocker):
    """A PostgreSQL and a Redis of this file's own; the rows of this process are there too."""
    folder = Path(tempfile.mkdtemp(prefix="rf-"))
    place = connections.settings["default"]
    kept = dict(place)
    try:
        with own_servers(folder) as made, django_db_blocker.unblock():
            connection.close()
            place.update(made.database)
            call_command("migrate", verbosity=0)
            yield made
            connection.close()
    finally:
        place.update(kept)
        shutil.rmtree(servers.roots_own_folder(Home(folder)), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def clean(own, django_db_blocker):
    """Both servers up and the tables empty, before and after."""
    yield own
    for server in (own.postgres, own.redis):
        if not server.is_running:
            server.start()
    connection.close()
    call_command("flush", verbosity=0, interactive=False)


@pytest.fixture
def story(clean):
    return served.served()


@pytest.fixture
def whole(clean, tmp_path) -> Installation:
    """Our processes on those servers."""
    made = installation(tmp_path, clean.database, clean.redis_url)
    yield made
    made.stop()


@pytest.fixture
def stub(whole):
    """Starts a runner process around the stub engine and gives its URL."""

    def start(name: str, lease_s: float = 1.0) -> str:
        url = f"unix://{whole.home / (name + '.sock')}"
        whole.start(
            name, "bench.stub_runner", "--name", name, "--url", url, "--lease-s", str(lease_s)
        )
        return url

    return start
