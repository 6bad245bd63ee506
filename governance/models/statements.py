"""Accounts given to owners: issued once a month, never changed, open to dispute."""

from __future__ import annotations

from django.db import models

from governance.models.columns import append_only, identity, instant, sha256
from governance.models.owners import Account, DataOwner
from governance.vocabulary import RemarkKind


class Statement(models.Model):
    """An owner's account of one calendar month in UTC, as it was issued. Append-only.

    `body` has the lines and totals; `digest` is the SHA-256 of its canonical JSON and `rows_digest`
    that of the exported rows it was computed from, as JSON lines.
    """

    id = identity()
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="statements")
    month = models.DateField(help_text="the first day of the month")
    body = models.JSONField()
    digest = sha256()
    rows_digest = sha256()
    row_count = models.PositiveIntegerField()
    issued_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    issued_at = instant()

    class Meta:
        ordering = ("-month", "owner")
        triggers = append_only("statement")
        constraints = [
            models.UniqueConstraint(name="statement_once_a_month", fields=["owner", "month"]),
            models.CheckConstraint(
                name="statement_month_begins_on_its_first",
                condition=models.Q(month__day=1),
            ),
        ]

    def __str__(self) -> str:
        return f"statement of {self.owner} for {self.month:%B %Y}"

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        return f"{self.owner.slug}-{self.month:%Y-%m}"


class StatementRemark(models.Model):
    """What an owner objects to in a statement, and what staff answered. Append-only."""

    id = identity()
    statement = models.ForeignKey(Statement, on_delete=models.PROTECT, related_name="remarks")
    kind = models.CharField(max_length=16, choices=RemarkKind.choices())
    text = models.TextField()
    written_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    written_at = instant()

    class Meta:
        ordering = ("written_at",)
        triggers = append_only("statement_remark")
        constraints = [
            models.CheckConstraint(
                name="statement_remark_says_something", condition=~models.Q(text="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.statement}"
