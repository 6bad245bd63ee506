"""What follows a withdrawal until it is true everywhere, and until the bytes are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from governance.errors import UnlawfulMove
from governance.log import events
from governance.models import (
    Expert,
    ExpertFence,
    ExpertRevision,
    PolicySnapshot,
    RunnerLease,
    WholeHistory,
    Withdrawal,
)
from governance.services import locks, suppression
from governance.services.leases import CLOCK_MARGIN, HISTORY
from governance.vocabulary import EventTag, ExpertState, QuiescedBy, RevisionState

_LOOK = f"""
SELECT coalesce(bool_and(applied_epoch >= %s), true), greatest(%s, max(lease_s)), {HISTORY}
FROM governance_runnerlease WHERE closed_at IS NULL
"""  # noqa: S608 - nothing but a constant of ours is put in


@dataclass(frozen=True, slots=True)
class Look:
    """How far a withdrawal is: every open lease is past it, or one may last `longest_s` more."""

    is_acked: bool
    longest_s: float
    history: str

    def is_over(self, waited_s: float) -> bool:
        """Whether by now every lease granted before the wait began has run out."""
        return waited_s >= self.longest_s * (1 + CLOCK_MARGIN)


def look(withdrawal: Withdrawal) -> Look:
    """See how far it is, without any lock. One statement: whoever waits asks often."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, [withdrawal.policy_epoch, withdrawal.lease_s])
        return Look(*cursor.fetchone())


def try_settle(withdrawal: Withdrawal, *, waited_s: float, at: datetime) -> bool:
    """Settle a withdrawal if it is true on every runner by now (trust design, 2.2, W2 and W3).

    It is when every open lease has acknowledged the policy epoch, or when the coordinator has
    waited one lease length and the clock margin since it saw the commit. Settled once, it stays.

    A server that failed over or was restored may have lost the row of a lease it had granted, so
    acknowledgements count only in a history in which such a lease has run out; until then the
    first withdrawal waits.

    Args:
        waited_s: by the caller's own monotonic clock since it first saw the committed row in the
            history the server is in now. A coordinator that takes over begins at 0 again: later,
            never wrong.
    """
    with transaction.atomic():
        locks.hold_alone(locks.Lock.POLICY)
        locks.hold_alone(locks.Lock.USAGE)
        rows = Withdrawal.objects.select_related("expert").select_for_update(of=("self",))
        found = rows.get(pk=withdrawal.pk)
        if found.quiesced_at is not None:
            return True
        now = look(found)
        is_acked = now.is_acked and _rows_are_whole(now.history)
        if not (is_acked or now.is_over(waited_s)):
            return False
        found.history = now.history
        found.quiesced_by = QuiescedBy.ACKS if is_acked else QuiescedBy.EXPIRY
        _settle(found, waited_s, at)
    return True


def _rows_are_whole(history: str) -> bool:
    """Whether the lease rows tell of every lease in force: there was never another history, or a
    whole lease was waited for in this one. Policy tells, since no lease is older than the first."""
    return (
        not PolicySnapshot.objects.exclude(history=history).exists()
        or Withdrawal.objects.filter(history=history).exists()
        or WholeHistory.objects.filter(history=history).exists()
    )


def _settle(withdrawal: Withdrawal, waited_s: float, at: datetime) -> None:
    leases = RunnerLease.objects.defer("loaded", "stats").order_by("runner")
    open_leases = list(leases.filter(closed_at=None))
    behind = [lease for lease in open_leases if lease.applied_epoch < withdrawal.policy_epoch]
    closed = leases.filter(closed_at__gte=withdrawal.committed_at)
    withdrawal.settled = [
        *(_line(lease, "expired" if lease in behind else "acked") for lease in open_leases),
        *(_line(lease, "closed") for lease in closed),
    ]
    withdrawal.quiesced_at = at
    withdrawal.save(update_fields=["settled", "quiesced_at", "quiesced_by", "history"])
    ExpertFence.objects.filter(expert_id=withdrawal.expert_id).update(is_quiesced=True)
    _close_silent(behind, at)
    events.stage(
        EventTag.WITHDRAWAL_QUIESCED,
        subject=f"expert:{withdrawal.expert.name}",
        by=None,
        at=at,
        details={
            "policy_epoch": withdrawal.policy_epoch,
            "quiesced_by": withdrawal.quiesced_by,
            "waited_s": round(waited_s, 3),
            "settled": withdrawal.settled,
        },
    )


def _line(lease: RunnerLease, how: str) -> dict[str, Any]:
    return {
        "incarnation": str(lease.incarnation),
        "runner": lease.runner,
        "how": how,
        "applied_epoch": lease.applied_epoch,
        "acked_at": lease.acked_at.isoformat() if lease.acked_at else None,
    }


def _close_silent(behind: list[RunnerLease], at: datetime) -> None:
    """End incarnations not heard of for a whole lease, so that they hold up no later withdrawal.

    One that renews, and is merely slow to acknowledge, holds the new epoch and may go on.
    """
    for lease in behind:
        silent_s = (at - lease.renewed_at).total_seconds()
        if silent_s > lease.lease_s * (1 + CLOCK_MARGIN):
            RunnerLease.objects.filter(pk=lease.pk).update(closed_at=at, loaded=[])


def record_erased(
    withdrawal: Withdrawal, *, evidence: Mapping[str, Any], at: datetime
) -> Withdrawal:
    """Note that the expert's bytes are destroyed, with what shows it. Repeating it changes nothing.

    Raises:
        UnlawfulMove: the withdrawal is not settled: a runner might still read the bytes.
    """
    with transaction.atomic():
        found = Withdrawal.objects.select_for_update().get(pk=withdrawal.pk)
        if found.erased_at is not None:
            return found
        if found.quiesced_at is None:
            raise UnlawfulMove(
                f"expected the {found} to be settled on every runner before its bytes go, found "
                "it still being enforced. Wait for it."
            )
        found.erased_at, found.erasure = at, dict(evidence)
        found.save(update_fields=["erased_at", "erasure"])
        Expert.objects.filter(pk=found.expert_id).update(state=ExpertState.ERASED)
        suppression.suppress_erased(found.expert, at=at)
        ExpertRevision.objects.filter(expert_id=found.expert_id).update(state=RevisionState.ERASED)
        events.stage(
            EventTag.EXPERT_ERASED,
            subject=f"expert:{found.expert.name}",
            by=None,
            at=at,
            details={"evidence": dict(evidence)},
        )
    return found


def progress(withdrawal: Withdrawal) -> dict[str, int]:
    """How many runners confirmed, for the live counter: `confirmed` of `runners`."""
    if withdrawal.quiesced_at is not None:
        acked = sum(1 for line in withdrawal.settled if line["how"] != "expired")
        return {"confirmed": acked, "runners": len(withdrawal.settled)}
    leases = RunnerLease.objects.filter(
        Q(closed_at=None) | Q(closed_at__gte=withdrawal.committed_at)
    )
    confirmed = leases.filter(
        Q(applied_epoch__gte=withdrawal.policy_epoch) | Q(closed_at__isnull=False)
    )
    return {"confirmed": confirmed.count(), "runners": leases.count()}
