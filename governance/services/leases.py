"""Runner leases: how long a runner may act on the policy epoch it holds (trust design, 2.2).

The order of a renewal, and nothing shorter than it, is what a withdrawal's bound rests on:

    R1  the runner reads its clock (CLOCK_BOOTTIME) before the request leaves       (worker)
    R2  `renew`: share K; then read the policy; then note the epoch already applied
    R3  the runner swaps the snapshot in; its deadline counts from R1               (worker)
    R4  `ack`: in a second transaction, note that epoch as applied

A renewal that acknowledged what it only fetches would let a withdrawal be settled while the
runner still generates under the older epoch, should the reply be lost. Bookkeeping: no log events.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection
from django.db.models import DurationField, ExpressionWrapper, F, Max, QuerySet, Value
from psycopg import errors as postgres

from governance.errors import LeaseRefused, StalePolicy
from governance.models import Build, PolicySnapshot, RunnerLease, WholeHistory
from governance.services import locks

CLOCK_MARGIN = 0.01
"""Share by which the rates of two clocks may differ; the coordinator waits that much longer."""

LONGEST_LEASE_S = 300.0
LOCK_MS = 500

HISTORY = """(
    SELECT system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
    FROM pg_control_system()
)"""
"""Which history of which server answers: it changes with a failover and with a restored backup."""

# R2 in one message, so that no runner that stalls can ever hold K: three statements, which the
# server runs as one transaction. The lock is a statement of its own on purpose: under READ
# COMMITTED the one after it reads what the lock's last holder committed.
_LIMIT = "SELECT set_config('lock_timeout', %(lock)s, true)"
_SHARE_POLICY = "SELECT pg_advisory_xact_lock_shared(%(key)s)"
# A row that is made anew says what its runner holds, which is nothing older than the epoch just
# read only where it holds nothing at all. A renewal overtaken by a later ack takes nothing back.
_GRANT = f"""
WITH newest AS (
    SELECT policy_epoch, digest, body FROM governance_policysnapshot
    ORDER BY policy_epoch DESC LIMIT 1
), asked AS (
    SELECT coalesce(max(policy_epoch), 0) AS epoch, {HISTORY} AS history FROM newest
), noted AS (
    INSERT INTO governance_runnerlease AS lease
        (incarnation, runner, applied_epoch, granted_at, renewed_at, lease_s, started_at, gw_seq,
         loaded, stats)
    SELECT %(incarnation)s, %(runner)s, coalesce(nullif(%(applied)s, 0), epoch), %(at)s, %(at)s,
           %(lease_s)s, %(started_at)s, 0, '[]', '{{}}'
    FROM asked WHERE %(applied)s <= epoch
    ON CONFLICT (incarnation) DO UPDATE
        SET applied_epoch = greatest(lease.applied_epoch, %(applied)s),
            renewed_at = greatest(lease.renewed_at, excluded.renewed_at)
        WHERE lease.closed_at IS NULL AND lease.lease_s = excluded.lease_s
    RETURNING 1
)
SELECT asked.epoch, asked.history, newest.digest,
       CASE WHEN (epoch, digest) IS DISTINCT FROM (%(applied)s, %(digest)s) THEN body::text END,
       EXISTS (SELECT FROM noted)
FROM asked LEFT JOIN newest ON true
"""  # noqa: S608 - nothing but a constant of ours is put in
# What a withdrawal waits for. The disk need not be: who settles on the strength of this row
# commits after it, so a crash that loses the row loses the settlement too.
_ACK = """
SELECT set_config('synchronous_commit', 'off', true);
UPDATE governance_runnerlease
SET applied_epoch = greatest(applied_epoch, %(epoch)s), acked_at = %(at)s
WHERE incarnation = %(incarnation)s AND closed_at IS NULL
  AND EXISTS (SELECT FROM governance_policysnapshot WHERE policy_epoch >= %(epoch)s)
