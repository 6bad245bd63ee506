"""Quotas as escrow: a runner reserves a slice, promises parts of it to answers, settles them.

What counts: for each answer that was permitted to use an expert under a licence, its prompt and
completion tokens and one answer, once for that licence however many of its experts were allowed.
It counts for the period in which its usage row was opened.

The order that makes an overshoot impossible, whoever dies when:

    Q1  `reserve`  the slice grows, in a transaction that locks the quota's row
    Q2  `promise`  the worst case of one answer, in the transaction that opens its usage row
    Q3  tokens are made, never more than were promised
    Q4  `settle`   what was taken, in the transaction that closes the usage row

So a token can only be made behind a promise that is committed, and what is neither promised nor
spent can be given back at any time: the next promise on it fails in the database. What a dead
runner had promised counts as spent in full. Bookkeeping: no log events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import BigIntegerField, F, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, Least

from governance.errors import LeaseRefused, NotFound, QuotaSpent
from governance.models import Licence, Quota, QuotaSlice, RunnerLease
from governance.policy.types import Snapshot
from governance.services import locks
from governance.vocabulary import LicenceState, QuotaPeriod

LOCK_MS, PATIENT_MS, IDLE_MS = 500, 10_000, 1_000
SHARE = 64
"""A slice grows by at least this part of the quota, so that small answers seldom ask for more."""

LEAST_TOKENS = 16
"""A quota with less than this left is used up: no answer worth having fits."""

WITHOUT_LIMIT = 10**15
"""What a slice is given at once of the kind, tokens or answers, that the licence does not limit."""


@dataclass(frozen=True)
class Slice:
    """What one incarnation may still promise of a licence's quota in the period until `ends_at`.

    `free_tokens` and `free_answers`: None is without limit.
    """

    id: UUID
    licence: str
    ends_at: datetime | None
    free_tokens: int | None
    free_answers: int | None

    def covers(self, tokens: int, at: datetime) -> bool:
        """Whether one answer of `tokens` at `at` can be promised out of it."""
        return (
            (self.ends_at is None or at < self.ends_at)
            and (self.free_tokens is None or self.free_tokens >= tokens)
            and (self.free_answers is None or self.free_answers >= 1)
        )


def period(licence: Licence, at: datetime) -> tuple[datetime, datetime | None]:
    """The period of the licence's quota that `at` lies in; calendar periods are in UTC."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match QuotaPeriod(licence.quota_period):
        case QuotaPeriod.DAY:
            return day, day + timedelta(days=1)
        case QuotaPeriod.MONTH:
            first = day.replace(day=1)
            return first, (first + timedelta(days=32)).replace(day=1)
        case QuotaPeriod.YEAR:
            first = day.replace(month=1, day=1)
            return first, first.replace(year=first.year + 1)
        case QuotaPeriod.TERM:
            return licence.starts_at, licence.ends_at


def limited(references: Collection[str]) -> frozenset[str]:
    """Those of the licences that have a quota at all."""
    has_limit = Q(max_tokens__isnull=False) | Q(max_answers__isnull=False)
    found = Licence.objects.filter(has_limit, reference__in=references)
    return frozenset(found.values_list("reference", flat=True))


class Limits:
    """Which licences of a policy have a quota: asked once for each policy, since terms stay."""

    def __init__(self) -> None:
        self._found: tuple[str, frozenset[str]] = ("", frozenset())

    def of(self, snapshot: Snapshot) -> frozenset[str]:
        """The references of those that have one. Any thread may ask."""
        digest, found = self._found
        if digest != snapshot.digest:
            references = {grant.licence for grant in snapshot.grants}
            found = limited(references) if references else frozenset()
            self._found = (snapshot.digest, found)
        return found


def reserve(reference: str, *, incarnation: UUID, tokens: int, at: datetime) -> Slice:
    """Grow this incarnation's slice until one answer of `tokens` fits, or as far as it goes (Q1).

    Where the quota has less than that left, what other slices have free is taken back first. The
    slice that comes back says what is free; it may be less than was asked for.

    Raises:
        NotFound: no such approved licence, or it has no quota.
        LeaseRefused: the incarnation is unknown or closed.
    """
    licence = Licence.objects.filter(reference=reference, state=LicenceState.APPROVED).first()
    if licence is None or (licence.max_tokens is None and licence.max_answers is None):
        raise NotFound(f"expected an approved licence with a quota, found none as {reference!r}.")
    # Looked at before the lock: a slice for a lease that closes meanwhile is only reclaimed later.
    if not RunnerLease.objects.filter(pk=incarnation, closed_at=None).exists():
        raise _lease_closed(incarnation)
    with transaction.atomic(), locks.limits(lock_ms=LOCK_MS, idle_ms=IDLE_MS):
        quota = _locked(licence, at)
        own = QuotaSlice.objects.select_for_update().filter(quota=quota, incarnation=incarnation)
        mine = own.first() or QuotaSlice.objects.create(
            quota=quota, incarnation_id=incarnation, opened_at=at
        )
        if mine.closed_at is not None:
            raise _lease_closed(incarnation)
        lacking = (max(0, tokens - _free_tokens(mine)), max(0, 1 - _free_answers(mine)))
        if any(lacking):
            _grow(quota, mine, *lacking)
    return _told(reference, quota, mine)


