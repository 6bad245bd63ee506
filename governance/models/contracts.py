"""What makes a licence more than a row: the signed file read by a second person, the owner's
countersignature, and the templates that terms start from."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from governance.models.columns import append_only, identity, instant, sha256
from governance.models.licences import Licence
from governance.models.owners import Account, DataOwner


class ContractReading(models.Model):
    """A second person held the signed file against the terms. Append-only; the newest counts.

    The database refuses a reader who requested the licence or handed in the file, and a reading of
    another file or of other terms than the licence's.
    """

    id = identity()
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, related_name="readings")
    terms_digest = sha256()
    contract_digest = sha256()
    is_match = models.BooleanField(help_text="whether the file says what the terms say")
    reader = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    note = models.TextField(blank=True)
    read_at = instant()

    class Meta:
        ordering = ("-read_at",)
        triggers = [
            *append_only("contract_reading"),
            pgtrigger.Trigger(
                name="contract_reading_takes_four_eyes",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func="""
                    IF NOT EXISTS (
                        SELECT 1 FROM governance_licence l
                        JOIN governance_document d ON d.digest = l.contract_digest
                        WHERE l.id = NEW.licence_id
                          AND l.terms_digest = NEW.terms_digest
                          AND l.contract_digest = NEW.contract_digest
                          AND l.requested_by_id <> NEW.reader_id
                          AND d.stored_by_id IS DISTINCT FROM NEW.reader_id
                    ) THEN
                        RAISE EXCEPTION 'contract_reading_takes_four_eyes'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="contract_reading_says_what_differs",
                condition=Q(is_match=True) | ~Q(note=""),
            ),
        ]

    def __str__(self) -> str:
        return f"reading of {self.licence} by {self.reader}"


class Countersignature(models.Model):
    """The owner's own yes to the terms of one licence version. Append-only, once a licence.

    The database refuses it to who requested or approved the licence on our side.
    """

    id = identity()
    licence = models.OneToOneField(
        Licence, on_delete=models.PROTECT, related_name="countersignature"
    )
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="+")
    terms_digest = sha256()
    signed_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    method = models.CharField(max_length=64)
    signed_at = instant()

    class Meta:
        ordering = ("-signed_at",)
        triggers = [
            *append_only("countersignature"),
            pgtrigger.Trigger(
                name="countersignature_is_the_owners",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func="""
                    IF NOT EXISTS (
                        SELECT 1 FROM governance_licence l
                        JOIN governance_corpus c ON c.id = l.corpus_id
                        WHERE l.id = NEW.licence_id
                          AND c.owner_id = NEW.owner_id
                          AND l.terms_digest = NEW.terms_digest
                          AND l.state = 'approved'
                          AND NEW.signed_by_id NOT IN (l.requested_by_id, l.decided_by_id)
                    ) THEN
                        RAISE EXCEPTION 'countersignature_is_the_owners'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"countersignature of {self.licence}"


class LicenceTemplate(models.Model):
    """Terms to start from, in versions. Append-only; the highest version of a name counts.

    `terms` holds fields of `Terms` as JSON, without a period: a template says what, never when.
    """

    id = identity()
    name = models.SlugField(max_length=64)
    version = models.PositiveIntegerField(default=1)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    terms = models.JSONField(default=dict)
    saved_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    saved_at = instant()

    class Meta:
        ordering = ("title", "-version")
        triggers = append_only("licence_template")
        constraints = [
            models.UniqueConstraint(name="licence_template_once", fields=["name", "version"]),
        ]

    def __str__(self) -> str:
        return f"{self.title} (version {self.version})"
