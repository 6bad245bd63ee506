"""An answer that goes on without a withdrawn expert, on the real engine behind a real socket."""

from __future__ import annotations

import threading
from unittest import mock

import pytest

from governance.models import UsageRecord
from modelops.contract import EndCause, FinishReason, OnWithdrawal
from modelops.engine import reference_engine
from tests.modelops import worlds
from tests.worker import clients, served
from tests.worker.runner.conftest import Running
from worker.runner.desk import Admission
from worker.tasks import enforcement

GONE, KEPT = "birch-archive", "alder-news"
WORDS = 40


class Computing(Running):
    """A runner with the real engine, which takes as many steps as `steps` was released for, and
    one more where it is told to load or to withdraw."""

    def __init__(self, place, world):
        super().__init__(place)
        self.world, self.steps = world, threading.Semaphore(0)

    def _make(self, anchor_digest, authority):
        engine = reference_engine(self.world.store, anchor_digest, authority)
        step = engine.step

        def paced():
            while engine._open and not engine._errands and not self.steps.acquire(timeout=0.005):
                pass
            return step()

        engine.step = paced
        self.engines.append(engine)
        return engine


@pytest.fixture
def computing(transactional_db, tmp_path):
    world = worlds.build(tmp_path / "world")
    story = served.served(world.anchor_digest, {n: world.experts[n] for n in (GONE, KEPT)})
    one = Computing(tmp_path, world).start()
    yield story, one
    one.steps.release(10_000)
    one.stop()


def assert_goes_on(story, one):
    """The stream is told who is gone, goes on to its end, and the row tells the whole story."""
    order = story.order(GONE, KEPT, max_tokens=WORDS, on_withdrawal=OnWithdrawal.RECOMPUTE)
    answer = clients.stream(one.url, order)
    one.steps.release(6)
    next(answer)
    withdrawal = story.withdraw(GONE)
    enforcement.settle(withdrawal, lambda: None)
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "acks"
    one.steps.release(1_000)
    *deltas, end = [message for _, message in answer]
    assert (end.finish_reason, end.cause) == (FinishReason.LENGTH, EndCause.NONE)
    assert [delta.recomputed_without for delta in deltas if delta.recomputed_without] == [(GONE,)]
    assert end.tally.completion_tokens == WORDS
    row = UsageRecord.objects.get(order_id=order.order_id)
    assert (row.finish_reason, row.cause) == ("recomputed", "length")
    assert sorted(row.allowed) == sorted((GONE, KEPT))
    assert row.routed.keys() == {"public", GONE, KEPT}
    assert row.completion_tokens == WORDS


def test_an_answer_that_may_goes_on_without_a_withdrawn_expert(computing):
    assert_goes_on(*computing)


def test_a_runner_that_does_not_narrow_its_admission_cuts_the_answer(computing):
    with (
        mock.patch.object(Admission, "narrow"),
        pytest.raises(AssertionError, match="CONTENT_FILTER"),
    ):
        assert_goes_on(*computing)
