"""Duties: what licences oblige us to do, opened by what happens and closed by proof.

| what happens | what is owed |
|---|---|
| a licence is approved | its duties to attribute and inform, and attribution where it is required |
| a calendar month ends in which a paid licence was in force | compensation for that month |
| a licence ends | word of it to the owner; deletion where the licence asks for it |
| an expert is withdrawn | deletion of its bytes, and word of it to the owner |

`open_due` looks at what is and opens what is missing; looking again opens nothing. Where the
system itself has the proof (a certificate, an erasure), it marks the duty as done with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from governance.errors import InvalidTerms, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    Certificate,
    DataOwner,
    Document,
    Duty,
    Ending,
    Expert,
    Licence,
    Withdrawal,
)
from governance.vocabulary import DutyAction, EventTag, Instrument, LicenceState

WITHIN_DAYS = 30
"""Days for a duty whose licence names none; for word to the owner also GDPR art. 12(3)."""

MONTHS_BACK = 12
"""Months that have ended for which compensation is still looked for."""


@dataclass(frozen=True)
class Owed:
    """A duty that what happened calls for. `key` is the same whenever it is looked for."""

    key: str
    owner: DataOwner
    action: DutyAction
    about: str
    cause: str
    due_at: datetime
    licence: Licence | None = None
    expert: Expert | None = None


def open_due(*, at: datetime) -> int:
    """Open every duty that has come about by `at`, and close those the system can prove; how many
    were opened. For the upkeep task."""
    owed = {one.key: one for one in _all_owed(at)}
    known = set(Duty.objects.filter(key__in=owed).values_list("key", flat=True))
    opened = sum(_open(one, at) for key, one in owed.items() if key not in known)
    _close_proved(at)
    return opened


def mark_done(
    duty: Duty,
    *,
    by: Account | None,
    at: datetime,
    proof: str = "",
    document: Document | None = None,
) -> Duty:
    """Say that a duty is fulfilled, with proof: words, a file, or both.

    Raises:
        InvalidTerms: no proof.
        UnlawfulMove: it was marked as done before.
    """
    proof = proof.strip()
    if not proof and document is None:
        raise InvalidTerms(
            "expected proof that the duty was fulfilled, found none. Say what was done, or hand in "
            "a file.",
            fields={"proof": "Say what was done, or hand in a file."},
        )
    with transaction.atomic():
        found = Duty.objects.select_for_update().get(pk=duty.pk)
        if found.done_at is not None:
            raise UnlawfulMove(
                f"expected a duty that is not done, found it done since {found.done_at:%Y-%m-%d}."
            )
        found.done_at, found.done_by, found.proof, found.proof_document = at, by, proof, document
        found.save(update_fields=["done_at", "done_by", "proof", "proof_document"])
        events.stage(
            EventTag.DUTY_DONE,
            subject=f"duty:{found.pk}",
            by=by,
            at=at,
            details={
                "key": found.key,
                "proof": proof,
                "document": document.pk if document else None,
                "was_due_at": found.due_at,
            },
        )
    return found


def _open(owed: Owed, at: datetime) -> bool:
    with transaction.atomic():
        duty, is_new = Duty.objects.get_or_create(
            key=owed.key,
            defaults={
                "owner": owed.owner,
                "licence": owed.licence,
                "expert": owed.expert,
                "action": owed.action,
                "about": owed.about[:300],
                "cause": owed.cause[:200],
                "opened_at": at,
                "due_at": owed.due_at,
            },
        )
        if is_new:
            events.stage(
                EventTag.DUTY_OPENED,
                subject=f"duty:{duty.pk}",
                by=None,
                at=at,
                details={"key": owed.key, "action": owed.action.value, "due_at": owed.due_at},
            )
    return is_new


def _all_owed(at: datetime) -> Iterator[Owed]:
    approved = Licence.objects.filter(state=LicenceState.APPROVED, decided_at__lte=at)
    for licence in approved.select_related("corpus__owner"):
        yield from _by_approval(licence)
        yield from _by_months(licence, at)
    yield from _by_endings(at)
    yield from _by_withdrawals(at)


def _by_approval(licence: Licence) -> Iterator[Owed]:
    begins_at = max(licence.decided_at or licence.starts_at, licence.starts_at)
    terms = [
        duty
        for duty in _terms(licence)
        if duty["action"] in (DutyAction.ATTRIBUTE, DutyAction.INFORM)
    ]
    if licence.requires_attribution and not any(
        duty["action"] == DutyAction.ATTRIBUTE for duty in terms
    ):
        terms.append({"action": DutyAction.ATTRIBUTE, "about": licence.attribution_text})
    for number, duty in enumerate(terms):
        action = DutyAction(duty["action"])
        yield Owed(
            key=f"{licence.reference}:approved:{action}:{number}",
            owner=licence.corpus.owner,
            licence=licence,
            action=action,
            about=duty.get("about") or f"{action.label} as {licence} says",
            cause=f"licence {licence} approved",
            due_at=begins_at + _within(duty),
        )


def _by_months(licence: Licence, at: datetime) -> Iterator[Owed]:
    terms = _term(licence, DutyAction.COMPENSATE)
    if terms is None and not (licence.rate_per_million_tokens or licence.minimum_per_period):
        return
    ends_at = min(filter(None, (licence.ends_at, licence.stops_at)), default=None)
    for month in ended_months(at, MONTHS_BACK):
        month_at = midnight(month)
        over_at = midnight(next_month(month))
        if licence.starts_at < over_at and (ends_at is None or ends_at > month_at):
            yield Owed(
                key=f"{licence.reference}:{month:%Y-%m}:compensate",
                owner=licence.corpus.owner,
                licence=licence,
                action=DutyAction.COMPENSATE,
                about=(terms or {}).get("about") or f"Pay what the statement of {month:%B %Y} says",
                cause=f"{month:%B %Y} has ended",
                due_at=over_at + _within(terms or {}),
            )


def _by_endings(at: datetime) -> Iterator[Owed]:
    """A version that another one follows has not ended for the owner."""
    followed = Licence.objects.filter(supersedes=OuterRef("licence"), state=LicenceState.APPROVED)
    endings = (
        Ending.objects.filter(licence__isnull=False, lifts=None, effective_at__lte=at)
        .exclude(instrument=Instrument.SUSPEND)
        .exclude(Exists(followed))
        .select_related("licence__corpus__owner")
    )
    for ending in endings:
        licence = ending.licence
        assert licence is not None
        instrument = Instrument(ending.instrument)
        said: dict[str, Any] = {
            "owner": licence.corpus.owner,
            "licence": licence,
            "cause": f"licence {licence}: {instrument.label.lower()}",
        }
        inform = _term(licence, DutyAction.INFORM) or {}
        yield Owed(
            key=f"ending:{ending.pk}:inform",
            action=DutyAction.INFORM,
            about=f"Tell the owner that {licence} has ended and what follows",
            due_at=ending.effective_at + _within(inform),
            **said,
        )
        delete = _term(licence, DutyAction.DELETE)
        if delete is not None and ending.purposes is None and ending.consumers is None:
            yield Owed(
                key=f"ending:{ending.pk}:delete",
                action=DutyAction.DELETE,
                about=delete.get("about") or f"Delete what was made under {licence}",
                due_at=ending.effective_at + _within(delete, licence.wind_down_days),
                **said,
            )


def _by_withdrawals(at: datetime) -> Iterator[Owed]:
    rows = Withdrawal.objects.filter(committed_at__lte=at).select_related("expert__owner")
    for withdrawal in rows:
        expert = withdrawal.expert
        for action, about in (
            (DutyAction.DELETE, f"Erase the bytes of {expert.name}"),
            (DutyAction.INFORM, f"Give the owner the certificate that {expert.name} is blocked"),
        ):
            yield Owed(
                key=f"withdrawal:{withdrawal.pk}:{action}",
                owner=expert.owner,
                expert=expert,
                action=action,
                about=about,
                cause=f"expert {expert.name} withdrawn",
                due_at=withdrawal.committed_at + timedelta(days=WITHIN_DAYS),
            )


def _close_proved(at: datetime) -> None:
    undone = {
        duty.key: duty for duty in Duty.objects.filter(done_at=None, key__startswith="withdrawal:")
    }
    if not undone:
        return
    erased = Withdrawal.objects.filter(erased_at__isnull=False)
    for withdrawal in erased.filter(pk__in=_subjects(undone)):
        duty = undone.get(f"withdrawal:{withdrawal.pk}:{DutyAction.DELETE}")
        if duty is not None:
            words = f"erased at {withdrawal.erased_at:%Y-%m-%d %H:%M} UTC, as the erasure lists"
            mark_done(duty, by=None, at=at, proof=words)
    first = Certificate.objects.filter(withdrawal__in=_subjects(undone)).order_by("issued_at")
    for certificate in first:
        duty = undone.pop(f"withdrawal:{certificate.withdrawal_id}:{DutyAction.INFORM}", None)
        if duty is not None:
            words = f"certificate {certificate.digest} is on the owner's page"
            mark_done(duty, by=None, at=at, proof=words)


def _subjects(keys: Mapping[str, Duty]) -> set[UUID]:
    return {UUID(key.split(":")[1]) for key in keys}


def _terms(licence: Licence) -> list[dict[str, Any]]:
    """The duties of the terms that name an action we know; others are a gap for the reader."""
    return [dict(duty) for duty in licence.duties if duty.get("action") in set(DutyAction)]


def _term(licence: Licence, action: DutyAction) -> dict[str, Any] | None:
    return next((duty for duty in _terms(licence) if duty["action"] == action), None)


def _within(duty: Mapping[str, Any], otherwise: int = 0) -> timedelta:
    days = duty.get("within_days")
    return timedelta(days=int(days) if days is not None else otherwise or WITHIN_DAYS)


def ended_months(at: datetime, count: int) -> Iterator[date]:
    """The last `count` calendar months in UTC that had ended at `at`, newest first."""
    month = at.astimezone(UTC).date().replace(day=1)
    for _ in range(count):
        month = (month - timedelta(days=1)).replace(day=1)
        yield month


def next_month(month: date) -> date:
    """The first day of the month after that of `month`."""
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def midnight(day: date) -> datetime:
    """When `day` begins in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def undone(owner: DataOwner | None = None) -> QuerySet[Duty]:
    """What is still owed, most urgent first."""
    found = Duty.objects.filter(done_at=None).select_related("owner", "licence", "expert")
    return found if owner is None else found.filter(owner=owner)
