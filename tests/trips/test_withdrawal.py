"""Trip 4: one click, and everything that follows, by our own processes on the tiny model."""

from __future__ import annotations

import json
import threading
import time

import pytest
from django.db import connection

from governance.models import Expert, FollowUp, RunnerLease, UsageRecord
from governance.vocabulary import BuildState, ExpertState, FollowUpKind, FollowUpState
from modelops.contract import Delta, Done, EndCause, FinishReason, Refused
from tests.modelops import worlds
from tests.worker import clients, served
from tests.worker.installation import database_of_test, installation, wait_until

pytestmark = pytest.mark.slow

READ_LATE_S = 0.25
"""How late a busy machine may let a reader see what a runner had written before."""


@pytest.fixture
def tiny(tmp_path):
    return worlds.build(tmp_path)


@pytest.fixture
def story(transactional_db, tiny):
    told = served.served(tiny.anchor_digest, tiny.experts)
    for expert in told.experts.values():
        for revision in expert.revisions.all():
            revision.weights_digest = tiny.store.expert(revision.digest).weights_digest
            revision.save()
    return told


@pytest.fixture
def whole(story, tmp_path, redis_url):
    made = installation(tmp_path, database_of_test(), redis_url)
    yield made
    made.stop()


def ask_on(url, make_order, stopping, heard):
    while not stopping.is_set():
        heard.append(list(clients.stream(url, make_order())))
    connection.close()


def check_what_was_heard(heard, effective):
    """Nothing of the expert after the withdrawal was effective, and cut answers say why."""
    assert any(answer[0][0] < effective for answer in heard)
    for answer in heard:
        end = answer[-1][1]
        words_at = [at for at, message in answer if isinstance(message, Delta)]
        if isinstance(end, Done) and "alder-news" in end.tally.routed:
            assert max(words_at, default=0) <= effective + READ_LATE_S
        if isinstance(end, Done) and end.finish_reason is FinishReason.CONTENT_FILTER:
            assert end.cause is EndCause.CONSENT_WITHDRAWN
        if isinstance(end, Refused):
            assert end.retry


def test_one_click_stops_use_rebuilds_erases_and_certifies(whole, story, tiny):
    whole.runner("r")
    whole.relay()
    whole.worker("enforce", "-c", "2")
    whole.worker("models", "-P", "solo")
    wait_until(lambda: whole.home.joinpath("r.sock").exists(), 60, "a runner")
    wait_until(lambda: clients.health(whole.runner_url)["builds"], 60, "the build loaded")

    stopping, heard = threading.Event(), []
    readers = [
        threading.Thread(
            target=ask_on,
            args=(
                whole.runner_url,
                lambda: story.order("alder-news", "birch-archive", max_tokens=100),
                stopping,
                heard,
            ),
        )
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    wait_until(lambda: len(heard) >= 2, 30, "answers before the withdrawal")

    withdrawal = story.withdraw("alder-news")

    def is_settled():
        withdrawal.refresh_from_db()
        return withdrawal.quiesced_at

    wait_until(is_settled, 30, "the withdrawal enforced")
    time.sleep(0.5)
    stopping.set()
    for reader in readers:
        reader.join(timeout=30)
    effective = withdrawal.quiesced_at.timestamp()
    check_what_was_heard(heard, effective)

    def left():
        return FollowUp.objects.exclude(state=FollowUpState.DONE)

    wait_until(lambda: not left().exists(), 120, "every follow-up done")
    check_what_is_left(story, tiny, withdrawal)
    check_it_serves_on_without(whole, story)


def check_what_is_left(story, tiny, withdrawal):
    """Rebuilt and proved, tombstoned, erased, certified."""
    story.build.refresh_from_db()
    withdrawal.refresh_from_db()
    rebuilt = withdrawal.builds.get()
    assert story.build.state == BuildState.TOMBSTONED
    assert rebuilt.state == BuildState.PROMOTED
    assert rebuilt.proof["withdrawn_expert_absent"] is True
    assert rebuilt.proof["masked_equals_rebuilt"] is True
    assert Expert.objects.get(name="alder-news").state == ExpertState.ERASED
    assert not tiny.store.has(tiny.experts["alder-news"])
    said = withdrawal.erasure["runners"]
    assert [entry["runner"] for entry in said] == ["r"]
    stages = set(withdrawal.certificates.values_list("stage", flat=True))
    assert stages == {"blocked", "unloaded", "rebuilt"}
    for certificate in withdrawal.certificates.all():
        assert json.loads(certificate.envelope)["signatures"]
    assert FollowUp.objects.filter(kind=FollowUpKind.REBUILD).get().evidence["proof"]


def check_it_serves_on_without(whole, story):
    """The others go on answering, nothing routes to it, no usage row is left open."""
    after = clients.ask(whole.runner_url, story.order("birch-archive", max_tokens=3))
    assert after[-1].finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert "alder-news" not in after[-1].tally.routed
    assert not UsageRecord.objects.filter(closed_at=None).exists()
    [lease] = RunnerLease.objects.filter(closed_at=None)
    assert "alder-news" not in [entry["name"] for entry in lease.loaded]
