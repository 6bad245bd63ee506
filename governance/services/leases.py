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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import DurationField, Exists, ExpressionWrapper, F, Max, QuerySet, Value
from django.db.models.functions import Greatest
from psycopg import errors as postgres

from governance.errors import LeaseRefused, StalePolicy
from governance.models import Build, PolicySnapshot, RunnerLease
from governance.services import locks

CLOCK_MARGIN = 0.01
"""Share by which the rates of two clocks may differ; the coordinator waits that much longer."""

LONGEST_LEASE_S = 300.0
LOCK_MS, IDLE_MS = 500, 1_000


@dataclass(frozen=True)
class Renewal:
    """What a runner may hold until its lease ends. `body` is None where it holds it already."""

    policy_epoch: int
    body: Mapping[str, Any] | None
    digest: str = ""


def renew(
    incarnation: UUID,
    *,
    runner: str,
    applied_epoch: int,
    lease_s: float,
    started_at: datetime,
    at: datetime,
) -> Renewal:
    """Grant one lease length from the instant the runner asked (R2).

    Args:
        incarnation: one life of one runner; a new random one at every start.
        applied_epoch: the policy epoch the runner has swapped in; 0 at its start.

    Raises:
        LeaseRefused: this incarnation was closed, or the policy lock could not be had in 500 ms.
        StalePolicy: the runner has seen a later policy epoch than this database knows.
    """
    if not 0 < lease_s <= LONGEST_LEASE_S:
        raise LeaseRefused(
            f"expected a lease of more than 0 and at most {LONGEST_LEASE_S} s, found {lease_s}. "
            "Correct RECLAIM_LEASE_S of the runner."
        )
    try:
        with transaction.atomic(durable=True), locks.limits(lock_ms=LOCK_MS, idle_ms=IDLE_MS):
            locks.hold_shared(locks.Lock.POLICY)
            newest = PolicySnapshot.objects.order_by("-policy_epoch").first()
            policy_epoch = newest.policy_epoch if newest else 0
            _refuse_restored_past(applied_epoch, policy_epoch)
            lease = RunnerLease.objects.select_for_update().filter(pk=incarnation).first()
            if lease is None:
                # Nothing older can be in a runner that holds nothing: the epoch just read stands.
                RunnerLease.objects.create(
                    incarnation=incarnation,
                    runner=runner,
                    applied_epoch=policy_epoch,
                    granted_at=at,
                    renewed_at=at,
                    lease_s=lease_s,
                    started_at=started_at,
                )
            else:
                _extend(lease, applied_epoch, lease_s, at)
    except OperationalError as failure:
        raise _refused(failure, incarnation) from failure
    if newest is None:
        return Renewal(0, None)
    body = None if applied_epoch == policy_epoch else newest.body
    return Renewal(policy_epoch, body, newest.digest)


def _extend(lease: RunnerLease, applied_epoch: int, lease_s: float, at: datetime) -> None:
    _refuse_closed(lease, lease.incarnation)
    if lease.lease_s != lease_s:
        raise LeaseRefused(
            f"expected the lease of {lease.lease_s} s this incarnation began with, found "
            f"{lease_s}. Restart the runner to change it."
        )
    # A renewal overtaken by a later ack must not take it back.
    lease.applied_epoch = max(lease.applied_epoch, applied_epoch)
    lease.renewed_at = max(lease.renewed_at, at)
    lease.save(update_fields=["applied_epoch", "renewed_at"])


def ack(incarnation: UUID, *, policy_epoch: int, at: datetime) -> None:
    """Note that the runner has swapped `policy_epoch` in and acts on nothing older (R4).

    Raises:
        LeaseRefused: this incarnation is unknown or was closed.
        StalePolicy: no such policy epoch was ever published here.
    """
    # One statement where all is well: a withdrawal waits for this one on every runner.
    is_published = Exists(PolicySnapshot.objects.filter(pk__gte=policy_epoch))
    is_noted = RunnerLease.objects.filter(is_published, pk=incarnation, closed_at=None).update(
        applied_epoch=Greatest(F("applied_epoch"), Value(policy_epoch)),
        acked_at=at,
    )
    if not is_noted:
        newest = PolicySnapshot.objects.aggregate(epoch=Max("policy_epoch"))["epoch"]
        _refuse_restored_past(policy_epoch, newest or 0)
        _refuse_closed(None, incarnation)


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
