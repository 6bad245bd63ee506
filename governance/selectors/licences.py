"""Licences in two times: when something held, and when we knew of it.

Every fact about a licence is a row or a column with its own instant of record: the request
(`requested_at`), the decision (`decided_at`), endings and their lifting (`recorded_at`), the
countersignature (`signed_at`). What was true on day T as we knew it on day U is what those rows
recorded by U say about T. Nothing is reconstructed from the log.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)

from governance.models import Countersignature, Ending, Licence
from governance.vocabulary import LicenceState


def as_of(rows: QuerySet[Licence], *, valid_at: datetime, known_at: datetime) -> QuerySet[Licence]:
    """Those of `rows` that were requested by `known_at`, in one query, each with

    - `state_then`: requested, approved or rejected, as recorded by `known_at`;
    - `in_force_then`: whether it was in force at `valid_at`, by what was recorded by `known_at`;
    - `ended_then`: the instrument that bars it at `valid_at`, null where none does.

    An ending of only some purposes or consumers leaves the licence in force for the rest.
    """
    lifted = Ending.objects.filter(
        lifts=OuterRef("pk"), recorded_at__lte=known_at, effective_at__lte=valid_at
    )
    barring = (
        Ending.objects.filter(
            licence=OuterRef("pk"),
            lifts=None,
            purposes=None,
            consumers=None,
            recorded_at__lte=known_at,
            effective_at__lte=valid_at,
        )
        .exclude(Exists(lifted))
        .order_by("effective_at", "recorded_at")
    )
    signed = Countersignature.objects.filter(licence=OuterRef("pk"), signed_at__lte=known_at)
    decided = Q(decided_at__isnull=False, decided_at__lte=known_at)
    holds = (
        decided
        & Q(state=LicenceState.APPROVED, starts_at__lte=valid_at)
        & (Q(ends_at__isnull=True) | Q(ends_at__gt=valid_at))
        & (Q(needs_countersignature=False) | Exists(signed))
        & ~Exists(barring)
    )
    return rows.filter(requested_at__lte=known_at).annotate(
        state_then=Case(
            When(decided, then=F("state")),
            default=Value(LicenceState.REQUESTED.value),
            output_field=CharField(),
        ),
        in_force_then=Case(
            When(holds, then=Value(True)), default=Value(False), output_field=BooleanField()
        ),
        ended_then=Subquery(barring.values("instrument")[:1], output_field=CharField()),
    )


def in_force_as_of(
    rows: QuerySet[Licence], *, valid_at: datetime, known_at: datetime
) -> QuerySet[Licence]:
    """Those of `rows` that were in force at `valid_at` as far as anybody knew at `known_at`."""
    return as_of(rows, valid_at=valid_at, known_at=known_at).filter(
        in_force_then=True  # type: ignore[misc] # an annotation of `as_of`
    )


def versions_of(licence: Licence) -> list[Licence]:
    """Every version in the chain this licence belongs to, oldest first, in one query.

    The chain follows `supersedes`, rejected attempts included; licences of the same collection
    that merely stand beside it are not in it.
    """
    beside = Licence.objects.filter(corpus_id=licence.corpus_id).select_related(
        "requested_by", "decided_by"
    )
    by_id = {one.pk: one for one in beside}
    first = by_id[licence.pk]
    while first.supersedes_id is not None:
        first = by_id[first.supersedes_id]
    chain, newest = [first], [first.pk]
    while newest:
        found = [one for one in by_id.values() if one.supersedes_id in newest]
        chain += sorted(found, key=lambda one: one.requested_at)
        newest = [one.pk for one in found]
    return chain
