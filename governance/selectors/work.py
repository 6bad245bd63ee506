"""What awaits people, and how the machines are: the home pages of staff."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import DurationField, ExpressionWrapper, F, Q, Value

from governance.models import ExpertRevision, FollowUp, Licence, RunnerLease
from governance.vocabulary import (
    FollowUpKind,
    FollowUpState,
    LicenceState,
    RevisionState,
    Role,
)

SOON = timedelta(days=30)


@dataclass(frozen=True)
class DueItem:
    """Something a person has to do: what, about what, for which role, since or until when."""

    what: str
    about: str
    role: Role
    at: datetime
    subject: Any


@dataclass(frozen=True)
class RunnerLine:
    """One open lease: how long it still runs at most, and whether it holds the newest policy."""

    lease: RunnerLease
    remaining_s: float
    is_live: bool
    is_current: bool


def due_items(*, at: datetime) -> list[DueItem]:
    """What awaits staff, oldest first: decisions, gaps, failures, licences about to end."""
    items = [*_decisions(), *_troubles(), *_endings(at)]
    return sorted(items, key=lambda item: item.at)


def _decisions() -> Iterator[DueItem]:
    for licence in Licence.objects.filter(state=LicenceState.REQUESTED).select_related("corpus"):
        yield DueItem(
            "Decide on a licence", str(licence), Role.LEGAL, licence.requested_at, licence
        )
    asked = ExpertRevision.objects.filter(state=RevisionState.ACTIVATION_REQUESTED)
    for revision in asked.select_related("expert"):
        yield DueItem(
            "Decide on an activation", str(revision), Role.LEGAL, revision.submitted_at, revision
        )


def _troubles() -> Iterator[DueItem]:
    is_gap = Q(kind=FollowUpKind.RESOLVE_GAP, state__in=(FollowUpState.DUE, FollowUpState.CLAIMED))
    for row in FollowUp.objects.filter(is_gap | Q(state=FollowUpState.FAILED)):
        if row.state == FollowUpState.FAILED:
            yield DueItem("Look at a failure", row.cause, Role.ENGINEER, row.opened_at, row)
        else:
            yield DueItem("Correct a licence", row.cause, Role.LEGAL, row.opened_at, row)


def _endings(at: datetime) -> Iterator[DueItem]:
    for licence in Licence.objects.in_force(at).filter(ends_at__lte=at + SOON):
        if licence.ends_at is not None:
            yield DueItem("Renew a licence", str(licence), Role.LEGAL, licence.ends_at, licence)


def runners(*, policy_epoch: int, at: datetime) -> list[RunnerLine]:
    """Open leases by runner name, the newest life first.

    Args:
        policy_epoch: the newest one, to tell who has applied it.
    """
    length = ExpressionWrapper(
        F("lease_s") * Value(timedelta(seconds=1)), output_field=DurationField()
    )
    leases = (
        RunnerLease.objects.filter(closed_at=None)
        .select_related("loaded_build")
        .annotate(ends_at=F("renewed_at") + length)
    )
    lines = []
    for lease in leases:
        remaining_s = max(0.0, (lease.ends_at - at).total_seconds())
        is_current = lease.applied_epoch >= policy_epoch
        lines.append(RunnerLine(lease, remaining_s, remaining_s > 0, is_current))
    return lines
