"""An answer that goes on without a withdrawn expert, on the real engine behind a real socket."""

from __future__ import annotations

import threading
from dataclasses import replace
from unittest import mock

import openai
import pytest
from django.utils import timezone

from governance.models import UsageRecord
from governance.policy.decide import decide
from governance.services import consumers
from governance.vocabulary import Instrument
from modelops.contract import EndCause, FinishReason
from modelops.engine import reference_engine
from tests import factories
from tests.modelops import worlds
from tests.web.gateway.conftest import serving
from tests.worker import clients, served
from tests.worker.installation import wait_until
from tests.worker.runner.conftest import Running
from web.gateway import pool, views
from web.gateway.policy_feed import PolicyFeed
from worker.runner import escrow, lease
from worker.runner.desk import Admission
from worker.tasks import enforcement

GONE, KEPT = "birch-archive", "alder-news"
WORDS = 40


class Computing(Running):
    """A runner with the real engine, which takes as many steps as it is told to, and one more where
    it is told to load or to withdraw."""

    def __init__(self, place, world):
        super().__init__(place)
        self.world, self.permits = world, threading.Semaphore(0)
        self.allowed = self.taken = 0

    def _make(self, anchor_digest, authority):
        engine = reference_engine(self.world.store, anchor_digest, authority)
        step = engine.step

        def paced():
            is_paced = False
            while engine._open and not engine._errands and not is_paced:
                is_paced = self.permits.acquire(timeout=0.005)
            worked = step()
            self.taken += is_paced
            return worked

        engine.step = paced
        self.engines.append(engine)
        return engine

    def allow(self, steps):
        """Let it take so many more."""
        self.allowed += steps
        self.permits.release(steps)

    def await_rest(self):
        """Return when it has taken all it may."""
        wait_until(lambda: self.taken == self.allowed, 20, "the steps allowed")


@pytest.fixture
def computing(transactional_db, tmp_path):
    world = worlds.build(tmp_path / "world")
    story = served.served(world.anchor_digest, {n: world.experts[n] for n in (GONE, KEPT)})
    story.relicense(GONE, on_withdrawal="recompute")
    one = Computing(tmp_path, world).start()
    yield story, one
    one.allow(10_000)
    one.stop()


def withdrawn(story, name, instrument=Instrument.WITHDRAW):
    """Withdrawn, and confirmed by the runner."""
    withdrawal = story.withdraw(name, instrument)
    enforcement.settle(withdrawal, lambda: None)
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "acks"


def told(story, one, name, instrument=Instrument.WITHDRAW):
    """An answer from whose middle on `name` is withdrawn, asked for as if every licence allowed
    that: what came after the first word, the end, and the row."""
    order = story.order(
        GONE, KEPT, max_tokens=WORDS, recompute_without=(GONE, KEPT), trace_routing=True
    )
    answer = clients.stream(one.url, order)
    one.allow(6)
    next(answer)
    one.await_rest()
    withdrawn(story, name, instrument)
    one.allow(1_000)
    *deltas, end = [message for _, message in answer]
    return deltas, end, UsageRecord.objects.get(order_id=order.order_id)


def assert_goes_on(story, one):
    """The stream is told who is gone, goes on to its end, and the row tells the whole story."""
    deltas, end, row = told(story, one, GONE)
    assert (end.finish_reason, end.cause) == (FinishReason.LENGTH, EndCause.NONE)
    (at,) = [n for n, delta in enumerate(deltas) if delta.recomputed_without]
    assert deltas[at].recomputed_without == (GONE,)
    assert not any(GONE in parts for delta in deltas[at:] for parts in delta.routing)
    assert end.tally.completion_tokens == WORDS
    assert (row.finish_reason, row.cause) == ("recomputed", "length")
    assert row.recomputed_without == [GONE]
    assert sorted(row.allowed) == sorted((GONE, KEPT))
    assert row.routed.keys() == {"public", GONE, KEPT}
    assert row.completion_tokens == WORDS


def assert_ends(story, one, name, instrument=Instrument.WITHDRAW):
    """Nothing goes on."""
    deltas, end, row = told(story, one, name, instrument)
    assert not any(delta.recomputed_without for delta in deltas), "it went on"
    assert (end.finish_reason, end.expert) == (FinishReason.CONTENT_FILTER, name)
    assert (row.finish_reason, row.recomputed_without) == ("content_filter", [])


def test_an_answer_that_may_goes_on_without_a_withdrawn_expert(computing):
    assert_goes_on(*computing)


def test_a_runner_that_does_not_narrow_its_admission_cuts_the_answer(computing):
    with (
        mock.patch.object(Admission, "narrow"),
        pytest.raises(AssertionError, match="CONTENT_FILTER"),
    ):
        assert_goes_on(*computing)


