"""A served build, two consumers with keys, a stub runner, and the real ASGI application."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import openai
import pytest
from django.utils import timezone

from governance.models import Account, Build
from governance.services import consumers, snapshots
from tests import factories
from tests.web.gateway.stub_runner import StubRunner


@dataclass(frozen=True)
class Served:
    """What is served, and to whom. `ember` may not use `code`."""

    build: Build
    dara: str
    ember: str
    staff: Account


@pytest.fixture
def runner(monkeypatch):
    """The stub in the place of the runner."""
    with tempfile.TemporaryDirectory() as folder, StubRunner(Path(folder) / "r.sock") as stub:
        from web.gateway import pool, views

        monkeypatch.setattr(views, "port", pool.RunnerPool([stub.url], quiet_s=5))
        yield stub


@pytest.fixture
def served(transactional_db, monkeypatch) -> Served:
    """A promoted build of `code` and `math`, which has a quota, and policy about it."""
    from web.gateway import views
    from web.gateway.policy_feed import PolicyFeed

    monkeypatch.setattr(views, "feed", PolicyFeed(lease_s=10))
    staff = factories.account("Cato")
    anchor = factories.anchor()
    revisions = []
    for name in ("code", "math"):
        corpus = factories.corpus(slug=name)
        excluded = ["ember-analytics"] if name == "code" else []
        factories.licence(
            reference=f"{name}-v1",
            corpus=corpus,
            excluded_consumers=excluded,
            max_tokens=1_000 if name == "math" else None,
            quota_period="year",
            starts_at=timezone.now() - timedelta(days=1),
        )
        expert = factories.expert(name=name, corpus=corpus)
        revision = factories.revision(expert=expert, anchor=anchor)
        factories.finding(revision=revision)
        revisions.append(revision)
    build = factories.build(*revisions)
    snapshots.publish(reason="tests", build=build, at=timezone.now())
    keys = {}
    for slug in ("dara-research", "ember-analytics"):
        consumer = factories.consumer(slug=slug, territory="DE")
        keys[slug] = consumers.issue_key(
            consumer, label="tests", purposes=["research", "education"], by=staff,
            at=timezone.now(),
        ).secret  # fmt: skip
    return Served(build, keys["dara-research"], keys["ember-analytics"], staff)


@pytest.fixture
def site(served, runner):
    """The address of the real application on a real socket, served as operators serve it."""
    with serving() as (url, _):
        yield url


@pytest.fixture
def dara(site, served):
    with openai.OpenAI(base_url=f"{site}/v1", api_key=served.dara, max_retries=0) as client:
        yield client


@pytest.fixture
def ember(site, served):
    with openai.OpenAI(base_url=f"{site}/v1", api_key=served.ember, max_retries=0) as client:
        yield client


@contextmanager
def serving():
    """The address of the application while it serves, and its server."""
    from web import serve

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = serve.Server(serve.configured(log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        end_s = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < end_s, "the application did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
