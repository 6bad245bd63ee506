"""The relay: what is due is sent, once, and enforcement does not wait for a broker."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError

from governance.models import FollowUp
from governance.services import followups
from governance.vocabulary import FollowUpKind, FollowUpState
from tests import factories
from worker import relay as relays
from worker.relay import Relay


class Post:
    """A broker that notes what it is given; gone, while told to be."""

    def __init__(self):
        self.sent, self.is_gone = [], False

    def __call__(self, row):
        if self.is_gone:
            raise OperationalError("connection refused")
        self.sent.append(row.pk)


@pytest.fixture
def post():
    return Post()


def due(kind=FollowUpKind.VERIFY, **fields):
    at = timezone.now() - timedelta(seconds=1)
    return factories.follow_up(kind, opened_at=at, due_at=at, **fields)


def test_what_is_due_is_sent_once(db, post):
    row = due()
    relay = Relay(post)
    relay.turn()
    relay.turn()
    assert post.sent == [row.pk]


def test_what_is_due_later_or_waits_for_another_is_not_sent(db, post):
    first = due()
    due(after=first)
    factories.follow_up(due_at=timezone.now() + timedelta(hours=1))
    Relay(post).turn()
    assert post.sent == [first.pk]


def test_a_duty_of_people_is_not_sent_anywhere(db, post):
    due(FollowUpKind.RESOLVE_GAP)
    Relay(post).turn()
    assert post.sent == []


def test_a_message_that_was_lost_is_sent_again(db, post):
    row = due()
    relay = Relay(post)
    relay.turn()
    FollowUp.objects.update(sent_at=timezone.now() - timedelta(seconds=followups.RESEND_S + 1))
    relay.turn()
    assert post.sent == [row.pk] * 2


def test_a_claim_that_ran_out_is_sent_again(db, post):
    row = due()
    at = timezone.now() - timedelta(minutes=5)
    followups.claim(row.pk, worker="dead", for_s=30, at=timezone.now())
    FollowUp.objects.update(claimed_until=at, sent_at=at)
    Relay(post).turn()
    assert post.sent == [row.pk]


def test_without_a_broker_heavy_work_stays_due_and_goes_out_when_it_is_back(db, post):
    row = due()
    post.is_gone = True
    relay = Relay(post)
    assert not relay.turn()  # nothing more to be done at once: no busy loop
    assert FollowUp.objects.get(pk=row.pk).sent_at is None
    post.is_gone = False
    relay.turn()
    assert post.sent == [row.pk]


def wait_until(is_so, timeout_s=10):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until and not is_so():
        time.sleep(0.02)
    return is_so()


def withdrawal_to_enforce():
    expert = factories.expert()
    from governance.services import consent

    factories.build(factories.revision(expert=expert))
    withdrawal = consent.withdraw(expert, by=None, at=timezone.now(), method="tests")
    return withdrawal, FollowUp.objects.get(subject_id=withdrawal.pk, kind=FollowUpKind.QUIESCE)


def test_without_a_broker_a_withdrawal_is_enforced_by_the_relay_itself(transactional_db, post):
    withdrawal, row = withdrawal_to_enforce()
    post.is_gone = True
    Relay(post).turn()
    assert wait_until(lambda: FollowUp.objects.get(pk=row.pk).state == FollowUpState.DONE)
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "acks"


def test_enforcement_nobody_takes_from_the_queue_is_carried_here_too(transactional_db, post):
    _, row = withdrawal_to_enforce()
    relay = Relay(post)
    relay.turn()
    assert row.pk in post.sent
    assert FollowUp.objects.get(pk=row.pk).state == FollowUpState.DUE
    FollowUp.objects.filter(pk=row.pk).update(
        sent_at=timezone.now() - timedelta(seconds=relays.PATIENCE_S + 1)
    )
    relay.turn()
    assert wait_until(lambda: FollowUp.objects.get(pk=row.pk).state == FollowUpState.DONE)


def test_a_new_follow_up_is_sent_at_once_not_at_the_next_poll(transactional_db, post, monkeypatch):
    monkeypatch.setattr(relays, "POLL_S", 60)
    relay = Relay(post)

    def run():
        relay.run()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(0.5)
    followups.open(
        FollowUpKind.VERIFY,
        subject_kind="expert",
        subject_id=factories.expert().pk,
        cause="tests",
        at=timezone.now() - timedelta(seconds=1),
    )
    assert wait_until(lambda: len(post.sent) == 1)
    relay.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_real_broker_carries_the_id_to_the_right_queue_and_forgets_it_in_time(
    db, redis_url, monkeypatch
):
    import json

    import redis

    from worker.celery import app

    row = due(FollowUpKind.QUIESCE)
    monkeypatch.setattr(app.conf, "broker_url", redis_url)
    relays.send(row)
    with redis.Redis.from_url(redis_url) as client:
        [message] = client.lrange("enforce", 0, -1)
    headers = json.loads(message)["headers"]
    assert headers["task"] == "reclaim.quiesce"
    assert headers["expires"]
    assert str(row.pk) in headers["argsrepr"]