"""


@dataclass(frozen=True)
class Renewal:
    """What a runner may hold until its lease ends. `body` is None where it holds it already."""

    policy_epoch: int
    body: Mapping[str, Any] | None
    digest: str = ""
    history: str = ""


def renew(
    incarnation: UUID,
    *,
    runner: str,
    applied_epoch: int,
    applied_digest: str = "",
    lease_s: float,
    started_at: datetime,
    at: datetime,
) -> Renewal:
    """Grant one lease length from the instant the runner asked (R2).

    Args:
        incarnation: one life of one runner; a new random one at every start.
        applied_epoch: the policy epoch the runner has swapped in; 0 at its start.
        applied_digest: of that policy; without it, or with another, the body travels again.

    Raises:
        LeaseRefused: this incarnation was closed, or the policy lock could not be had in 500 ms.
        StalePolicy: the runner has seen a later policy epoch than this database knows.
    """
    if not 0 < lease_s <= LONGEST_LEASE_S:
        raise LeaseRefused(
            f"expected a lease of more than 0 and at most {LONGEST_LEASE_S} s, found {lease_s}. "
            "Correct RECLAIM_LEASE_S of the runner."
        )
    asked: dict[str, str | int | float | UUID | datetime] = {
        "lock": f"{LOCK_MS}ms",
        "key": locks.Lock.POLICY.value,
        "incarnation": incarnation,
        "runner": runner,
        "applied": applied_epoch,
        "digest": applied_digest,
        "lease_s": lease_s,
        "started_at": started_at,
        "at": at,
    }
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"{_LIMIT};{_SHARE_POLICY};{_GRANT}", asked)
            while cursor.nextset():
                pass
            policy_epoch, history, digest, body, is_granted = cursor.fetchone()
    except OperationalError as failure:
        raise _refused(failure, incarnation) from failure
    if not is_granted:
        _refuse_restored_past(applied_epoch, policy_epoch)
        _refuse_other(RunnerLease.objects.filter(pk=incarnation).first(), incarnation, lease_s)
    return Renewal(policy_epoch, body and json.loads(body), digest or "", history)


def ack(incarnation: UUID, *, policy_epoch: int, at: datetime) -> None:
    """Note that the runner has swapped `policy_epoch` in and acts on nothing older (R4).

    Raises:
        LeaseRefused: this incarnation is unknown or was closed.
        StalePolicy: no such policy epoch was ever published here.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ACK, {"incarnation": incarnation, "epoch": policy_epoch, "at": at})
        cursor.nextset()
        is_noted = cursor.rowcount > 0
    if not is_noted:
        newest = PolicySnapshot.objects.aggregate(epoch=Max("policy_epoch"))["epoch"]
        _refuse_restored_past(policy_epoch, newest or 0)
        _refuse_closed(None, incarnation)


def history() -> str:
    """Which history of which server this connection reads; see `HISTORY`."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {HISTORY}")
        return str(cursor.fetchone()[0])


def note_whole(history: str, *, waited_s: float, at: datetime) -> None:
    """Note that the lease rows of this history are whole, once the longest lease has run out.

    Args:
        waited_s: by the caller's own monotonic clock since it first saw the server in it.
    """
    if waited_s >= LONGEST_LEASE_S * (1 + CLOCK_MARGIN):
        WholeHistory.objects.get_or_create(history=history, defaults={"noted_at": at})


def report(
    incarnation: UUID,
    *,
    loaded: Sequence[Mapping[str, str]],
    loaded_build: Build | None,
    stats: Mapping[str, Any],
) -> None:
    """Say what a runner holds in memory and how it fares, for pages and for LOAD.

    Args:
        loaded: experts as `{"name", "digest"}`.
    """
    RunnerLease.objects.filter(pk=incarnation, closed_at=None).update(
        loaded=[dict(expert) for expert in loaded], loaded_build=loaded_build, stats=dict(stats)
    )


def close(incarnation: UUID, *, at: datetime) -> None:
    """End an incarnation that has stopped generating; it is never renewed again. Repeatable."""
    RunnerLease.objects.filter(pk=incarnation, closed_at=None).update(closed_at=at, loaded=[])


def live(*, at: datetime) -> QuerySet[RunnerLease]:
    """Leases that can still be in force at `at`, by this machine's wall clock: for pages.

    Settling a withdrawal never asks this; it counts acks, or waits on its own clock.
    """
    length = ExpressionWrapper(
        F("lease_s") * Value(timedelta(seconds=1)), output_field=DurationField()
    )
    return (
        RunnerLease.objects.filter(closed_at=None)
        .annotate(ends_at=F("renewed_at") + length)
        .filter(ends_at__gt=at)
    )


def _refuse_closed(lease: RunnerLease | None, incarnation: UUID) -> None:
    if lease is None or lease.closed_at is not None:
        raise LeaseRefused(
            f"expected an open lease of incarnation {incarnation}, found it closed or unknown. "
            "Drop all policy held and start again under a new incarnation."
        )


def _refuse_other(lease: RunnerLease | None, incarnation: UUID, lease_s: float) -> None:
    _refuse_closed(lease, incarnation)
    assert lease is not None
    raise LeaseRefused(
        f"expected the lease of {lease.lease_s} s this incarnation began with, found {lease_s}. "
        "Restart the runner to change it."
    )


def _refuse_restored_past(applied_epoch: int, policy_epoch: int) -> None:
    if applied_epoch > policy_epoch:
        raise StalePolicy(
            f"expected policy epoch {applied_epoch} or later, which a runner has seen; found "
            f"{policy_epoch}. Serve nothing: the database may be a restored or lost past. Compare "
            "it with the newest signed checkpoint kept elsewhere."
        )


def _refused(failure: OperationalError, incarnation: UUID) -> LeaseRefused:
    if isinstance(failure.__cause__, postgres.LockNotAvailable):
        return LeaseRefused(
            f"expected the policy lock within {LOCK_MS} ms, found it held by a policy act in "
            "progress. Ask again; until then the lease held stands to its end."
        )
    return LeaseRefused(
        f"expected a database that can be written, found: {failure}. Ask again; incarnation "
        f"{incarnation} keeps what it holds to the end of its lease and no longer."
    )
