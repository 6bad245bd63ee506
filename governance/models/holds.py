"""What may make a clock stand still: a legal hold on erasure, a pause with its reason."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Self

from django.db import models
from django.db.models import F, Q

from governance.models.columns import append_only, identity, instant
from governance.models.experts import Expert
from governance.models.owners import Account
from governance.vocabulary import Clock, HoldState


class LegalHoldQuerySet(models.QuerySet["LegalHold"]):
    """Holds by what they do at an instant."""

    def in_force(self, at: datetime) -> Self:
        """Approved, not lifted, and not past their last day at `at`."""
        return self.filter(state=HoldState.IN_FORCE, until_at__gt=at)


class LegalHold(models.Model):
    """An order to keep an expert's bytes for a while: sealed, unusable, dated, approved by two.

    It makes *erasure* wait and nothing else. No row here can keep an expert in use.
    """

    id = identity()
    expert = models.ForeignKey(Expert, on_delete=models.PROTECT, related_name="holds")
    authority = models.CharField(max_length=200, help_text="who ordered it, with the file number")
    reason = models.TextField()
    until_at = models.DateTimeField()
    state = models.CharField(
        max_length=16, choices=HoldState.choices(), default=HoldState.REQUESTED
    )
    requested_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    requested_at = instant()
    decided_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_because = models.TextField(blank=True)

    objects: ClassVar[models.Manager[LegalHold]] = LegalHoldQuerySet.as_manager()

    class Meta:
        ordering = ("-requested_at",)
        constraints = [
            models.CheckConstraint(
                name="hold_requester_never_decides",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
            ),
            models.CheckConstraint(
                name="hold_requester_never_lifts",
                condition=Q(lifted_by__isnull=True) | ~Q(lifted_by=F("requested_by")),
            ),
            models.CheckConstraint(
                name="hold_in_force_was_decided_by_somebody",
                condition=Q(state=HoldState.REQUESTED, decided_by__isnull=True)
                | (~Q(state=HoldState.REQUESTED) & Q(decided_by__isnull=False)),
            ),
            models.CheckConstraint(
                name="hold_ends_after_it_was_asked_for",
                condition=Q(until_at__gt=F("requested_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"legal hold of {self.expert}"


class ClockPause(models.Model):
    """A clock that stands still from `at` on, with the reason why it may. Append-only.

    A later row with `lifts` set makes it run again; its deadline moves by the time between.
    """

    id = identity()
    clock = models.CharField(max_length=24, choices=Clock.choices())
    subject_id = models.UUIDField()
    reason = models.TextField()
    lifts = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="lifted_by"
    )
    paused_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    at = instant()

    class Meta:
        ordering = ("-at",)
        triggers = append_only("clock_pause")
        indexes = [models.Index(fields=["subject_id", "clock"])]

    def __str__(self) -> str:
        return f"pause of {self.clock} {self.subject_id}"