def test_a_gateway_that_asks_for_more_than_the_licence_says_is_not_obeyed(computing):
    assert_ends(*computing, KEPT)


def test_a_runner_that_takes_the_gateways_word_for_the_licence_is_caught(computing):
    def obeying(*arguments, **more):
        return replace(decide(*arguments, **more), recompute_without=(GONE, KEPT))

    with (
        mock.patch.object(escrow, "decide", obeying),
        pytest.raises(AssertionError, match="it went on"),
    ):
        assert_ends(*computing, KEPT)


def test_an_order_of_an_authority_ends_an_answer_whatever_the_licence_says(computing):
    assert_ends(*computing, GONE, Instrument.INVALIDATE)


def test_a_runner_that_does_not_ask_why_an_expert_went_is_caught(computing):
    with (
        mock.patch.object(lease, "may_outlive", return_value=True),
        pytest.raises(AssertionError, match="it went on"),
    ):
        assert_ends(*computing, GONE, Instrument.INVALIDATE)


def why_words_stay(story, one, patch, instrument=Instrument.WITHDRAW):
    """Whether words on their way when GONE is withdrawn may leave: when the engine is told, and
    when the runner acknowledges."""
    holder, server, found, on_their_way = one.runner.holder, one.runner._server, [], []

    def looking(act):
        def looked(*arguments):
            if not on_their_way:
                ((admission, _),) = server._answering.values()
                on_their_way.append(replace(admission))
            with holder.release:
                found.append(server._desk.why_held_back(on_their_way[0]))
            return act(*arguments)

        return looked

    patch.setattr(holder, "_withdraw", looking(holder._withdraw))
    patch.setattr(holder._registry, "ack", looking(holder._registry.ack))
    told(story, one, GONE, instrument)
    return found


def test_words_on_their_way_leave_until_the_runner_acknowledges(computing, monkeypatch):
    found = why_words_stay(*computing, monkeypatch)
    assert found == [EndCause.NONE, EndCause.CONSENT_WITHDRAWN]


def test_words_on_their_way_stay_where_an_authority_ordered_it(computing, monkeypatch):
    found = why_words_stay(*computing, monkeypatch, Instrument.INVALIDATE)
    assert found == [EndCause.CONSENT_WITHDRAWN] * 2


@pytest.fixture
def dara(computing, monkeypatch):
    """Dara's client at the real gateway before that runner."""
    story, one = computing
    monkeypatch.setattr(views, "port", pool.RunnerPool([one.url], quiet_s=20))
    monkeypatch.setattr(views, "feed", PolicyFeed(lease_s=10))
    key = consumers.issue_key(
        story.dara, label="tests", purposes=["research"], by=factories.account(), at=timezone.now()
    )
    with (
        serving() as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key=key.secret, max_retries=0) as client,
    ):
        yield client


def begun(dara, **experts):
    """A stream up to its first word, in a thread of its own: it waits for steps."""
    heard, first = [], threading.Event()

    def read():
        asked = {
            "model": "reclaim", "prompt": "Alder Press prints", "max_tokens": WORDS,
            "temperature": 0, "stream": True, "extra_body": {"experts": experts},
        }  # fmt: skip
        for chunk in dara.completions.create(**asked):
            heard.append(chunk)
            if chunk.choices and chunk.choices[0].text:
                first.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return heard, first, reader


def test_a_consumer_is_told_that_its_answer_goes_on_and_one_that_insisted_that_it_ends(
    computing, dara
):
    story, one = computing
    streams = [begun(dara), begun(dara, require=[GONE])]
    wait_until(lambda: UsageRecord.objects.count() == 2, 20, "both answers begun")
    one.allow(20)
    one.await_rest()
    assert all(first.wait(10) for _, first, _ in streams)
    withdrawn(story, GONE)
    one.allow(1_000)
    for _, _, reader in streams:
        reader.join(20)
    goes_on, insisted = ([c.model_extra["reclaim"] for c in heard if "reclaim" in c.model_extra]
                         for heard, _, _ in streams)  # fmt: skip
    assert [about.get("experts_withdrawn") for about in goes_on] == [None, [GONE], [GONE]]
    assert "ended_by" not in goes_on[-1]
    assert insisted[-1]["ended_by"]["expert"] == GONE
    assert "experts_withdrawn" not in insisted[-1]
    receipt = dara.get(f"/receipts/{goes_on[0]['decision_id']}", cast_to=object)
    assert receipt["experts_withdrawn"] == [GONE]
    assert [a["finish_reason"] for a in receipt["answers"]] == ["recomputed"]
