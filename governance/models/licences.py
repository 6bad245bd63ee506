"""What may be done with whose data: corpora, licences, and the acts that end them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Self

import pgtrigger
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Cast

from governance.models.columns import append_only, identity, instant, sha256, words
from governance.models.owners import Account, DataOwner
from governance.vocabulary import Instrument, LicenceState, OnWithdrawal, PaymentType, QuotaPeriod


class Corpus(models.Model):
    """A body of closed data, described and never held: counts, languages, a commitment."""

    id = identity()
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="corpora")
    slug = models.SlugField(max_length=64, unique=True)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    source_licence = models.CharField(
        max_length=200, help_text="the licence the text itself is under, and whose it is"
    )
    languages = words()
    document_count = models.PositiveIntegerField(default=0)
    text_bytes = models.PositiveBigIntegerField(default=0)
    merkle_root = sha256(blank=True)
    described_at = instant()

    class Meta:
        ordering = ("title",)
        verbose_name_plural = "corpora"

    def __str__(self) -> str:
        return self.title


class LicenceQuerySet(models.QuerySet["Licence"]):
    """Licences by their standing at an instant."""

    def approved(self) -> Self:
        """Those a second person has approved."""
        return self.filter(state=LicenceState.APPROVED)

    def agreed(self) -> Self:
        """Approved, and countersigned by the owner where the licence waits for that."""
        return self.approved().exclude(needs_countersignature=True, countersignature__isnull=True)

    def in_force(self, at: datetime) -> Self:
        """Agreed, begun, not run out and not ended at `at`.

        An ending of only some purposes or consumers leaves it in force for the rest, and one with a
        wind-down for those who may go on.
        """
        ended = Ending.objects.filter(
            Q(wind_down_until=None) | Q(wind_down_until__lte=at),
            licence=models.OuterRef("pk"),
            effective_at__lte=at,
            lifts=None,
            purposes=None,
            consumers=None,
        ).exclude(lifted_by__effective_at__lte=at)
        return (
            self.agreed()
            .filter(starts_at__lte=at)
            .filter(Q(ends_at__isnull=True) | Q(ends_at__gt=at))
            .exclude(models.Exists(ended))
        )


class _Period(Func):
    """The half-open period a licence really fills, as a range PostgreSQL can compare.

    From `starts_at` to the earlier of `ends_at` and `stops_at`; empty where it stopped before it
    began, so that an ended exclusive licence makes room for the next.
    """

    function = "TSTZRANGE"
    template = (
        '%(function)s("starts_at", GREATEST("starts_at", LEAST('
        "COALESCE(\"ends_at\", 'infinity'), COALESCE(\"stops_at\", 'infinity'))), '[)')"
    )


_PERIOD = (_Period(), RangeOperators.OVERLAPS)
_CORPUS = ("corpus", RangeOperators.EQUAL)


TERM_FIELDS = (
    "uses",
    "prohibited_uses",
    "purposes",
    "prohibited_purposes",
    "consumers",
    "excluded_consumers",
    "recipient_classes",
    "sectors",
    "excluded_sectors",
    "territories",
    "excluded_territories",
    "starts_at",
    "ends_at",
    "is_exclusive",
    "expert_digest",
    "max_tokens",
    "max_answers",
    "quota_period",
    "max_extraction_rate",
    "payment_type",
    "rate_per_million_tokens",
    "minimum_per_period",
    "currency",
    "requires_attribution",
    "attribution_text",
    "duties",
    "notice_days",
    "wind_down_days",
    "on_withdrawal",
    "governing_law",
    "survival",
    "clauses",
    "contract_digest",
    "note",
)
"""The fields two people agree to; `terms_digest` is over these, and they are never updated."""


class Licence(models.Model):
    """One version of the terms for one corpus. Versions are superseded, never edited.

    `consumers`, `recipient_classes`, `sectors`, `territories`: null means any. `ends_at` is
    exclusive; null is open-ended. `max_tokens` and `max_answers` are counted over `quota_period`,
    null is without limit. `duties` lists what we must do (`action`, `within_days`, `about`);
    `clauses` maps a term's name to the clause of the signed contract it comes from, and
    `contract_digest` is the SHA-256 of that file, so that both are bound into `terms_digest`.
    `on_withdrawal` is what becomes of an answer under way when the expert is withdrawn from it.
    `stops_at` is when an act ended it, if one did; it is derived from `Ending`, which is what
    counts, and serves the exclusion constraints alone.
    """

    id = identity()
    reference = models.CharField(max_length=32, unique=True)
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="licences")
    uses = words()
    prohibited_uses = words()
    purposes = words()
    prohibited_purposes = words()
    consumers = words(null=True)
    excluded_consumers = words()
    recipient_classes = words(null=True)
    sectors = words(null=True)
    excluded_sectors = words()
    territories = words(null=True)
    excluded_territories = words()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    stops_at = models.DateTimeField(null=True, editable=False)
    is_exclusive = models.BooleanField(default=False)
    expert_digest = sha256(blank=True)
    max_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    max_answers = models.PositiveBigIntegerField(null=True, blank=True)
    quota_period = models.CharField(max_length=8, choices=QuotaPeriod.choices(), blank=True)
    max_extraction_rate = models.FloatField(
        default=0.01, help_text="upper bound of the audited extraction rate that may be served"
    )
    payment_type = models.CharField(
        max_length=16, choices=PaymentType.choices(), default=PaymentType.USE
    )
    rate_per_million_tokens = models.DecimalField(max_digits=12, decimal_places=4, default=0)
    minimum_per_period = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    currency = models.CharField(max_length=3, default="EUR")
    requires_attribution = models.BooleanField(default=False)
    attribution_text = models.CharField(max_length=300, blank=True)
    duties = models.JSONField(default=list, blank=True)
    notice_days = models.PositiveIntegerField(default=0)
    wind_down_days = models.PositiveIntegerField(default=0)
    on_withdrawal = models.CharField(
        max_length=16, choices=OnWithdrawal.choices(), default=OnWithdrawal.ABORT
    )
    governing_law = models.CharField(max_length=100, blank=True)
    survival = models.TextField(blank=True, help_text="what outlasts the licence")
    clauses = models.JSONField(default=dict, blank=True)
    contract_digest = sha256(blank=True)
    note = models.TextField(blank=True)
    terms_digest = sha256()
    state = models.CharField(
        max_length=16, choices=LicenceState.choices(), default=LicenceState.REQUESTED
    )
    supersedes = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="successors"
    )
    requested_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    requested_at = instant()
    decided_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True, blank=True
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_note = models.TextField(blank=True)
    needs_countersignature = models.BooleanField(
        default=False, help_text="whether it stays out of force until the owner has countersigned"
    )

    objects: ClassVar[models.Manager[Licence]] = LicenceQuerySet.as_manager()

    class Meta:
        ordering = ("-requested_at",)
        triggers = [
            pgtrigger.Protect(
                name="licence_terms_never_updated",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(
                    *TERM_FIELDS, "corpus", "terms_digest", "needs_countersignature"
                ),
            ),
            pgtrigger.Trigger(
                name="licence_contract_read_before_approval",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "NEW.state = 'approved' AND OLD.state <> 'approved' "
                    "AND NEW.contract_digest <> ''"
                ),
                func="""
                    IF NOT COALESCE((
                        SELECT r.is_match FROM governance_contractreading r
                        WHERE r.licence_id = NEW.id AND r.terms_digest = NEW.terms_digest
                          AND r.contract_digest = NEW.contract_digest
                        ORDER BY r.read_at DESC, r.id DESC LIMIT 1
                    ), FALSE) THEN
                        RAISE EXCEPTION 'licence_contract_read_before_approval'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="licence_ends_after_it_starts",
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=F("starts_at")),
            ),
            models.CheckConstraint(
                name="licence_requester_never_decides",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("requested_by")),
            ),
            models.CheckConstraint(
                name="licence_decided_with_name_and_time",
                condition=Q(
                    state=LicenceState.REQUESTED, decided_by__isnull=True, decided_at__isnull=True
                )
                | (
                    ~Q(state=LicenceState.REQUESTED)
                    & Q(decided_by__isnull=False, decided_at__isnull=False)
                ),
            ),
            models.CheckConstraint(
                name="licence_money_not_negative",
                condition=Q(rate_per_million_tokens__gte=0, minimum_per_period__gte=0),
            ),
            models.CheckConstraint(
                name="licence_quota_says_its_period",
                condition=Q(max_tokens__isnull=True, max_answers__isnull=True)
                | ~Q(quota_period=""),
            ),
            models.CheckConstraint(
                name="licence_extraction_rate_is_a_share",
                condition=Q(max_extraction_rate__gte=0, max_extraction_rate__lte=1),
            ),
            models.UniqueConstraint(
                name="licence_superseded_once",
                fields=["supersedes"],
                condition=~Q(state=LicenceState.REJECTED),
            ),
            ExclusionConstraint(
                name="licence_exclusive_ones_never_overlap",
                expressions=[_CORPUS, _PERIOD],
                condition=Q(state=LicenceState.APPROVED, is_exclusive=True),
            ),
            ExclusionConstraint(
                name="licence_none_beside_an_exclusive_one",
                expressions=[
                    _CORPUS,
                    _PERIOD,
                    (Cast("is_exclusive", models.IntegerField()), RangeOperators.NOT_EQUAL),
                ],
                condition=Q(state=LicenceState.APPROVED),
            ),
        ]

    def __str__(self) -> str:
        return self.reference


