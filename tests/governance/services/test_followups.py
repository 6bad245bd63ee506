"""Follow-ups: promised once, taken by one, given up by none that matter."""

import threading
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction

from governance.services import followups
from governance.vocabulary import FollowUpKind, FollowUpState
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def opened(kind=FollowUpKind.VERIFY, **fields):
    return followups.open(
        kind, subject_kind="expert", subject_id=uuid4(), cause="tests", at=NOW, **fields
    )


def claimed(worker="w", **fields):
    follow_up = opened(**fields)
    return followups.claim(follow_up.pk, worker=worker, for_s=30, at=NOW)


def test_due_lists_what_may_begin_oldest_first():
    later = opened(due_at=after(1))
    sooner = opened()
    opened(due_at=after(60))
    assert [row.pk for row in followups.due(at=after(2), limit=9)] == [sooner.pk, later.pk]


def test_due_offers_a_row_once_until_the_courier_had_its_time():
    row = opened()
    assert followups.due(at=NOW, limit=9)
    assert followups.due(at=after(followups.RESEND_S - 1), limit=9) == []
    assert [r.pk for r in followups.due(at=after(followups.RESEND_S), limit=9)] == [row.pk]


def test_due_stops_at_its_limit():
    for _ in range(3):
        opened()
    assert len(followups.due(at=NOW, limit=2)) == 2


@pytest.mark.parametrize(
    "state", [s for s in FollowUpState if s not in (FollowUpState.DONE, FollowUpState.CLAIMED)]
)
def test_a_follower_waits_until_its_predecessor_is_done(state):
    first = factories.follow_up(state=state, due_at=after(days=9))
    second = opened(after=first)
    assert followups.due(at=NOW, limit=9) == []
    assert followups.claim(second.pk, worker="w", for_s=30, at=NOW) is None


def test_a_follower_begins_when_its_predecessor_is_done():
    first = claimed()
    second = opened(after=first)
    assert followups.complete(first.pk, worker="w", evidence={"ok": 1}, at=after(5))
    assert [row.pk for row in followups.due(at=after(5), limit=9)] == [second.pk]


def test_a_claim_is_held_by_one_worker_only():
    row = claimed("first")
    assert row.attempts == 1
    assert followups.claim(row.pk, worker="second", for_s=30, at=after(29)) is None


def test_a_claim_that_runs_out_can_be_taken_and_the_late_worker_is_told():
    row = claimed("first")
    assert followups.claim(row.pk, worker="second", for_s=30, at=after(30)).attempts == 2
    assert not followups.renew(row.pk, worker="first", for_s=30, at=after(31))
    assert not followups.complete(row.pk, worker="first", evidence={}, at=after(31))
    row.refresh_from_db()
    assert row.state == FollowUpState.CLAIMED
    assert row.claimed_by == "second"


def test_renewing_prolongs_the_claim_and_tells_how_far_it_is():
    row = claimed()
    assert followups.renew(
        row.pk, worker="w", for_s=30, at=after(20), done=3, total=9, note="layer", metrics={"l": 1}
    )
    row.refresh_from_db()
    assert row.claimed_until == after(50)
    assert (row.progress_done, row.progress_total, row.progress_metrics) == (3, 9, {"l": 1})
    assert followups.claim(row.pk, worker="x", for_s=30, at=after(49)) is None


def test_renewing_a_cancelled_follow_up_tells_the_worker_to_stop():
    row = claimed()
    assert followups.cancel(row.pk, reason="withdrawn", at=after(1))
    assert not followups.renew(row.pk, worker="w", for_s=30, at=after(2))
    assert not followups.complete(row.pk, worker="w", evidence={}, at=after(3))


def test_a_failed_attempt_is_tried_again_later_and_keeps_its_error():
    row = claimed()
    retry_at = followups.next_try(row.attempts, at=NOW)
    assert followups.postpone(row.pk, worker="w", error="disk full", retry_at=retry_at)
    row.refresh_from_db()
    assert (row.state, row.last_error, row.attempts) == (FollowUpState.DUE, "disk full", 1)
    assert followups.claim(row.pk, worker="w", for_s=30, at=NOW) is None
    assert followups.claim(row.pk, worker="w", for_s=30, at=retry_at).attempts == 2


