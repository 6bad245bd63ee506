"""The lease protocol on a real database: R2 under the shared lock, R4 apart, W1 to W3.

Where two connections must meet in a certain order, events make them; nothing here sleeps to be
lucky. The mutants at the end are the two shortcuts that are natural to write: each must let a
withdrawal be settled while a runner could still use the expert.
"""

import threading
import time
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction

from governance.errors import LeaseRefused, StalePolicy
from governance.models import ExpertFence, PolicySnapshot, RunnerLease
from governance.services import leases, locks, withdrawals
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def renew(incarnation, applied_epoch=0, at=NOW, **fields):
    fields = {"runner": "r", "lease_s": 10.0, "started_at": NOW, **fields}
    return leases.renew(incarnation, applied_epoch=applied_epoch, at=at, **fields)


def applied(incarnation):
    return RunnerLease.objects.get(pk=incarnation).applied_epoch


# ── R2 and R4 ────────────────────────────────────────────────────────────────────────────────────
def test_a_new_incarnation_gets_the_newest_policy_and_counts_as_holding_it():
    factories.snapshot(1)
    factories.snapshot(2)
    one = uuid4()
    renewal = renew(one)
    assert (renewal.policy_epoch, renewal.body) == (2, {"policy_epoch": 2})
    assert applied(one) == 2


def test_before_any_policy_a_runner_holds_epoch_zero():
    one = uuid4()
    renewal = renew(one)
    assert (renewal.policy_epoch, renewal.body) == (0, None)
    assert applied(one) == 0


def test_a_renewal_never_acknowledges_what_it_fetches():
    factories.snapshot(1)
    one = uuid4()
    renew(one)
    factories.snapshot(2)
    assert renew(one, 1, after(3)).policy_epoch == 2
    assert applied(one) == 1
    leases.ack(one, policy_epoch=2, at=after(4))
    assert applied(one) == 2
    assert RunnerLease.objects.get(pk=one).acked_at == after(4)


def test_an_unchanged_policy_travels_without_its_body_and_another_of_its_number_with_it():
    factories.snapshot(1)
    one = uuid4()
    digest = renew(one).digest
    assert renew(one, 1, after(3), applied_digest=digest).body is None
    assert renew(one, 1, after(4), applied_digest="of a lost past").body == {"policy_epoch": 1}


def test_a_row_that_was_lost_is_made_anew_with_what_its_runner_holds():
    """A failover may lose the row of a lease; the runner still acts on what it had applied."""
    for epoch in (1, 2):
        factories.snapshot(epoch)
    one = uuid4()
    assert renew(one, 1).policy_epoch == 2
    assert applied(one) == 1


def test_a_renewal_prolongs_and_a_late_one_takes_nothing_back():
    factories.snapshot(1)
    factories.snapshot(2)
    one = uuid4()
    renew(one)
    leases.ack(one, policy_epoch=2, at=after(1))
    renew(one, 2, after(5))
    renew(one, 1, after(3))
    lease = RunnerLease.objects.get(pk=one)
    assert (lease.applied_epoch, lease.renewed_at) == (2, after(5))


def test_a_closed_incarnation_is_refused_for_good():
    factories.snapshot(1)
    one = uuid4()
    renew(one)
    leases.close(one, at=after(1))
    for act in (
        lambda: renew(one, 1, after(2)),
        lambda: leases.ack(one, policy_epoch=1, at=after(2)),
    ):
        with pytest.raises(LeaseRefused, match="new incarnation"):
            act()
    leases.close(one, at=after(9))
    assert RunnerLease.objects.get(pk=one).closed_at == after(1)


@pytest.mark.parametrize("lease_s", [0, -1, 301])
def test_a_lease_of_an_odd_length_is_refused(lease_s):
    with pytest.raises(LeaseRefused):
        renew(uuid4(), lease_s=lease_s)


def test_a_lease_keeps_its_length():
    factories.snapshot(1)
    one = uuid4()
    renew(one)
    with pytest.raises(LeaseRefused):
        renew(one, 1, lease_s=5)


