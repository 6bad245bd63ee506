"""A runner in this process with the stub engine, on a real database and a real socket."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from bench.stub_engine import StubEngine
from tests.worker import clients, served
from worker.runner.service import Runner


class Running:
    """A runner in a thread of its own; `lease_s` short, so that expiry can be waited for."""

    def __init__(
        self, place, *, lease_s=1.0, token_s=0.002, name="runner-1", grace_s=0.2, listens=True
    ):
        self.url = f"unix://{place / (name + '.sock')}"
        self.engines = []
        self.runner = Runner(
            name,
            self.url,
            lease_s=lease_s,
            make_engine=self._make,
            grace_s=grace_s,
            listens=listens,
        )
        self._token_s = token_s
        self.ended_well = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _make(self, anchor_digest, authority):
        engine = StubEngine(authority, token_s=self._token_s)
        self.engines.append(engine)
        return engine

    def _run(self):
        self.ended_well = asyncio.run(self.runner.run())

    def start(self, *, loaded=2):
        self._thread.start()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            said = clients.health(self.url)
            if said["policy_epoch"] and len(said["loaded"]) == loaded:
                return self
            time.sleep(0.01)
        raise AssertionError(f"the runner did not come up: {said}")

    def stop(self):
        self.runner.stop()
        self._thread.join(timeout=15)
        assert not self._thread.is_alive()


@pytest.fixture
def story(transactional_db):
    return served.served()


@pytest.fixture
def running(story, tmp_path):
    """A started runner."""
    one = Running(tmp_path).start()
    yield one
    one.stop()
