"""The clock's work: seal the log, close what dead runners left, look after gaps and expiry.

One process serves this queue, so what a task remembers between two calls is all there is to know;
after a restart it starts its waits again: later, never wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Q
from django.utils import timezone

from governance.log import sequencer
from governance.models import Licence, RunnerLease
from governance.services import (
    duties,
    effects,
    followups,
    leases,
    licences,
    quotas,
    statements,
    usage,
)
from governance.vocabulary import Instrument, LicenceState
from worker.celery import app

REAP_AFTER_LEASES = 3.0
"""Lease lengths an incarnation must be silent for, on our own clock, before it is closed."""

OVERDUE_S = 60.0


@dataclass(frozen=True)
class Silence:
    """A renewal we have seen, and when on our own monotonic clock we saw it first."""

    renewed_at: datetime
    first_seen_s: float


_silences: dict[str, Silence] = {}
_histories: dict[str, float] = {}
"""When on our own monotonic clock we first saw the server in each history."""


@app.task(name="reclaim.seal_log")
def seal_log() -> int:
    """Seal staged events into the tree; returns how many."""
    sealed = sequencer.seal(timezone.now())
    return 0 if sealed is None else sealed.size - sealed.first


@app.task(name="reclaim.reap_leases")
def reap_leases() -> list[str]:
    """Close incarnations that stopped renewing, the usage rows they left open, their slices.

    And note where a failover is so long ago that no lease can be in force whose row it lost.
    """
    now_s = time.monotonic()
    history = leases.history()
    seen_s = now_s - _histories.setdefault(history, now_s)
    leases.note_whole(history, waited_s=seen_s, at=timezone.now())
    closed = [
        str(lease.incarnation)
        for lease in RunnerLease.objects.filter(closed_at=None)
        if is_silent(lease, now_s, _silences)
    ]
    for incarnation in closed:
        leases.close(RunnerLease.objects.get(pk=incarnation).pk, at=timezone.now())
        _silences.pop(incarnation, None)
    usage.close_lost(at=timezone.now())
    quotas.reclaim(at=timezone.now())
    return closed


def is_silent(lease: RunnerLease, now_s: float, silences: dict[str, Silence]) -> bool:
    """Whether this very renewal was seen long enough ago, by a clock nobody sets.

    The wall clock of `renewed_at` is compared with nothing but itself: were it moved, a live
    runner could be closed and a withdrawal settled without it.
    """
    key = str(lease.incarnation)
    seen = silences.get(key)
    if seen is None or seen.renewed_at != lease.renewed_at:
        silences[key] = Silence(lease.renewed_at, now_s)
        return False
    return now_s - seen.first_seen_s > REAP_AFTER_LEASES * lease.lease_s


@app.task(name="reclaim.watch_licences")
def watch_licences() -> dict[str, int]:
    """Record written ends that have come, and take back experts whose notice is over.

    Policy itself needs neither: every grant and every notice carries its own end. A licence that
    was ended otherwise before its written end has not expired.
    """
    at = timezone.now()
    approved = Licence.objects.filter(state=LicenceState.APPROVED, ends_at__lte=at)
    over = approved.filter(Q(stops_at=None) | Q(stops_at__gt=F("ends_at"))).exclude(
        endings__instrument=Instrument.EXPIRE
    )
    for licence in over:
        licences.end(
            licence, instrument=Instrument.EXPIRE, by=None, at=at, reason="its written end has come"
        )
    return {"expired": len(over), "taken_back": len(effects.carry_out_notices(at=at))}


@app.task(name="reclaim.watch_follow_ups")
def watch_follow_ups() -> int:
    """How many follow-ups nobody takes; a number for monitoring, in the worker's log."""
    return followups.overdue(at=timezone.now(), by_s=OVERDUE_S)


@app.task(name="reclaim.watch_duties")
def watch_duties() -> int:
    """Open the duties that have come about, and close those we can prove; how many are new."""
    return duties.open_due(at=timezone.now())


@app.task(name="reclaim.issue_statements")
def issue_statements() -> int:
    """Issue last month's statements that are still missing; how many."""
    return statements.issue_due(at=timezone.now())