def test_the_delay_doubles_up_to_five_minutes():
    delays = [(followups.next_try(n, at=NOW) - NOW).total_seconds() for n in (1, 2, 3, 9, 10_000)]
    assert delays == [2, 4, 8, 300, 300]


def test_the_last_attempt_allowed_fails_visibly():
    row = opened()
    for n in range(row.max_attempts):
        assert followups.claim(row.pk, worker="w", for_s=30, at=after(n))
        assert followups.postpone(row.pk, worker="w", error=f"try {n}", retry_at=after(n))
    row.refresh_from_db()
    assert (row.state, row.last_error) == (FollowUpState.FAILED, "try 4")
    assert followups.retry(row.pk, at=after(9))
    assert followups.claim(row.pk, worker="w", for_s=30, at=after(9)).attempts == 1


def test_waiting_without_an_error_never_uses_attempts_up():
    row = opened()
    for n in range(20):
        assert followups.claim(row.pk, worker="w", for_s=30, at=after(n)).attempts == 1
        assert followups.postpone(row.pk, worker="w", error="", retry_at=after(n))


def test_a_worker_that_always_dies_fails_the_follow_up_in_the_end():
    row = opened()
    for n in range(row.max_attempts):
        assert followups.claim(row.pk, worker=f"w{n}", for_s=30, at=after(n * 30))
    assert followups.claim(row.pk, worker="last", for_s=30, at=after(900)) is None
    row.refresh_from_db()
    assert row.state == FollowUpState.FAILED
    assert "w4 stopped without a word" in row.last_error


@pytest.mark.parametrize("kind", ["quiesce", "rebuild", "erase", "certify"])
def test_what_a_withdrawal_owes_is_never_given_up(kind):
    row = opened(FollowUpKind(kind))
    for n in range(50):
        followups.claim(row.pk, worker="w", for_s=30, at=after(n))
        followups.postpone(row.pk, worker="w", error="no", retry_at=after(n))
    row.refresh_from_db()
    assert row.state == FollowUpState.DUE


def test_fail_ends_at_once():
    row = claimed()
    assert followups.fail(row.pk, worker="w", error="hostile file", at=after(1))
    row.refresh_from_db()
    assert (row.state, row.last_error, row.ended_at) == ("failed", "hostile file", after(1))


def test_cancel_leaves_what_is_settled_alone():
    row = claimed()
    followups.complete(row.pk, worker="w", evidence={"digest": "d"}, at=after(1))
    assert not followups.cancel(row.pk, reason="late", at=after(2))
    row.refresh_from_db()
    assert (row.state, row.evidence) == (FollowUpState.DONE, {"digest": "d"})


def test_those_who_waited_for_a_cancelled_deed_wait_for_its_successor():
    former, waiter = opened(), None
    waiter = opened(after=former)
    successor = opened()
    ids = followups.cancel_about("expert", [former.subject_id], reason="again", at=NOW)
    assert ids == [former.pk]
    assert followups.wait_instead(ids, after=successor) == 1
    waiter.refresh_from_db()
    assert waiter.after == successor


def test_overdue_counts_what_nobody_took():
    opened()
    assert followups.overdue(at=after(59), by_s=60) == 0
    assert followups.overdue(at=after(60), by_s=60) == 1


@pytest.mark.django_db(transaction=True)
def test_two_relays_never_send_the_same_follow_up():
    rows = {opened().pk for _ in range(4)}
    seen: list = []

    def other_relay():
        try:
            seen.extend(row.pk for row in followups.due(at=NOW, limit=9))
        finally:
            connections.close_all()

    with transaction.atomic():
        mine = {row.pk for row in followups.due(at=NOW, limit=2)}
        thread = threading.Thread(target=other_relay)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "the second relay waited for the first"
    assert mine | set(seen) == rows
    assert not mine & set(seen)


@pytest.mark.django_db(transaction=True)
def test_opening_wakes_the_relay_at_commit():
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("LISTEN reclaim_followup")
    opened(FollowUpKind.ERASE)
    heard = list(connection.connection.notifies(timeout=5, stop_after=1))
    assert [(n.channel, n.payload) for n in heard] == [("reclaim_followup", "erase")]
