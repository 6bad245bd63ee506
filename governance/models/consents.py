"""Consent: the record of what an owner agreed to, and the events that changed it.

Fields follow ISO/IEC TS 27560:2023 (consent records and receipts) as read by the W3C DPV guide.
"""

from __future__ import annotations

from django.db import models

from governance.models.columns import append_only, identity, instant, sha256, words
from governance.models.licences import Licence
from governance.models.owners import Account, DataOwner
from governance.vocabulary import ConsentEventKind


class ConsentRecord(models.Model):
    """One consent: to what, for which purposes, under which notice. Append-only."""

    id = identity()
    schema_version = models.CharField(max_length=64, default="ISO/IEC TS 27560:2023")
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="consents")
    expert = models.ForeignKey(
        "governance.Expert", on_delete=models.PROTECT, related_name="consents"
    )
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, related_name="consents")
    controller = models.CharField(max_length=200)
    purposes = words()
    processing = words()
    lawful_basis = models.CharField(max_length=64, default="contract")
    jurisdiction = models.CharField(max_length=2)
    notice_language = models.CharField(max_length=8, default="en")
    notice_digest = sha256()
    withdrawal_method = models.CharField(max_length=200)
    created_at = instant()

    class Meta:
        ordering = ("-created_at",)
        triggers = append_only("consent_record")

    def __str__(self) -> str:
        return f"consent of {self.owner} for {self.expert}"


class ConsentEvent(models.Model):
    """Something that happened to a consent record. Append-only; the newest one stands."""

    id = identity()
    record = models.ForeignKey(ConsentRecord, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=16, choices=ConsentEventKind.choices())
    actor = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    method = models.CharField(max_length=64, help_text="where and how: owner page, API, letter")
    reason = models.TextField(blank=True)
    at = instant()

    class Meta:
        ordering = ("at",)
        triggers = append_only("consent_event")

    def __str__(self) -> str:
        return f"{self.record}: {self.kind}"