def _lease_closed(incarnation: UUID) -> LeaseRefused:
    return LeaseRefused(
        f"expected an open lease of incarnation {incarnation}, found it closed or unknown. "
        "Reserve nothing; start again under a new incarnation."
    )


def _locked(licence: Licence, at: datetime) -> Quota:
    starts_at, ends_at = period(licence, at)
    rows = Quota.objects.select_for_update().filter(licence=licence, starts_at=starts_at)
    found = rows.first()
    if found is None:
        first = Quota(licence=licence, starts_at=starts_at, ends_at=ends_at)
        Quota.objects.bulk_create([first], ignore_conflicts=True)
        found = rows.get()
    return found


def _grow(quota: Quota, mine: QuotaSlice, tokens: int, answers: int) -> None:
    """Take what is lacking, or a share of the quota if that is more, from what is left of it."""
    if _is_short(quota.max_tokens, quota.taken_tokens, tokens) or _is_short(
        quota.max_answers, quota.taken_answers, answers
    ):
        _take_back(quota.slices.exclude(pk=mine.pk))
        quota.refresh_from_db(fields=["taken_tokens", "taken_answers"])
    more_tokens = _more(quota.max_tokens, quota.taken_tokens, tokens)
    more_answers = _more(quota.max_answers, quota.taken_answers, answers)
    mine.reserved_tokens += more_tokens
    mine.reserved_answers += more_answers
    mine.save(update_fields=["reserved_tokens", "reserved_answers"])


def _is_short(most: int | None, taken: int, lacking: int) -> bool:
    return most is not None and most - taken < lacking


