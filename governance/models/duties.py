"""What licences oblige us to do, tracked until it is proved done."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from governance.models.columns import identity, instant
from governance.models.documents import Document
from governance.models.experts import Expert
from governance.models.licences import Licence
from governance.models.owners import Account, DataOwner
from governance.vocabulary import DutyAction


class Duty(models.Model):
    """One thing owed to an owner. Overdue is no state: it is `due_at` in the past, undone.

    `key` names the event that opened it and the term it rests on, so that looking again opens
    nothing twice. What was marked as done is never unmarked or reworded.
    """

    id = identity()
    key = models.CharField(max_length=120, unique=True, editable=False)
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="duties")
    licence = models.ForeignKey(
        Licence, on_delete=models.PROTECT, related_name="tracked_duties", null=True, blank=True
    )
    expert = models.ForeignKey(
        Expert, on_delete=models.PROTECT, related_name="duties", null=True, blank=True
    )
    action = models.CharField(max_length=16, choices=DutyAction.choices())
    about = models.CharField(max_length=300)
    cause = models.CharField(max_length=200)
    opened_at = instant()
    due_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True, blank=True)
    done_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    proof = models.TextField(blank=True)
    proof_document = models.ForeignKey(
        Document, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )

    class Meta:
        ordering = ("due_at", "key")
        verbose_name_plural = "duties"
        triggers = [
            pgtrigger.Protect(
                name="duty_done_never_undone",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__done_at__isnull=False),
            ),
            pgtrigger.Protect(
                name="duty_terms_never_changed",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(
                    "key", "owner", "licence", "expert", "action", "about", "due_at"
                ),
            ),
            pgtrigger.Protect(name="duty_row_kept", operation=pgtrigger.Delete),
        ]
        constraints = [
            models.CheckConstraint(
                name="duty_rests_on_something",
                condition=Q(licence__isnull=False) | Q(expert__isnull=False),
            ),
            models.CheckConstraint(
                name="duty_done_with_proof",
                condition=Q(done_at__isnull=True, proof="", proof_document__isnull=True)
                | (Q(done_at__isnull=False) & (~Q(proof="") | Q(proof_document__isnull=False))),
            ),
        ]
        indexes = [
            models.Index(name="duty_undone", fields=["due_at"], condition=Q(done_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.action}: {self.about}"
