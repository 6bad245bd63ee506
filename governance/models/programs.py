"""What lets a person's programs ask over REST: personal keys, and answers kept for repeats."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from governance.models.columns import identity, instant, sha256
from governance.models.owners import Account


class PersonalKey(models.Model):
    """A person's credential for programs, with no more rights than the person and an end.

    Only a keyed digest is kept; the secret is shown once.
    """

    id = identity()
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="personal_keys")
    label = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    secret_digest = models.CharField(max_length=64)
    may_write = models.BooleanField(default=False)
    issued_at = instant()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-issued_at",)
        constraints = [
            models.CheckConstraint(
                name="personal_key_ends_after_it_begins",
                condition=Q(expires_at__gt=F("issued_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.label})"


class KeptAnswer(models.Model):
    """The answer to a change that carried an Idempotency-Key, written in the change's transaction.

    `body` is null where the answer held a secret: that is shown once and kept nowhere.
    """

    id = identity()
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    request_digest = sha256()
    status = models.PositiveSmallIntegerField()
    body = models.BinaryField(null=True)
    content_type = models.CharField(max_length=100, blank=True)
    made_at = instant()

    class Meta:
        ordering = ("-made_at",)
        constraints = [
            models.UniqueConstraint(
                name="kept_answer_once_an_account_and_key", fields=["account", "key"]
            ),
        ]

    def __str__(self) -> str:
        return f"answer {self.status} to {self.key}"