class Ending(models.Model):
    """A legal act that ends or pauses use of an expert or of a licence. Append-only.

    Exactly one of `licence` and `expert` is named. `purposes` and `consumers` narrow its scope;
    null is all. It disables from `effective_at` on; `erases` says whether bytes go as well. A
    suspension is lifted by a later row with `lifts` set, never by deleting this one.
    """

    id = identity()
    instrument = models.CharField(max_length=16, choices=Instrument.choices())
    licence = models.ForeignKey(
        Licence, on_delete=models.PROTECT, related_name="endings", null=True, blank=True
    )
    expert = models.ForeignKey(
        "governance.Expert", on_delete=models.PROTECT, related_name="endings", null=True, blank=True
    )
    lifts = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="lifted_by"
    )
    purposes = words(null=True)
    consumers = words(null=True)
    erases = models.BooleanField(
        default=False, help_text="whether bytes are destroyed; to disable is not to erase"
    )
    wind_down_until = models.DateTimeField(
        null=True, blank=True, help_text="until when those of wind_down_consumers may go on"
    )
    wind_down_consumers = words()
    reason = models.TextField(blank=True)
    authority = models.CharField(
        max_length=200, blank=True, help_text="the authority or court that voided it"
    )
    authority_reference = models.CharField(max_length=100, blank=True, help_text="its file number")
    authority_url = models.CharField(max_length=500, blank=True)
    ended_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    effective_at = models.DateTimeField()
    recorded_at = instant()

    class Meta:
        ordering = ("-recorded_at",)
        triggers = append_only("ending")
        constraints = [
            models.CheckConstraint(
                name="ending_names_one_target",
                condition=Q(licence__isnull=False, expert__isnull=True)
                | Q(licence__isnull=True, expert__isnull=False),
            ),
            models.CheckConstraint(
                name="ending_narrowed_never_erases",
                condition=Q(erases=False) | Q(purposes__isnull=True, consumers__isnull=True),
            ),
            models.CheckConstraint(
                name="ending_by_an_authority_invalidates",
                condition=Q(authority="", authority_reference="", authority_url="")
                | (Q(instrument=Instrument.INVALIDATE) & ~Q(authority="")),
            ),
            models.CheckConstraint(
                name="ending_wind_down_follows_its_effect",
                condition=Q(wind_down_until__isnull=True)
                | Q(wind_down_until__gt=F("effective_at"), instrument=Instrument.TERMINATE),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.instrument} of {self.expert or self.licence}"
