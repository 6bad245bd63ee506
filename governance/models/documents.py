"""Files people hand in as evidence: signed contracts, attachments, proofs of authority."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models.columns import append_only, hex_digest, instant
from governance.models.owners import Account

MAX_BYTES = 20 * 1024 * 1024


class Document(models.Model):
    """One file, named by its content. Append-only; kept in the database with what refers to it."""

    digest = models.CharField(primary_key=True, max_length=64, validators=[hex_digest])
    name = models.CharField(max_length=200)
    media_type = models.CharField(max_length=100)
    size_bytes = models.PositiveIntegerField()
    content = models.BinaryField()
    stored_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    stored_at = instant()

    class Meta:
        ordering = ("-stored_at",)
        triggers = append_only("document")
        constraints = [
            models.CheckConstraint(
                name="document_size_is_bounded",
                condition=Q(size_bytes__gt=0, size_bytes__lte=MAX_BYTES),
            ),
        ]

    def __str__(self) -> str:
        return self.name
