"""What must follow an act, written before the deed; and the certificates that close one."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from governance.models.columns import append_only, identity, instant, sha256
from governance.models.enforcement import Withdrawal
from governance.vocabulary import CertificateStage, FollowUpKind, FollowUpState


class FollowUp(models.Model):
    """A duty to act, its progress, and the evidence that it was done.

    A worker claims it until `claimed_until` and renews the claim while it works; when the worker
    dies the claim runs out and another takes it up. `after` must be done first. `order` holds what
    the courier needs (paths, recipe, names) and nothing personal.
    """

    id = identity()
    kind = models.CharField(max_length=16, choices=FollowUpKind.choices())
    subject_kind = models.CharField(max_length=32)
    subject_id = models.UUIDField()
    cause = models.CharField(max_length=200, help_text="the act this follows, for people")
    order = models.JSONField(default=dict)
    after = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="followed_by"
    )
    state = models.CharField(
        max_length=16, choices=FollowUpState.choices(), default=FollowUpState.DUE
    )
    opened_at = instant()
    due_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)
    claimed_by = models.CharField(max_length=100, blank=True)
    claimed_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField(default=5)
    last_error = models.TextField(blank=True)
    progress_done = models.PositiveBigIntegerField(default=0)
    progress_total = models.PositiveBigIntegerField(default=0)
    progress_note = models.CharField(max_length=200, blank=True)
    progress_metrics = models.JSONField(default=dict)
    progress_at = models.DateTimeField(null=True)
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering = ("-opened_at",)
        constraints = [
            models.CheckConstraint(
                name="follow_up_done_has_an_end",
                condition=~Q(state=FollowUpState.DONE) | Q(ended_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["state", "due_at"]),
            models.Index(fields=["subject_kind", "subject_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject_kind} {self.subject_id}"


class Certificate(models.Model):
    """One signed statement about a withdrawal. Append-only; `envelope` is the exact DSSE JSON."""

    id = identity()
    withdrawal = models.ForeignKey(
        Withdrawal, on_delete=models.PROTECT, related_name="certificates"
    )
    stage = models.CharField(max_length=16, choices=CertificateStage.choices())
    envelope = models.TextField()
    digest = sha256()
    leaf_index = models.PositiveBigIntegerField(null=True)
    issued_at = instant()

    class Meta:
        ordering = ("issued_at",)
        triggers = append_only("certificate")
        constraints = [
            models.UniqueConstraint(name="certificate_one_a_stage", fields=["withdrawal", "stage"]),
        ]

    def __str__(self) -> str:
        return f"{self.stage} certificate of {self.withdrawal}"