def test_a_database_behind_what_a_runner_has_seen_grants_nothing():
    factories.snapshot(1)
    one = uuid4()
    renew(one)
    for act in (lambda: renew(one, 7), lambda: leases.ack(one, policy_epoch=7, at=NOW)):
        with pytest.raises(StalePolicy, match="restored"):
            act()
    assert applied(one) == 1


def test_what_a_runner_reports_is_kept_until_it_closes():
    lease = factories.lease()
    build = factories.build()
    loaded = [{"name": "code", "digest": "d"}]
    leases.report(lease.pk, loaded=loaded, loaded_build=build, stats={"streams": 3})
    lease.refresh_from_db()
    assert (lease.loaded, lease.loaded_build, lease.stats) == (loaded, build, {"streams": 3})


def test_live_leases_are_open_and_not_run_out():
    live = factories.lease()
    factories.lease(renewed_at=after(-20))
    factories.lease(closed_at=NOW)
    assert [lease.pk for lease in leases.live(at=after(9))] == [live.pk]


# ── W2 and W3 ────────────────────────────────────────────────────────────────────────────────────
def withdrawn(policy_epoch=2):
    withdrawal = factories.withdrawal(policy_epoch=policy_epoch)
    ExpertFence.objects.create(
        expert=withdrawal.expert, expert_name=withdrawal.expert.name, revoked_epoch=policy_epoch
    )
    return withdrawal


def settle(withdrawal, waited_s=0.0, at=NOW):
    is_settled = withdrawals.try_settle(withdrawal, waited_s=waited_s, at=at)
    withdrawal.refresh_from_db()
    return is_settled


def test_without_runners_a_withdrawal_is_true_at_once():
    withdrawal = withdrawn()
    assert settle(withdrawal)
    assert (withdrawal.quiesced_by, withdrawal.settled) == ("acks", [])
    assert ExpertFence.objects.get().is_quiesced


def test_it_settles_when_the_last_open_lease_has_acknowledged():
    for epoch in (1, 2):
        factories.snapshot(epoch)
    withdrawal = withdrawn()
    first, second = factories.lease(runner="a"), factories.lease(runner="b")
    factories.lease(runner="c", closed_at=after(-99))
    leases.ack(first.pk, policy_epoch=2, at=after(1))
    assert not settle(withdrawal, at=after(2))
    assert not ExpertFence.objects.get().is_quiesced
    assert withdrawals.progress(withdrawal) == {"confirmed": 1, "runners": 2}
    leases.ack(second.pk, policy_epoch=2, at=after(3))
    assert settle(withdrawal, at=after(4))
    assert withdrawal.quiesced_by == "acks"
    assert [(line["runner"], line["how"]) for line in withdrawal.settled] == [
        ("a", "acked"),
        ("b", "acked"),
    ]
    assert withdrawals.progress(withdrawal) == {"confirmed": 2, "runners": 2}


@pytest.mark.parametrize(("waited_s", "is_settled"), [(0, False), (10.09, False), (10.1, True)])
def test_a_silent_runner_is_waited_for_one_lease_and_the_margin(waited_s, is_settled):
    withdrawal = withdrawn()
    factories.lease(runner="a", renewed_at=after(-1))
    assert settle(withdrawal, waited_s, at=after(waited_s)) is is_settled
    assert withdrawal.quiesced_by == ("expiry" if is_settled else "")


def test_the_wall_clock_alone_never_settles_anything():
    withdrawal = withdrawn()
    factories.lease(renewed_at=after(-3600))
    assert not settle(withdrawal, waited_s=0, at=after(days=400))


def test_the_longest_lease_says_how_long_to_wait():
    withdrawal = withdrawn()
    factories.lease(lease_s=60)
    assert not settle(withdrawal, waited_s=60)
    assert settle(withdrawal, waited_s=60.6)