def _more(most: int | None, taken: int, lacking: int) -> int:
    if not lacking:
        return 0
    return WITHOUT_LIMIT if most is None else min(most - taken, max(lacking, most // SHARE))


def _take_back(slices: QuerySet[QuotaSlice], *, closed_at: datetime | None = None) -> int:
    """Give what these slices have free back to their quota, whose row is locked already."""
    rows = slices.select_for_update().order_by("pk")
    for one in rows:
        one.returned_tokens += _free_tokens(one)
        one.returned_answers += _free_answers(one)
        one.closed_at = one.closed_at or closed_at
        one.save(update_fields=["returned_tokens", "returned_answers", "closed_at"])
    return len(rows)


def _free_tokens(one: QuotaSlice) -> int:
    return one.reserved_tokens - one.promised_tokens - one.spent_tokens - one.returned_tokens


def _free_answers(one: QuotaSlice) -> int:
    return one.reserved_answers - one.promised_answers - one.spent_answers - one.returned_answers


def _told(reference: str, quota: Quota, one: QuotaSlice) -> Slice:
    return Slice(
        id=one.pk,
        licence=reference,
        ends_at=quota.ends_at,
        free_tokens=None if quota.max_tokens is None else _free_tokens(one),
        free_answers=None if quota.max_answers is None else _free_answers(one),
    )


def promise(slices: Collection[UUID], *, incarnation: UUID, tokens: int) -> None:
    """Promise `tokens` of each slice to one answer, in the caller's transaction (Q2), which is
    to be rolled back where this raises.

    Raises:
        QuotaSpent: a slice has less than that free, or is no open slice of this incarnation.
    """
    try:
        changed = _in_order(slices, incarnation=incarnation, closed_at=None).update(
            promised_tokens=F("promised_tokens") + tokens,
            promised_answers=F("promised_answers") + 1,
        )
    except IntegrityError as refusal:
        if "never_overdrawn" not in str(refusal):
            raise
        raise _spent(tokens) from refusal
    if changed != len(set(slices)):
        raise _spent(tokens)


def settle(slices: Collection[UUID], *, promised: int, tokens: int, answers: int = 1) -> None:
    """Turn a promise of `promised` tokens into what was taken, in the caller's transaction (Q4).

    More than was promised is charged as far as the slice goes; a runner never makes more.
    """
    free = F("reserved_tokens") - F("promised_tokens") - F("spent_tokens") - F("returned_tokens")
    _in_order(slices).update(
        promised_tokens=F("promised_tokens") - promised,
        promised_answers=F("promised_answers") - 1,
        spent_tokens=F("spent_tokens") + Least(Value(tokens, BigIntegerField()), free + promised),
        spent_answers=F("spent_answers") + answers,
    )


def _in_order(slices: Collection[UUID], **more: object) -> QuerySet[QuotaSlice]:
    """The slices, each locked, in the order everyone locks them in."""
    ids = sorted(set(slices))
    if len(ids) > 1:
        list(QuotaSlice.objects.filter(pk__in=ids).order_by("pk").select_for_update())
    return QuotaSlice.objects.filter(pk__in=ids, **more)


def _spent(tokens: int) -> QuotaSpent:
    return QuotaSpent(
        f"expected {tokens} tokens and one answer free in every slice, found less. Reserve more, "
        "or decide again without the licence."
    )


def reclaim(*, at: datetime) -> int:
    """Give back what slices of ended incarnations hold; how many. For the upkeep task.

    A slice waits here until the rows its runner left open are closed as lost, which spends their
    promises in full. Nothing can be promised out of a slice once its lease is closed: opening a
    usage row takes that lease's row.
    """
    over = QuotaSlice.objects.filter(
        closed_at=None, promised_answers=0, incarnation__closed_at__isnull=False
    )
    closed = 0
    for quota_id in set(over.values_list("quota_id", flat=True)):
        with transaction.atomic(), locks.limits(lock_ms=PATIENT_MS, idle_ms=IDLE_MS):
            Quota.objects.select_for_update().get(pk=quota_id)
            found = over.filter(quota_id=quota_id).values_list("pk", flat=True)
            closed += _take_back(QuotaSlice.objects.filter(pk__in=list(found)), closed_at=at)
    return closed


def now_free(reference: str, *, incarnation: UUID, at: datetime) -> Slice | None:
    """This incarnation's slice as the database has it; None before the first reservation."""
    starts_at, _ = period(Licence.objects.get(reference=reference), at)
    found = (
        QuotaSlice.objects.select_related("quota")
        .filter(
            quota__licence__reference=reference,
            quota__starts_at=starts_at,
            incarnation_id=incarnation,
            closed_at=None,
        )
        .first()
    )
    return None if found is None else _told(reference, found.quota, found)


@dataclass(frozen=True)
class Standing:
    """How far the quota of a licence is used in one period; `max_*` None is without limit.

    `spent_*` belongs to answers that ended, `promised_*` to answers being written.
    """

    licence: str
    starts_at: datetime
    ends_at: datetime | None
    max_tokens: int | None
    max_answers: int | None
    spent_tokens: int = 0
    promised_tokens: int = 0
    spent_answers: int = 0
    promised_answers: int = 0

    @property
    def share(self) -> float:
        """How much of it is spent or promised, of tokens or answers whichever is more: 0 to 1."""
        tokens = (self.spent_tokens + self.promised_tokens) / (self.max_tokens or float("inf"))
        answers = (self.spent_answers + self.promised_answers) / (self.max_answers or float("inf"))
        return max(tokens, answers)

    @property
    def is_used_up(self) -> bool:
        """Whether no further answer fits, runners' reserves all counted as free."""
        return (
            self.max_tokens is not None
            and self.max_tokens - self.spent_tokens - self.promised_tokens < LEAST_TOKENS
        ) or (
            self.max_answers is not None
            and self.max_answers - self.spent_answers - self.promised_answers < 1
        )


_SUMS = ("spent_tokens", "promised_tokens", "spent_answers", "promised_answers")


def standings(references: Collection[str], *, at: datetime) -> Mapping[str, Standing]:
    """How the quotas of these licences stand in the period of `at`; without quota, not in it."""
    licences = {
        one.reference: one
        for one in Licence.objects.filter(reference__in=limited(references)).order_by("reference")
    }
    periods = {reference: period(one, at) for reference, one in licences.items()}
    sums = (
        Quota.objects.filter(licence__in=licences.values())
        .annotate(**{name: Coalesce(Sum(f"slices__{name}"), 0) for name in _SUMS})
        .values("licence__reference", "starts_at", *_SUMS)
    )
    used = {(row.pop("licence__reference"), row.pop("starts_at")): row for row in sums}
    return {
        reference: Standing(
            reference,
            *periods[reference],
            one.max_tokens,
            one.max_answers,
            **used.get((reference, periods[reference][0]), {}),
        )
        for reference, one in licences.items()
    }


def used_up(references: Collection[str], *, at: datetime) -> frozenset[str]:
    """Those of the licences whose quota has visibly run out. A cheap read; nothing rests on it."""
    found = standings(references, at=at)
    return frozenset(name for name, standing in found.items() if standing.is_used_up)
