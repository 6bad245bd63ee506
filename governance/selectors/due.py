"""Everything with a clock that legal staff have an eye on, soonest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q

from governance.models import (
    ClockPause,
    Duty,
    Ending,
    Expert,
    FollowUp,
    LegalHold,
    Licence,
    Notice,
    Withdrawal,
)
from governance.services import clocks
from governance.vocabulary import Clock, FollowUpKind, FollowUpState, HoldState, Instrument

AHEAD = timedelta(days=90)
MOST_OF_A_KIND = 200


@dataclass(frozen=True, slots=True)
class DueLine:
    """One clock. `subject` reads `kind:name` as in the log; `deadline` has pauses in it already."""

    clock: Clock
    what: str
    about: str
    subject: str
    subject_id: UUID
    deadline: datetime
    words: str
    pause: ClockPause | None = None

    @property
    def may_pause(self) -> bool:
        """Whether the law lets this clock stand still."""
        return self.clock in clocks.MAY_PAUSE


def due_board(*, at: datetime) -> list[DueLine]:
    """Every clock that runs now: ends, notices, holds, duties, gaps, withdrawals, failures."""
    lines = [
        *_licence_ends(at),
        *_notices(at),
        *_holds(at),
        *_withdrawals(),
        *_gaps(),
        *_failures(),
        *_duties(at),
        *_acknowledgements(),
    ]
    return sorted(_with_pauses(lines, at), key=lambda line: (line.deadline, line.about))


def _with_pauses(lines: list[DueLine], at: datetime) -> Iterator[DueLine]:
    """The lines with their pauses, all of them read at once."""
    ids = [line.subject_id for line in lines if line.may_pause]
    stood: dict[UUID, timedelta] = {}
    standing: dict[UUID, ClockPause] = {}
    rows = ClockPause.objects.filter(subject_id__in=ids, lifts=None)
    for row in rows.select_related("lifted_by", "paused_by"):
        lifting = getattr(row, "lifted_by", None)
        if lifting is None:
            standing[row.subject_id] = row
        until = lifting.at if lifting is not None else at
        stood[row.subject_id] = stood.get(row.subject_id, timedelta(0)) + (until - row.at)
    for line in lines:
        moved = line.deadline + stood.get(line.subject_id, timedelta(0))
        yield DueLine(
            line.clock, line.what, line.about, line.subject, line.subject_id, moved, line.words,
            standing.get(line.subject_id),
        )  # fmt: skip


def _licence_ends(at: datetime) -> Iterator[DueLine]:
    renewed = Licence.objects.agreed().filter(supersedes=OuterRef("pk"))
    near = Licence.objects.agreed().filter(
        Q(stops_at=None) | Q(stops_at__gte=F("ends_at")),
        ends_at__gt=at,
        ends_at__lte=at + AHEAD,
    )
    for one in near.exclude(Exists(renewed)).select_related("corpus")[:MOST_OF_A_KIND]:
        assert one.ends_at is not None
        yield DueLine(
            Clock.LICENCE_END, "Licence ends", f"{one.reference}, {one.corpus}",
            f"licence:{one.reference}", one.pk, one.ends_at,
            "Disabled by itself on that day; renew it before, or let it end.",
        )  # fmt: skip


def _notices(at: datetime) -> Iterator[DueLine]:
    running = Ending.objects.filter(
        Q(effective_at__gt=at) | Q(wind_down_until__gt=at), instrument=Instrument.TERMINATE
    ).select_related("licence", "expert")
    for one in running[:MOST_OF_A_KIND]:
        name = one.licence.reference if one.licence else str(one.expert)
        subject = f"licence:{name}" if one.licence else f"expert:{name}"
        if one.effective_at > at:
            words = "Then disabled"
            words += ", but for those who may wind down." if one.wind_down_until else " for all."
            yield DueLine(
                Clock.NOTICE, "Notice runs", name, subject, one.pk, one.effective_at, words
            )
        elif one.wind_down_until is not None:
            who = ", ".join(one.wind_down_consumers) or "nobody"
            yield DueLine(
                Clock.WIND_DOWN, "Wind-down runs", name, subject, one.pk, one.wind_down_until,
                f"Still used by {who}. Then by nobody.",
            )  # fmt: skip


def _holds(at: datetime) -> Iterator[DueLine]:
    rows = LegalHold.objects.filter(until_at__gt=at).select_related("expert")
    for one in rows.filter(state__in=(HoldState.REQUESTED, HoldState.IN_FORCE))[:MOST_OF_A_KIND]:
        is_asked = one.state == HoldState.REQUESTED
        words = "A second person decides on it." if is_asked else "Bytes sealed until then."
        yield DueLine(
            Clock.HOLD_REVIEW, "Legal hold requested" if is_asked else "Legal hold ends",
            f"{one.expert.name}: {one.authority}", f"expert:{one.expert.name}", one.pk,
            one.until_at, words,
        )  # fmt: skip


def _withdrawals() -> Iterator[DueLine]:
    rows = Withdrawal.objects.filter(erased_at=None).select_related("expert")
    for one in rows[:MOST_OF_A_KIND]:
        words = "Disabled everywhere, not erased yet." if one.quiesced_at else "Being enforced."
        yield DueLine(
            Clock.WITHDRAWAL, "Withdrawal to finish", one.expert.name, f"expert:{one.expert.name}",
            one.pk, one.committed_at + timedelta(days=30), words,
        )  # fmt: skip


def _gaps() -> Iterator[DueLine]:
    is_open = (FollowUpState.DUE, FollowUpState.CLAIMED)
    rows = FollowUp.objects.filter(kind=FollowUpKind.RESOLVE_GAP, state__in=is_open)
    found = list(rows[:MOST_OF_A_KIND])
    ids = [one.subject_id for one in found]
    names = dict(Expert.objects.filter(pk__in=ids).values_list("pk", "name"))
    for one in found:
        name = str(one.order.get("expert") or names.get(one.subject_id, "A licence"))
        yield DueLine(
            Clock.GAP, "Gap in policy", name, f"gap:{name}", one.pk, one.due_at,
            f"{one.order.get('problem') or one.cause}. Denied until it is resolved.",
        )  # fmt: skip


def _failures() -> Iterator[DueLine]:
    for one in FollowUp.objects.filter(state=FollowUpState.FAILED)[:MOST_OF_A_KIND]:
        yield DueLine(
            Clock.FAILED_WORK, "Failed work", one.cause, f"run:{one.pk}", one.pk,
            one.ended_at or one.due_at, one.last_error[:200],
        )  # fmt: skip


def _duties(at: datetime) -> Iterator[DueLine]:
    rows = Duty.objects.filter(done_at=None, due_at__lte=at + AHEAD)
    for one in rows.select_related("owner")[:MOST_OF_A_KIND]:
        yield DueLine(
            Clock.DUTY, f"Duty: {one.get_action_display().lower()}", f"{one.owner}: {one.about}",
            f"duty:{one.pk}", one.pk, one.due_at, one.cause,
        )  # fmt: skip


def _acknowledgements() -> Iterator[DueLine]:
    rows = Notice.objects.filter(
        needs_acknowledgement=True, acknowledged_at=None, consumer__isnull=False
    ).exclude(key__startswith="chase:")
    for one in rows.select_related("consumer")[:MOST_OF_A_KIND]:
        yield DueLine(
            Clock.ACKNOWLEDGEMENT, "Not acknowledged", f"{one.consumer}: {one.title}",
            one.subject, one.pk, one.told_at + timedelta(days=21),
            "Asked again after 7 and 21 days.",
        )  # fmt: skip
