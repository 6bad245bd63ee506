"""What must follow an act, from the promise to the evidence. Bookkeeping: no log events.

A follow-up is DUE until a worker claims it; a claim that is not renewed runs out by itself, and
the follow-up is due again. `worker` names one run of one task, not a machine: two runs that share
a name would both believe that they hold the claim.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet

from governance.models import FollowUp
from governance.services import locks
from governance.vocabulary import FollowUpKind, FollowUpState

RESEND_S = 30.0
"""How long the courier has, after one was sent, before the follow-up is offered again."""

FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 300.0

# A withdrawal is carried out however long that takes; giving up is not among the outcomes.
_NEVER_GIVEN_UP = {
    FollowUpKind.QUIESCE,
    FollowUpKind.REBUILD,
    FollowUpKind.ERASE,
    FollowUpKind.CERTIFY,
}
_MANY_ATTEMPTS = 1_000_000
_UNSETTLED = (FollowUpState.DUE, FollowUpState.CLAIMED)


def open(  # noqa: A001 - `followups.open` is the word for it; nothing here opens a file
    kind: FollowUpKind,
    *,
    subject_kind: str,
    subject_id: UUID,
    cause: str,
    at: datetime,
    due_at: datetime | None = None,
    order: Mapping[str, Any] | None = None,
    after: FollowUp | None = None,
) -> FollowUp:
    """Promise a deed in the transaction of the act it follows.

    Args:
        cause: the act, in words for people.
        due_at: not before this; default at once.
        order: what the courier needs; JSON, nothing personal.
        after: a follow-up that must be DONE first.
    """
    follow_up = FollowUp(
        kind=kind,
        subject_kind=subject_kind,
        subject_id=subject_id,
        cause=cause[:200],
        order=dict(order or {}),
        after=after,
        opened_at=at,
        due_at=due_at or at,
    )
    if kind in _NEVER_GIVEN_UP:
        follow_up.max_attempts = _MANY_ATTEMPTS
    follow_up.save(force_insert=True)
    locks.wake(locks.Channel.FOLLOW_UP, kind.value)
    return follow_up


def _ready(at: datetime) -> Q:
    is_free = Q(state=FollowUpState.DUE) | Q(state=FollowUpState.CLAIMED, claimed_until__lte=at)
    return is_free & Q(due_at__lte=at) & (Q(after=None) | Q(after__state=FollowUpState.DONE))


def due(*, at: datetime, limit: int) -> list[FollowUp]:
    """Follow-ups to hand to couriers now, oldest first; each is offered once every `RESEND_S`,
    and at once where a claim ran out.

    Rows another relay is looking at are passed over, so two relays never send the same one.
    """
    is_unsent = Q(sent_at=None) | Q(sent_at__lte=at - timedelta(seconds=RESEND_S))
    is_unsent |= Q(sent_at__lt=F("claimed_until"))
    with transaction.atomic():
        rows = list(
            FollowUp.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(_ready(at) & is_unsent)
            .order_by("due_at", "opened_at")[:limit]
        )
        FollowUp.objects.filter(pk__in=[row.pk for row in rows]).update(sent_at=at)
    return rows


def claim(follow_up_id: UUID, *, worker: str, for_s: float, at: datetime) -> FollowUp | None:
    """The follow-up, held by `worker` until `at` + `for_s`; None where it is not free to take.

    One whose claims ran out `max_attempts` times is failed instead, so that someone looks at it.
    """
    with transaction.atomic():
        row = (
            FollowUp.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(_ready(at), pk=follow_up_id)
            .first()
        )
        if row is None:
            return None
        if row.attempts >= row.max_attempts:
            _end(
                row,
                FollowUpState.FAILED,
                at,
                error=row.last_error
                or f"{row.claimed_by} stopped without a word; "
                f"expected an end within {row.max_attempts} attempts. Look at the worker's log.",
            )
            return None
        row.state = FollowUpState.CLAIMED
        row.claimed_by = worker
        row.claimed_until = at + timedelta(seconds=for_s)
        row.started_at = row.started_at or at
        row.attempts += 1
        row.save(update_fields=["state", "claimed_by", "claimed_until", "started_at", "attempts"])
    return row


def renew(
    follow_up_id: UUID,
    *,
    worker: str,
    for_s: float,
    at: datetime,
    done: int = 0,
    total: int = 0,
    note: str = "",
    metrics: Mapping[str, Any] | None = None,
) -> bool:
    """Hold on to a claim and say how far the work is. False: lost or cancelled, so stop working."""
    return bool(
        _held(follow_up_id, worker).update(
            claimed_until=at + timedelta(seconds=for_s),
            progress_done=done,
            progress_total=total,
            progress_note=note[:200],
            progress_metrics=dict(metrics or {}),
            progress_at=at,
        )
    )


def complete(follow_up_id: UUID, *, worker: str, evidence: Mapping[str, Any], at: datetime) -> bool:
    """End a follow-up with what shows that it was done. False where the claim was lost."""
    with transaction.atomic():
        row = _held(follow_up_id, worker).select_for_update().first()
        if row is None:
            return False
        row.evidence = dict(evidence)
        _end(row, FollowUpState.DONE, at)
        locks.wake(locks.Channel.FOLLOW_UP, row.kind)  # those that wait for this one
    return True


def next_try(attempts: int, *, at: datetime) -> datetime:
    """When to try again after `attempts` failed ones: 2 s, 4 s, 8 s … at most 5 minutes."""
    delay_s = min(FIRST_DELAY_S * 2.0 ** max(0, min(attempts - 1, 30)), LONGEST_DELAY_S)
    return at + timedelta(seconds=delay_s)


def postpone(follow_up_id: UUID, *, worker: str, error: str, retry_at: datetime) -> bool:
    """Give a claim back until `retry_at`. False where the claim was lost.

    With an `error` the attempt counts, and the last one allowed fails the follow-up. With an empty
    one the work was only waiting for something: the attempt does not count.
    """
    with transaction.atomic():
        row = _held(follow_up_id, worker).select_for_update().first()
        if row is None:
            return False
        if error and row.attempts >= row.max_attempts:
            _end(row, FollowUpState.FAILED, retry_at, error=error)
            return True
        row.state = FollowUpState.DUE
        row.claimed_by, row.claimed_until, row.sent_at = "", None, None
        row.due_at = retry_at
        row.last_error = error or row.last_error
        row.attempts -= 0 if error else 1
        row.save()
    return True


def fail(follow_up_id: UUID, *, worker: str, error: str, at: datetime) -> bool:
    """End a follow-up that trying again cannot help. False where the claim was lost."""
    with transaction.atomic():
        row = _held(follow_up_id, worker).select_for_update().first()
        if row is None:
            return False
        _end(row, FollowUpState.FAILED, at, error=error)
    return True


def retry(follow_up_id: UUID, *, at: datetime) -> bool:
    """Make a failed follow-up due again with all its attempts. False where it has not failed."""
    is_reopened = FollowUp.objects.filter(pk=follow_up_id, state=FollowUpState.FAILED).update(
        state=FollowUpState.DUE, attempts=0, due_at=at, ended_at=None, sent_at=None, claimed_by=""
    )
    if is_reopened:
        locks.wake(locks.Channel.FOLLOW_UP)
    return bool(is_reopened)


def cancel(follow_up_id: UUID, *, reason: str, at: datetime) -> bool:
    """Call a follow-up off; whoever works on it learns so at its next `renew`."""
    return bool(
        FollowUp.objects.filter(pk=follow_up_id, state__in=_UNSETTLED).update(
            state=FollowUpState.CANCELLED, ended_at=at, claimed_until=None, last_error=reason
        )
    )


def cancel_about(
    subject_kind: str,
    subject_ids: Collection[UUID],
    *,
    reason: str,
    at: datetime,
    kinds: Collection[FollowUpKind] = tuple(FollowUpKind),
) -> list[UUID]:
    """Call off every unsettled follow-up of `kinds` about these subjects; the ids called off."""
    rows = FollowUp.objects.filter(
        subject_kind=subject_kind,
        subject_id__in=subject_ids,
        kind__in=kinds,
        state__in=_UNSETTLED,
    )
    ids = list(rows.values_list("pk", flat=True))
    return [one for one in ids if cancel(one, reason=reason, at=at)]


def wait_instead(former: Collection[UUID], *, after: FollowUp) -> int:
    """Let what waited for `former` wait for `after`; a waiter never hangs on a cancelled deed."""
    return (
        FollowUp.objects.filter(after__in=former, state__in=_UNSETTLED)
        .exclude(pk=after.pk)
        .update(after=after)
    )


def _held(follow_up_id: UUID, worker: str) -> QuerySet[FollowUp]:
    return FollowUp.objects.filter(pk=follow_up_id, state=FollowUpState.CLAIMED, claimed_by=worker)


def _end(row: FollowUp, state: FollowUpState, at: datetime, *, error: str = "") -> None:
    row.state = state
    row.ended_at = at
    row.claimed_until = None
    row.last_error = error
    row.save()


def overdue(*, at: datetime, by_s: float) -> int:
    """How many follow-ups have been free to take for longer than `by_s`; a number to watch."""
    return FollowUp.objects.filter(_ready(at), due_at__lte=at - timedelta(seconds=by_s)).count()
