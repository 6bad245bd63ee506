"""What was withdrawn and erased, kept only so that it is never admitted again."""

from __future__ import annotations

from django.db import models

from governance.models.columns import append_only, hex_digest, instant
from governance.models.owners import Account
from governance.vocabulary import SuppressedKind


class Suppression(models.Model):
    """A keyed hash of something erased. Without the key nobody can tell what it was of.

    Append-only: what lifts one is a row of its own, an owner's deliberate act.
    """

    keyed_hash = models.CharField(primary_key=True, max_length=64, validators=[hex_digest])
    kind = models.CharField(max_length=16, choices=SuppressedKind.choices())
    since_at = instant()

    class Meta:
        ordering = ("-since_at",)
        triggers = append_only("suppression")

    def __str__(self) -> str:
        return f"{self.kind} {self.keyed_hash[:12]}…"


class SuppressionLift(models.Model):
    """The owner's word that something suppressed may be offered anew. Append-only."""

    suppression = models.OneToOneField(
        Suppression, on_delete=models.PROTECT, related_name="lift", primary_key=True
    )
    reason = models.TextField(blank=True)
    by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    at = instant()

    class Meta:
        ordering = ("-at",)
        triggers = append_only("suppression_lift")

    def __str__(self) -> str:
        return f"{self.suppression} lifted"
