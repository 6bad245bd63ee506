"""Consent: the record of what an owner agreed to, and the events that changed it.

Fields follow ISO/IEC TS 27560:2023 (consent records and receipts) as read by the W3C DPV guide.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from governance.models.columns import append_only, identity, instant, sha256, words
from governance.models.licences import Licence
from governance.models.owners import Account, DataOwner
from governance.vocabulary import ConsentEventKind, ConsentType, LawfulBasis, Use


class ConsentRecord(models.Model):
    """One consent: to what, for which purposes, under which notice. Append-only.

    `parties` holds whoever plays a part, as ISO/IEC TS 27560 lists a party: party_id, party_name,
    party_role, party_type, party_address, party_contact, party_email, party_url. `recipients`
    names them by role. `record_digest` seals the record, and `previous_digest` the one before it
    of the same owner.
    """

    id = identity()
    schema_version = models.CharField(max_length=64, default="ISO/IEC TS 27560:2023")
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="consents")
    expert = models.ForeignKey(
        "governance.Expert", on_delete=models.PROTECT, related_name="consents"
    )
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, related_name="consents")
    controller = models.CharField(max_length=200)
    parties = models.JSONField(default=list)
    purposes = words()
    processing = words()
    data_categories = words()
    lawful_basis = models.CharField(
        max_length=64, choices=LawfulBasis.choices(), default=LawfulBasis.CONTRACT
    )
    collection_method = models.CharField(max_length=200, blank=True)
    storage_locations = words()
    retention_period = models.CharField(max_length=200, blank=True)
    processing_locations = words()
    geographic_restrictions = words()
    service = models.CharField(max_length=200, blank=True)
    jurisdiction = models.CharField(max_length=2)
    recipients = models.JSONField(default=list)
    notice_language = models.CharField(max_length=8, default="en")
    notice_version = models.CharField(max_length=64, blank=True)
    notice_url = models.CharField(max_length=300, blank=True)
    notice_text = models.TextField(blank=True)
    notice_digest = sha256()
    withdrawal_method = models.CharField(max_length=300)
    privacy_rights = words()
    record_digest = sha256(blank=True)
    previous_digest = sha256(blank=True)
    created_at = instant()

    class Meta:
        ordering = ("-created_at",)
        triggers = append_only("consent_record")

    def __str__(self) -> str:
        return f"consent of {self.owner} for {self.expert}"


class ConsentEvent(models.Model):
    """Something that happened to a consent record. Append-only; the newest one stands.

    `valid_until` is the validity duration's end; null: until the next event. `entity` is who acted,
    as `owner:<slug>`, `controller` or `authority`; empty: whoever `actor` speaks for.
    """

    id = identity()
    record = models.ForeignKey(ConsentRecord, on_delete=models.PROTECT, related_name="events")
    kind = models.CharField(max_length=16, choices=ConsentEventKind.choices())
    consent_type = models.CharField(
        max_length=16, choices=ConsentType.choices(), default=ConsentType.EXPLICIT
    )
    actor = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    entity = models.CharField(max_length=100, blank=True)
    method = models.CharField(max_length=64, help_text="where and how: owner page, API, letter")
    reason = models.TextField(blank=True)
    valid_until = models.DateTimeField(null=True, blank=True)
    at = instant()

    class Meta:
        ordering = ("at",)
        triggers = append_only("consent_event")
        constraints = [
            models.CheckConstraint(
                name="consent_event_kind_is_known",
                condition=Q(kind__in=list(ConsentEventKind)),
            ),
            models.CheckConstraint(
                name="consent_event_type_is_known",
                condition=Q(consent_type__in=list(ConsentType)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.record}: {self.kind}"


class ConsentReceipt(models.Model):
    """A signed receipt as it was handed over: its exact bytes. Append-only."""

    id = identity()
    record = models.ForeignKey(ConsentRecord, on_delete=models.PROTECT, related_name="receipts")
    event = models.OneToOneField(ConsentEvent, on_delete=models.PROTECT, related_name="receipt")
    envelope = models.TextField(help_text="DSSE envelope, canonical JSON")
    digest = sha256()
    issued_at = instant()

    class Meta:
        ordering = ("-issued_at",)
        triggers = append_only("consent_receipt")

    def __str__(self) -> str:
        return f"receipt of {self.record}"


class ProcessingActivity(models.Model):
    """Why an activity on an expert is lawful, from an instant on. The newest row stands."""

    id = identity()
    expert = models.ForeignKey(
        "governance.Expert", on_delete=models.PROTECT, related_name="activities"
    )
    activity = models.CharField(max_length=16, choices=Use.choices())
    lawful_basis = models.CharField(max_length=24, choices=LawfulBasis.choices())
    licence = models.ForeignKey(
        Licence, on_delete=models.PROTECT, related_name="activities", null=True, blank=True
    )
    justification = models.TextField(blank=True)
    recorded_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    recorded_at = instant()

    class Meta:
        ordering = ("expert", "activity", "-recorded_at")
        triggers = append_only("processing_activity")
        constraints = [
            models.CheckConstraint(
                name="activity_basis_is_known", condition=Q(lawful_basis__in=list(LawfulBasis))
            ),
            models.CheckConstraint(
                name="activity_on_contract_names_its_licence",
                condition=~Q(lawful_basis=LawfulBasis.CONTRACT) | Q(licence__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.expert}: {self.activity}"
