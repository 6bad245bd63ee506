"""Tables of the tamper-evident log: staged events, sealed leaves, signed checkpoints."""

from __future__ import annotations

from django.db import models

from governance.models.columns import append_only, instant


class StagedEvent(models.Model):
    """An event waiting to be sealed, written in the transaction of the act it tells of.

    `body` is the exact canonical JSON that becomes the leaf; it is never serialised again.
    """

    id = models.BigAutoField(primary_key=True)
    body = models.BinaryField()
    staged_at = instant()

    def __str__(self) -> str:
        return f"staged event {self.pk}"


class LogLeaf(models.Model):
    """One sealed event. `seq` is contiguous from 0: the sequencer gives it out. Append-only."""

    seq = models.PositiveBigIntegerField(primary_key=True)
    body = models.BinaryField()
    leaf_hash = models.BinaryField(max_length=32)
    staged_at = models.DateTimeField()
    sealed_at = instant()

    class Meta:
        ordering = ("seq",)
        triggers = append_only("log_leaf")

    def __str__(self) -> str:
        return f"leaf {self.seq}"


class LogCheckpoint(models.Model):
    """A signed tree head (C2SP tlog-checkpoint in a signed note). Append-only."""

    size = models.PositiveBigIntegerField(primary_key=True)
    root_hash = models.BinaryField(max_length=32)
    note = models.TextField()
    sealed_at = instant()

    class Meta:
        ordering = ("-size",)
        triggers = append_only("log_checkpoint")

    def __str__(self) -> str:
        return f"checkpoint at {self.size}"
