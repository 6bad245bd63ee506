"""The clock's work: silent runners are closed, written ends recorded, the log sealed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from governance.models import (
    Duty,
    LogLeaf,
    Quota,
    RunnerLease,
    Statement,
    UsageRecord,
    WholeHistory,
)
from governance.services import effects, leases, licences, quotas, snapshots
from tests import factories
from worker.tasks import upkeep


@pytest.fixture(autouse=True)
def no_memories(monkeypatch):
    monkeypatch.setattr(upkeep, "_silences", {})
    monkeypatch.setattr(upkeep, "_histories", {})


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(upkeep, "time", made)
    return made


def test_a_runner_silent_for_three_leases_by_our_own_clock_is_closed(db, clock):
    lease = factories.lease(lease_s=10)
    assert upkeep.reap_leases.run() == []
    clock.now_s += 29
    assert upkeep.reap_leases.run() == []
    clock.now_s += 2
    assert upkeep.reap_leases.run() == [str(lease.incarnation)]
    assert RunnerLease.objects.get(pk=lease.pk).closed_at is not None


def test_a_renewal_in_between_begins_the_wait_anew(db, clock):
    lease = factories.lease(lease_s=10)
    for _ in range(6):
        assert upkeep.reap_leases.run() == []
        clock.now_s += 25
        lease.renewed_at += timedelta(seconds=3)
        lease.save()


def test_a_wall_clock_that_jumps_ahead_closes_nobody(db, clock):
    factories.lease(lease_s=10, renewed_at=timezone.now() - timedelta(days=400))
    assert upkeep.reap_leases.run() == []
    assert upkeep.reap_leases.run() == []


def test_a_history_is_whole_once_it_was_seen_for_the_longest_lease(db, clock, monkeypatch):
    for history, waits in (("7393/1", (0, 200, 100)), ("7393/2", (0, 304))):
        monkeypatch.setattr(leases, "history", lambda history=history: history)
        for wait_s in waits:
            assert not WholeHistory.objects.filter(history=history).exists()
            clock.now_s += wait_s
            upkeep.reap_leases.run()
    assert [one.history for one in WholeHistory.objects.all()] == ["7393/2"]


def test_rows_a_dead_runner_left_open_are_closed_as_lost(db, clock):
    lease = factories.lease(lease_s=1)
    row = factories.usage(incarnation=lease, closed_at=None, finish_reason="")
    upkeep.reap_leases.run()
    clock.now_s += 4
    upkeep.reap_leases.run()
    assert UsageRecord.objects.get(pk=row.pk).finish_reason == "lost"


def test_a_written_end_that_has_come_is_recorded_once(db, settings, tmp_path):
    now = timezone.now()
    licence = factories.licence(
        starts_at=now - timedelta(days=9), ends_at=now - timedelta(minutes=1)
    )
    assert upkeep.watch_licences.run()["expired"] == 1
    assert licence.endings.get().instrument == "expire"
    assert upkeep.watch_licences.run()["expired"] == 0
    assert snapshots.current() is None


def test_what_was_ended_otherwise_has_not_expired(db):
    now = timezone.now()
    licence = factories.licence(
        starts_at=now - timedelta(days=9), ends_at=now - timedelta(minutes=1)
    )
    licences.end(licence, instrument="revoke", by=None, at=now - timedelta(days=2))
    for _ in range(2):
        assert upkeep.watch_licences.run()["expired"] == 0
    assert [ending.instrument for ending in licence.endings.all()] == ["revoke"]


def test_an_end_is_recorded_with_the_instant_it_was_written_for(db):
    now = timezone.now()
    ends_at = now - timedelta(hours=3)
    licence = factories.licence(starts_at=now - timedelta(days=9), ends_at=ends_at)
    upkeep.watch_licences.run()
    ending = licence.endings.get()
    assert ending.effective_at == ends_at
    assert ending.recorded_at > ends_at


def test_a_notice_given_later_than_the_end_does_not_hide_it(db):
    now = timezone.now()
    licence = factories.licence(
        starts_at=now - timedelta(days=9), ends_at=now - timedelta(days=2), notice_days=5
    )
    licences.end(licence, instrument="terminate", by=None, at=now - timedelta(days=6))
    assert upkeep.watch_licences.run()["expired"] == 1
    assert upkeep.watch_licences.run()["expired"] == 0


def test_an_expert_is_taken_back_when_its_notice_is_over(db):
    expert = factories.expert()
    past = timezone.now() - timedelta(days=1)
    effects.put_into_effect("terminate", expert, by=None, at=past, method="tests")
    assert upkeep.watch_licences.run()["taken_back"] == 1
    assert upkeep.watch_licences.run()["taken_back"] == 0
    expert.refresh_from_db()
    assert expert.state == "withdrawn"


def test_the_log_is_sealed_and_an_empty_stage_is_no_work(transactional_db, settings, tmp_path):
    from django.db import transaction

    from governance.log import events
    from governance.vocabulary import EventTag

    settings.RECLAIM_HOME, settings.RECLAIM_KEYS = tmp_path, tmp_path / "keys"
    with transaction.atomic():
        events.stage(
            EventTag.OWNER_REGISTERED, subject="owner:1", by=None, at=timezone.now(), details={}
        )
    assert upkeep.seal_log.run() == 1
    assert upkeep.seal_log.run() == 0
    assert LogLeaf.objects.count() == 1


def test_follow_ups_nobody_takes_are_counted(db):
    long_ago = timezone.now() - timedelta(hours=1)
    factories.follow_up(opened_at=long_ago, due_at=long_ago)
    factories.follow_up(opened_at=timezone.now(), due_at=timezone.now())
    assert upkeep.watch_follow_ups.run() == 1


def test_what_a_silent_runner_held_of_a_quota_goes_back(db, clock):
    at = timezone.now()
    licence = factories.licence(
        starts_at=at - timedelta(days=1), max_tokens=1_000, quota_period="day"
    )
    lease = factories.lease(lease_s=10)
    quotas.reserve(licence.reference, incarnation=lease.pk, tokens=600, at=at)
    upkeep.reap_leases.run()
    assert Quota.objects.get().taken_tokens == 600
    clock.now_s += 31
    upkeep.reap_leases.run()
    assert Quota.objects.get().taken_tokens == 0


def test_duties_are_opened_and_last_months_statements_issued_once(db):
    last_month = timezone.now().replace(day=1) - timedelta(days=1)
    begin = last_month.replace(day=1)
    licence = factories.licence(starts_at=begin, decided_at=begin, minimum_per_period=5)
    upkeep.watch_duties.run()
    duty = Duty.objects.get()
    assert (duty.action, duty.licence) == ("compensate", licence)
    assert upkeep.watch_duties.run() == 0
    issued = upkeep.issue_statements.run()
    assert upkeep.issue_statements.run() == 0
    assert Statement.objects.count() == issued
