"""Eight processes race for one quota and are killed in the middle: not one token too many.

Each process is a runner reduced to its dealings with quotas: it reserves, opens a row with a
promise, "makes" a random number of tokens up to it, tells a file of its own how many left, and
closes the row. The auditor knows nothing but those files and the usage rows.
"""

from __future__ import annotations

import random
import signal
import time

import pytest
from django.utils import timezone

from bench.quotas import charged_by_rows, is_spending, released_tokens, spender
from governance.models import Quota, QuotaSlice, RunnerLease, UsageRecord
from governance.services import leases, quotas, usage
from tests import factories

pytestmark = pytest.mark.faults

PROCESSES, KILLS, MAX_TOKENS = 8, 10, 15_000


@pytest.fixture
def licence(clean):
    factories.consumer(slug="dara")
    factories.expert(name="code")
    return factories.licence(
        starts_at=timezone.now(),
        max_tokens=MAX_TOKENS,
        max_answers=400,
        quota_period="term",
        reference="L-quota",
    )


def test_no_token_too_many_with_eight_processes_racing_and_killed(licence, whole, tmp_path):
    chance = random.Random(7)
    books = tmp_path / "books"
    books.mkdir()

    def start(number):
        return spender(whole.environ, licence.reference, books, seed=number)

    running = [start(number) for number in range(PROCESSES)]
    killed = 0
    try:
        while killed < KILLS:
            time.sleep(chance.uniform(0.1, 0.5))
            place = chance.randrange(PROCESSES)
            if not is_spending(running[place], books):
                assert any(process.poll() is None for process in running), "killed too few"
                continue
            if killed % 2:  # each second one dies in mid-answer for certain
                stop_in_mid_answer(running[place])
            running[place].send_signal(signal.SIGKILL)
            running[place].wait()
            killed += 1
            running[place] = start(PROCESSES + killed)
            if chance.random() < 0.5:  # the upkeep task finds some of the dead, not all at once
                reap({process.pid for process in running})
        deadline = time.monotonic() + 240
        while any(process.poll() is None for process in running):
            reap({process.pid for process in running if process.poll() is None})
            assert time.monotonic() < deadline, "spenders end when the quota is used up"
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
            process.wait()
    reap(set())

    quota = Quota.objects.get()
    released, charged = released_tokens(books), charged_by_rows(licence.reference)
    spent = sum(QuotaSlice.objects.values_list("spent_tokens", flat=True))
    assert released <= charged == spent == quota.taken_tokens <= MAX_TOKENS
    assert UsageRecord.objects.count() <= 400
    assert released > MAX_TOKENS / 4, "the race was about something"
    assert UsageRecord.objects.filter(finish_reason=usage.LOST).exists(), "a death in mid-answer"


def stop_in_mid_answer(process):
    """Stop it where it has promised tokens to an answer that is not closed; or it has ended."""
    opened = UsageRecord.objects.filter(closed_at=None, incarnation__stats__pid=process.pid)
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        if opened.exists():
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.005)


def reap(alive):
    """What upkeep does once a runner was silent long enough; here its process number tells."""
    for lease in RunnerLease.objects.filter(closed_at=None):
        if lease.stats.get("pid") not in alive:
            leases.close(lease.pk, at=timezone.now())
    usage.close_lost(at=timezone.now())
    quotas.reclaim(at=timezone.now())
