"""A database that dies or freezes, a runner that sleeps through it: nothing licensed gets out."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import aclosing

import pytest
from django.db import DatabaseError, connection

from governance.models import FollowUp, RunnerLease, UsageRecord
from governance.vocabulary import FollowUpKind
from modelops.contract import Delta, Done, EndCause, FinishReason, RefusalReason, Refused
from tests.faults.harness import world
from tests.worker import clients
from tests.worker.installation import wait_until
from web.gateway.pool import RunnerPool
from web.gateway.port import RunnerLost
from worker.tasks import enforcement, upkeep

pytestmark = pytest.mark.faults

LEASE_S = 1.0
SEEDS = range(1, 7)
"""Of `make faults`, which has five hundred."""
BUSY_S = 0.75
"""What a loaded machine may add to any wait."""


def listen(url, order):
    """Read an answer in a thread; the list fills as it comes."""
    heard = []

    def read():
        for one in clients.stream(url, order):
            heard.append(one)  # noqa: PERF402 - filled while it is read

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return heard, thread


def is_up(url, experts=2):
    said = clients.health(url)
    return said["policy_epoch"] and len(said["loaded"]) == experts


def told_at(message):
    """When the stub released a word, as the word itself says."""
    return float(message.text)


def test_without_its_database_licensed_answers_end_within_the_lease_and_come_back(
    story, stub, clean
):
    url = stub("one", LEASE_S)
    wait_until(lambda: is_up(url), 30, "the runner")
    order, public = story.order(max_tokens=10**6), story.order(allowed=(), max_tokens=10**6)
    spare = story.order(max_tokens=3)
    heard, reader = listen(url, order)
    heard_public, reader_public = listen(url, public)
    wait_until(lambda: len(heard) > 20 and len(heard_public) > 20, 10, "words")

    killed_at = time.time()
    clean.postgres.kill()
    connection.close()
    reader.join(timeout=10)
    *words, (_, end) = heard
    assert (end.finish_reason, end.cause) != (FinishReason.LENGTH, EndCause.NONE)
    assert max(told_at(word) for _, word in words) <= killed_at + LEASE_S + BUSY_S
    [refused] = clients.ask(url, spare)
    assert isinstance(refused, Refused)
    assert refused.reason in (RefusalReason.NO_LEASE, RefusalReason.USAGE_UNRECORDED)
    assert refused.retry
    assert isinstance(heard_public[-1][1], Delta)  # the public expert is under no lease

    clean.postgres.start()

    def answers():
        try:
            return isinstance(clients.ask(url, story.order(max_tokens=3))[-1], Done)
        except DatabaseError:
            connection.close()
            return False

    wait_until(answers, 30, "answers again")
    wait_until(
        lambda: UsageRecord.objects.get(order_id=order.order_id).closed_at, 15, "the row closed"
    )
    row = UsageRecord.objects.get(order_id=order.order_id)
    assert (row.finish_reason, row.cause) == ("content_filter", "lease_lost")
    assert reader_public.is_alive()


def test_a_frozen_database_is_no_better_than_a_dead_one(story, stub, clean):
    url = stub("one", LEASE_S)
    wait_until(lambda: is_up(url), 30, "the runner")
    heard, reader = listen(url, story.order(max_tokens=10**6))
    wait_until(lambda: len(heard) > 20, 10, "words")
    frozen_at = time.time()
    with clean.postgres.frozen():
        wait_until(lambda: time.time() - heard[-1][0] > 2 * LEASE_S, 15, "silence")
        words = [message for _, message in heard if isinstance(message, Delta)]
        assert max(map(told_at, words)) <= frozen_at + LEASE_S + BUSY_S
    reader.join(timeout=20)
    wait_until(lambda: is_up(url), 30, "the lease again")


def test_a_runner_that_sleeps_through_a_withdrawal_is_waited_for_and_wakes_up_empty_handed(
    story, stub, whole
):
    urls = [stub(name, LEASE_S) for name in ("one", "two")]
    for url in urls:
        wait_until(lambda url=url: is_up(url), 30, "the runner")
    readers = [listen(url, story.order(max_tokens=10**6)) for url in urls]
    wait_until(lambda: all(len(heard) > 20 for heard, _ in readers), 10, "words")
    asleep = whole.running["one"]
    os.kill(asleep.pid, signal.SIGSTOP)
    stopped_at = time.time()
    try:
        withdrawal = story.withdraw("code")
        enforcement.quiesce.run(str(FollowUp.objects.get(kind=FollowUpKind.QUIESCE).pk))
        withdrawal.refresh_from_db()
        assert withdrawal.quiesced_by == "expiry"
        waited_s = (withdrawal.quiesced_at - withdrawal.committed_at).total_seconds()
        assert waited_s >= LEASE_S
        assert {line["how"] for line in withdrawal.settled} == {"acked", "expired"}
    finally:
        os.kill(asleep.pid, signal.SIGCONT)
    for _, reader in readers:
        reader.join(timeout=20)
        assert not reader.is_alive()
    effective = withdrawal.quiesced_at.timestamp()
    for heard, _ in readers:
        *words, (_, end) = heard
        assert [word for _, word in words if told_at(word) > effective] == []
        # What the sleeper had handed to its socket before it was stopped may still arrive; the
        # certificate says that it does not claim those bytes. Nothing later may.
        assert all(told_at(word) <= stopped_at for at, word in words if at > effective)
        assert end.finish_reason is FinishReason.CONTENT_FILTER
    for row in UsageRecord.objects.all():
        assert row.finish_reason == "content_filter"


def test_a_runner_killed_in_mid_answer_holds_up_a_withdrawal_no_longer_than_its_lease(
    story, stub, whole
):
    url = stub("one", LEASE_S)
    wait_until(lambda: is_up(url), 30, "the runner")
    heard, _ = listen(url, story.order(max_tokens=10**6))
    wait_until(lambda: len(heard) > 20, 10, "words")
    whole.kill("one")
    withdrawal = story.withdraw("code")
    enforcement.quiesce.run(str(FollowUp.objects.get(kind=FollowUpKind.QUIESCE).pk))
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "expiry"
    waited_s = (withdrawal.quiesced_at - withdrawal.committed_at).total_seconds()
    assert LEASE_S <= waited_s <= LEASE_S * 1.01 + 0.25 + BUSY_S


def test_a_killed_runners_answer_is_lost_its_row_closed_and_its_incarnation_with_it(
    story, stub, whole
):
    urls = [stub(name) for name in ("one", "two")]
    for url in urls:
        wait_until(lambda url=url: is_up(url), 30, "the runner")
    door = RunnerPool(urls)
    cut, spare = story.order(max_tokens=10**6), story.order(max_tokens=3)

    async def killed_in_the_middle():
        async with aclosing(door.stream(cut)) as messages:
            await anext(messages)
            whole.kill("one")
            async for _ in messages:
                pass

    with pytest.raises(RunnerLost, match="went away"):
        asyncio.run(killed_in_the_middle())

    async def goes_elsewhere():
        async with aclosing(door.stream(spare)) as messages:
            return [message async for message in messages][-1]

    assert isinstance(asyncio.run(goes_elsewhere()), Done)
    row = UsageRecord.objects.get(order_id=cut.order_id)
    assert row.closed_at is None

    stub("one")  # as supervisord does: the same name, a new incarnation
    wait_until(lambda: is_up(urls[0]), 30, "the runner again")

    def is_reaped():
        upkeep.reap_leases.run()
        return UsageRecord.objects.get(pk=row.pk).closed_at

    wait_until(is_reaped, 30, "the row closed")
    row.refresh_from_db()
    assert (row.finish_reason, row.cause) == ("lost", "runner_ended")
    assert row.incarnation.closed_at is not None
    open_ones = RunnerLease.objects.filter(closed_at=None).values_list("runner", flat=True)
    assert sorted(open_ones) == ["one", "two"]
    assert UsageRecord.objects.filter(order_id=cut.order_id).count() == 1


def test_whatever_fails_around_a_withdrawal_it_holds_and_the_rows_are_whole(clean, whole):
    with world(whole.home, clean.postgres, clean.database) as made:
        for seed in SEEDS:
            made.run(seed)
        report = made.finish(slack_s=0.25 + BUSY_S)
    assert report.complaints == []
    assert report.withdrawals == len(SEEDS)
    assert report.words > 100
