"""Clocks that may stand still, with the reason why; and those that no one may stop."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, ClockPause, Membership
from governance.vocabulary import Clock, EventTag, Role

MAY_PAUSE: Mapping[Clock, str] = {
    Clock.GAP: "while the owner is asked what the licence was meant to say; it stays denied",
    Clock.DUTY: "while we wait for what only the other side can give",
    Clock.ACKNOWLEDGEMENT: "while the recipient cannot be reached",
    Clock.FAILED_WORK: "while a cause outside this installation is looked into",
}
"""Which clocks may be paused and on what ground. The others are the contract's or the law's own:
a licence's end, a notice, a wind-down, the last day of a hold, and everything of a withdrawal."""


@transaction.atomic
def pause(clock: Clock, subject_id: UUID, *, by: Account, at: datetime, reason: str) -> ClockPause:
    """Let a clock stand still. Paused already, the first pause is given back.

    Raises:
        NotPermitted: the person is not legal staff.
        UnlawfulMove: no one may stop this clock.
        InvalidTerms: no reason is given.
    """
    clock = Clock(clock)
    _check_legal(by)
    if clock not in MAY_PAUSE:
        raise UnlawfulMove(
            f"expected a clock that may be paused, found {clock.label.lower()}: it is the law's or "
            "the contract's."
        )
    if not reason.strip():
        raise InvalidTerms(
            "expected the reason for a pause, found none. Say what is waited for.",
            fields={"reason": "Say what is waited for."},
        )
    known = standing(clock, subject_id)
    if known is not None:
        return known
    row = ClockPause.objects.create(
        clock=clock, subject_id=subject_id, reason=reason.strip(), paused_by=by, at=at
    )
    _stage(EventTag.CLOCK_PAUSED, row, by, at)
    return row


@transaction.atomic
def resume(
    clock: Clock, subject_id: UUID, *, by: Account, at: datetime, reason: str = ""
) -> ClockPause:
    """Let a clock run again; its deadline has moved by the time it stood still.

    Raises:
        NotPermitted: the person is not legal staff.
        UnlawfulMove: it was not paused.
    """
    _check_legal(by)
    paused = standing(Clock(clock), subject_id)
    if paused is None:
        raise UnlawfulMove("expected a clock that stands still, found it running.")
    row = ClockPause.objects.create(
        clock=paused.clock,
        subject_id=subject_id,
        reason=reason.strip(),
        paused_by=by,
        at=at,
        lifts=paused,
    )
    _stage(EventTag.CLOCK_RESUMED, row, by, at)
    return row


def standing(clock: Clock, subject_id: UUID) -> ClockPause | None:
    """The pause a clock stands still by now. A read."""
    rows = ClockPause.objects.filter(clock=clock, subject_id=subject_id, lifts=None, lifted_by=None)
    return rows.select_related("paused_by").first()


def stood_still(clock: Clock, subject_id: UUID, *, at: datetime) -> timedelta:
    """How long a clock has stood still until `at`; deadlines move by that. A read."""
    whole = timedelta(0)
    rows = ClockPause.objects.filter(clock=clock, subject_id=subject_id, lifts=None, at__lte=at)
    for row in rows.select_related("lifted_by"):
        lifting = getattr(row, "lifted_by", None)
        until = min(lifting.at, at) if lifting is not None else at
        whole += max(until - row.at, timedelta(0))
    return whole


def _check_legal(by: Account) -> None:
    if not Membership.objects.filter(account=by, role=Role.LEGAL).exists():
        raise NotPermitted(f"expected legal staff, found {by}. Ask one of them.")


def _stage(tag: EventTag, row: ClockPause, by: Account, at: datetime) -> None:
    events.stage(
        tag,
        subject=f"clock:{row.clock}:{row.subject_id}",
        by=by,
        at=at,
        details={"reason": row.reason},
    )
