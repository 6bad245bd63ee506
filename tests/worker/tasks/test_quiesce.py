"""The coordinator: acknowledgements or one lease length, and an instant of effect that is true."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection
from django.utils import timezone

from governance.models import FollowUp, RunnerLease
from governance.services import leases, withdrawals
from governance.vocabulary import FollowUpKind, FollowUpState
from tests import factories
from tests.worker import served
from worker.tasks import enforcement


@pytest.fixture
def story(transactional_db):
    return served.served()


def lease(lease_s=0.5):
    """A runner that holds the policy of before the withdrawal."""
    now = timezone.now()
    return factories.lease(granted_at=now, renewed_at=now, started_at=now, lease_s=lease_s)


def coordinate():
    row = FollowUp.objects.get(kind=FollowUpKind.QUIESCE)
    enforcement.quiesce.run(str(row.pk))
    row.refresh_from_db()
    assert row.state == FollowUpState.DONE
    return row


def acknowledge_after(seconds, row, policy_epoch, noted):
    def ack():
        time.sleep(seconds)
        leases.ack(row.incarnation, policy_epoch=policy_epoch, at=timezone.now())
        noted.append(timezone.now())
        connection.close()

    thread = threading.Thread(target=ack)
    thread.start()
    return thread


def test_without_any_runner_it_is_true_at_once(story):
    withdrawal = story.withdraw("code")
    assert coordinate().evidence["quiesced_by"] == "acks"
    withdrawal.refresh_from_db()
    assert withdrawal.settled == []


def test_it_waits_for_the_last_acknowledgement_and_dates_the_effect_after_it(story):
    rows = [lease(lease_s=30) for _ in range(3)]
    withdrawal = story.withdraw("code")
    noted = []
    threads = [
        acknowledge_after(0.1 * (n + 1), row, withdrawal.policy_epoch, noted)
        for n, row in enumerate(rows)
    ]
    coordinate()
    for thread in threads:
        thread.join()
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "acks"
    acked_at = RunnerLease.objects.values_list("applied_epoch", flat=True)
    assert set(acked_at) == {withdrawal.policy_epoch}
    # the acknowledgement itself, a moment before it was noted here
    assert all((withdrawal.quiesced_at - at).total_seconds() > -0.05 for at in noted)


def test_an_effect_dated_before_the_acknowledgements_were_counted_would_be_found(story):
    """Why the look comes first: a date taken while waiting for the lock lies before the truth."""
    from governance.services import withdrawals

    row = lease(lease_s=30)
    withdrawal = story.withdraw("code")
    before = timezone.now()
    time.sleep(0.01)
    leases.ack(row.incarnation, policy_epoch=withdrawal.policy_epoch, at=timezone.now())
    acked = timezone.now()
    assert withdrawals.try_settle(withdrawal, waited_s=0, at=before)
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_at < acked


def test_a_silent_runner_is_waited_for_one_lease_by_our_own_clock(story):
    lease(lease_s=0.5)
    withdrawal = story.withdraw("code")
    began_s = time.monotonic()
    row = coordinate()
    assert time.monotonic() - began_s >= 0.5 * 1.01
    assert row.evidence["quiesced_by"] == "expiry"
    withdrawal.refresh_from_db()
    assert [line["how"] for line in withdrawal.settled] == ["expired"]


def test_a_coordinator_that_takes_over_waits_a_whole_lease_of_its_own(story):
    lease(lease_s=0.5)
    story.withdraw("code")
    time.sleep(0.6)  # another coordinator had waited that long, and died
    began_s = time.monotonic()
    coordinate()
    assert time.monotonic() - began_s >= 0.5


def test_the_wait_is_as_long_as_the_longest_lease_that_is_open(story):
    lease(lease_s=0.2)
    lease(lease_s=30)
    look = withdrawals.look(story.withdraw("code"))
    assert not look.is_acked
    assert not look.is_over(30.0)
    assert look.is_over(30.4)


def test_a_coordinator_whose_claim_is_lost_stops_waiting(story):
    lease(lease_s=30)
    withdrawal = story.withdraw("code")

    class Lost(Exception):
        pass

    def check():
        raise Lost

    with pytest.raises(Lost):
        enforcement.settle(withdrawal, check)
