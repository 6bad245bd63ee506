"""A courier claims, acts once, and writes down what came of it, whatever happens meanwhile."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from governance.errors import NotCovered
from governance.models import FollowUp
from governance.services import followups
from governance.vocabulary import FollowUpKind, FollowUpState
from tests import factories
from worker.tasks import courier
from worker.tasks.courier import ClaimLost, Hopeless, Later, carry


def due(**fields):
    """A follow-up that is due by the clock on the wall, which couriers read."""
    at = timezone.now() - timedelta(seconds=1)
    return factories.follow_up(FollowUpKind.VERIFY, opened_at=at, due_at=at, **fields)


@pytest.fixture
def row(db):
    return due()


def again(row):
    return FollowUp.objects.get(pk=row.pk)


def test_what_the_act_returns_is_the_evidence(row):
    assert carry(str(row.pk), lambda _: {"found": 3})
    assert again(row).state == FollowUpState.DONE
    assert again(row).evidence == {"found": 3}


def test_a_second_message_for_the_same_follow_up_does_nothing(row):
    acts = []
    for _ in range(2):
        carry(str(row.pk), lambda _: acts.append(1) or {})
    assert acts == [1]


def test_two_workers_with_the_same_message_act_once(transactional_db):
    row = due()
    acts, gate = [], threading.Barrier(2)

    def work():
        from django.db import connection

        gate.wait()
        carry(str(row.pk), lambda _: acts.append(1) or {})
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert acts == [1]


def test_what_waits_for_another_is_not_carried_before_it(db):
    first = due()
    second = due(after=first)
    assert not carry(str(second.pk), lambda _: {})
    carry(str(first.pk), lambda _: {})
    assert carry(str(second.pk), lambda _: {})


def test_a_fault_is_written_down_and_tried_again_later(row):
    carry(str(row.pk), lambda _: 1 / 0)
    found = again(row)
    assert found.state == FollowUpState.DUE
    assert "ZeroDivisionError" in found.last_error
    assert found.due_at > timezone.now()


def test_faults_enough_fail_it(db):
    row = due(max_attempts=2)
    for _ in range(2):
        carry(str(row.pk), lambda _: 1 / 0)
        FollowUp.objects.filter(pk=row.pk).update(due_at=timezone.now() - timedelta(hours=1))
    assert again(row).state == FollowUpState.FAILED


@pytest.mark.parametrize("error", [NotCovered("no licence"), Hopeless("nothing helps")])
def test_what_trying_again_cannot_help_fails_at_once(row, error):
    def act(_):
        raise error

    carry(str(row.pk), act)
    assert again(row).state == FollowUpState.FAILED
    assert str(error) in again(row).last_error


def test_what_a_withdrawal_needs_is_never_given_up(db):
    subject = factories.withdrawal()
    row = followups.open(
        FollowUpKind.ERASE,
        subject_kind="withdrawal",
        subject_id=subject.pk,
        cause="tests",
        at=timezone.now() - timedelta(hours=1),
    )

    def act(_):
        raise Hopeless("it seems")

    carry(str(row.pk), act)
    assert again(row).state == FollowUpState.DUE


def test_waiting_is_no_fault_and_counts_no_attempt(row):
    def act(_):
        raise Later("the runners", 3)

    carry(str(row.pk), act)
    found = again(row)
    assert (found.state, found.attempts) == (FollowUpState.DUE, 0)
    assert timedelta(0) < found.due_at - timezone.now() <= timedelta(seconds=3)


def test_a_courier_that_lost_its_claim_writes_nothing(row):
    def act(carrier):
        FollowUp.objects.filter(pk=row.pk).update(claimed_by="another")
        raise ClaimLost("gone")

    assert not carry(str(row.pk), act)
    found = again(row)
    assert (found.state, found.claimed_by, found.evidence) == ("claimed", "another", {})


def test_evidence_of_a_courier_whose_claim_passed_to_another_is_not_taken(row):
    def act(carrier):
        FollowUp.objects.filter(pk=row.pk).update(claimed_by="another")
        return {"late": True}

    carry(str(row.pk), act)
    assert again(row).evidence == {}
    assert again(row).state == FollowUpState.CLAIMED


def test_the_claim_is_renewed_with_what_the_act_reports(transactional_db, monkeypatch):
    monkeypatch.setattr(courier, "RENEWALS", courier.CLAIM_S / 0.05)
    row = due()
    seen = []

    def act(carrier):
        first = again(row).claimed_until
        carrier.report(3, 10, "training", {"loss": 2.5})
        for _ in range(100):
            threading.Event().wait(0.02)
            if again(row).progress_done:
                break
        seen.append((first, again(row)))
        return {}

    carry(str(row.pk), act)
    [(first, later)] = seen
    assert later.claimed_until > first
    assert (later.progress_done, later.progress_total) == (3, 10)
    assert later.progress_note == "training"
    assert later.progress_metrics == {"loss": 2.5}


def test_an_act_is_told_to_stop_when_its_follow_up_is_called_off(transactional_db, monkeypatch):
    monkeypatch.setattr(courier, "RENEWALS", courier.CLAIM_S / 0.02)
    row = due()

    def act(carrier):
        followups.cancel(row.pk, reason="withdrawn", at=timezone.now())
        for _ in range(200):
            carrier.check()
            threading.Event().wait(0.02)
        return {"went on": True}

    assert not carry(str(row.pk), act)
    assert again(row).state == FollowUpState.CANCELLED


def test_an_act_whose_claim_may_have_run_out_stops_although_nobody_could_say_so(row, monkeypatch):
    monkeypatch.setattr(courier, "RENEWALS", 0.1)

    told = []

    def act(carrier):
        carrier.check()
        threading.Event().wait(0.1)
        told.append(carrier.stopping())
        carrier.check()

    assert not carry(str(row.pk), act, claim_s=0.05)
    assert told == [True]