def test_a_runner_lost_from_sight_is_closed_and_holds_up_nothing_else():
    first, second = withdrawn(2), withdrawn(3)
    lost = factories.lease(runner="lost", renewed_at=after(-1))
    slow = factories.lease(runner="slow", renewed_at=after(9))
    assert settle(first, waited_s=10.1, at=after(10.1))
    assert RunnerLease.objects.get(pk=lost.pk).closed_at == after(10.1)
    assert RunnerLease.objects.get(pk=slow.pk).closed_at is None
    leases_by_runner = {line["runner"]: line["how"] for line in first.settled}
    assert leases_by_runner == {"lost": "expired", "slow": "expired"}
    RunnerLease.objects.filter(pk=slow.pk).update(applied_epoch=3)
    assert settle(second, waited_s=0, at=after(11))
    assert {line["runner"]: line["how"] for line in second.settled} == {
        "slow": "acked",
        "lost": "closed",
    }


def test_the_first_withdrawal_after_a_failover_counts_no_acknowledgements():
    """The row of a lease that the former server granted may be lost: nobody would ask it."""
    factories.snapshot(1, history="7393/00000001")
    first, second = withdrawn(2), withdrawn(3)
    assert not settle(first, waited_s=10.0)
    assert settle(first, waited_s=10.1)
    assert first.quiesced_by == "expiry"
    assert first.settled == []
    assert settle(second, waited_s=0)
    assert second.quiesced_by == "acks"


def test_long_after_a_failover_the_first_withdrawal_is_acknowledged_as_ever():
    factories.snapshot(1, history="7393/00000001")
    history, withdrawal = leases.history(), withdrawn(2)
    longest_s = leases.LONGEST_LEASE_S * (1 + leases.CLOCK_MARGIN)
    leases.note_whole("7393/00000001", waited_s=longest_s, at=NOW)
    leases.note_whole(history, waited_s=longest_s - 0.1, at=NOW)
    assert not settle(withdrawal, waited_s=0)
    for _ in range(2):
        leases.note_whole(history, waited_s=longest_s, at=NOW)
    assert settle(withdrawal, waited_s=0)
    assert withdrawal.quiesced_by == "acks"


def test_settled_once_it_stays_as_it_was():
    withdrawal = withdrawn()
    settle(withdrawal, at=after(1))
    factories.lease()
    assert settle(withdrawal, waited_s=99, at=after(9))
    assert withdrawal.quiesced_at == after(1)
    assert withdrawal.settled == []


# ── Two connections ──────────────────────────────────────────────────────────────────────────────
@contextmanager
def other_connection(work):
    """Run `work` in a thread with its own connection; what came of it is there on exit."""
    outcome = {}

    def run():
        try:
            outcome["result"] = work()
        except Exception as failure:  # noqa: BLE001 - the test looks at it
            outcome["error"] = failure
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield outcome
    thread.join(20)
    assert not thread.is_alive(), "the other connection never came back"


def wait_until(is_true):
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline, "the other connection never got there"
        time.sleep(0.005)


def waiters(kind="advisory"):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = %s AND NOT granted", [kind])
        return cursor.fetchone()[0]


def waiting_for_a_row():
    return waiters("transactionid")


@pytest.mark.django_db(transaction=True)
def test_a_renewal_that_meets_a_policy_act_waits_and_gets_its_epoch():
    factories.snapshot(1)
    held, go_on = threading.Event(), threading.Event()

    def act():
        with locks.policy_act():
            held.set()
            assert go_on.wait(10)
            factories.snapshot(2)

    with other_connection(act) as acting:
        assert held.wait(10)
        with other_connection(lambda: renew(uuid4())) as renewing:
            wait_until(lambda: waiters() == 1)
            go_on.set()
    assert "error" not in acting
    assert renewing["result"].policy_epoch == 2


@pytest.mark.django_db(transaction=True)
def test_a_renewal_gives_up_on_a_stalled_policy_act():
    factories.snapshot(1)
    one = uuid4()
    with transaction.atomic():
        locks.hold_alone(locks.Lock.POLICY)
        with other_connection(lambda: renew(one)) as outcome:
            wait_until(lambda: outcome)
    assert isinstance(outcome["error"], LeaseRefused)
    assert "policy act in progress" in outcome["error"].message
    assert renew(one).policy_epoch == 1


@pytest.mark.django_db(transaction=True)
def test_policy_cannot_change_between_the_read_and_the_grant(monkeypatch):
    """A withdrawal that begins while a renewal is between its read and its row waits for it."""
    factories.snapshot(1)

    def act():
        with locks.policy_act():
            PolicySnapshot.objects.create(policy_epoch=2, digest="0" * 64, body={}, reason="w")
            return RunnerLease.objects.count()

    with (
        stopped_before_its_row(monkeypatch) as (one, go_on),
        other_connection(lambda: renew(one)) as renewing,
    ):
        wait_until(lambda: waiting_for_a_row() == 1)
        with other_connection(act) as acting:
            wait_until(lambda: waiters() == 1)
            assert not PolicySnapshot.objects.filter(pk=2).exists()
            go_on()
    assert renewing["result"].policy_epoch == 1
    assert acting["result"] == 1, "the act must see the lease that the older epoch was granted to"


@contextmanager
def stopped_before_its_row(monkeypatch):
    """An incarnation whose first renewal, once it has read policy, waits to write its row.

    Another transaction has put a row of the same key there, and takes it back at `go_on`.
    """
    monkeypatch.setattr(leases, "LOCK_MS", 10_000)
    one, put, taken_back = uuid4(), threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            factories.lease(incarnation=one)
            put.set()
            assert taken_back.wait(10)
            transaction.set_rollback(True)

    with other_connection(hold):
        assert put.wait(10)
        try:
            yield one, taken_back.set
        finally:
            taken_back.set()


# ── Mutants: what the protocol forbids, done on purpose ──────────────────────────────────────────
def uses_after_settling(renewal_of):
    """A runner loses the reply that names epoch 2; is the withdrawal settled while it holds 1?"""
    factories.snapshot(1)
    one = uuid4()
    held = renewal_of(one, 0, NOW).policy_epoch
    factories.snapshot(2)
    withdrawal = withdrawn(2)
    renewal_of(one, held, after(1))  # the reply is lost on the way: `held` stays 1
    return settle(withdrawal, waited_s=1, at=after(2)) and held < 2


def test_a_lost_reply_keeps_the_withdrawal_open():
    assert not uses_after_settling(renew)


def test_mutant_ack_together_with_the_fetch_is_caught():
    def hasty(one, applied_epoch, at):
        renewal = renew(one, applied_epoch, at)
        RunnerLease.objects.filter(pk=one).update(applied_epoch=renewal.policy_epoch)
        return renewal

    assert uses_after_settling(hasty), "this test no longer tells the mutant from the protocol"


def overtaken_by_a_withdrawal(monkeypatch):
    """A renewal reads, a withdrawal commits and looks for leases, the renewal writes its row."""
    factories.snapshot(1)

    def withdraw_and_settle():
        with locks.policy_act():
            factories.snapshot(2)
            withdrawal = withdrawn(2)
        return withdrawals.try_settle(withdrawal, waited_s=0, at=after(1))

    with (
        stopped_before_its_row(monkeypatch) as (one, go_on),
        other_connection(lambda: renew(one)) as renewing,
    ):
        wait_until(lambda: waiting_for_a_row() == 1)
        with other_connection(withdraw_and_settle) as acting:
            wait_until(lambda: waiters() == 1 or acting)
            go_on()
    assert "error" not in renewing, renewing
    assert "error" not in acting, acting
    return acting["result"] and renewing["result"].policy_epoch == 1


@pytest.mark.django_db(transaction=True)
def test_nothing_is_settled_behind_the_back_of_a_renewal_in_progress(monkeypatch):
    assert not overtaken_by_a_withdrawal(monkeypatch)


@pytest.mark.django_db(transaction=True)
def test_mutant_without_the_shared_lock_is_caught(monkeypatch):
    monkeypatch.setattr(leases, "_SHARE_POLICY", "SELECT 1")
    assert overtaken_by_a_withdrawal(monkeypatch), "the mutant was not told from the protocol"
