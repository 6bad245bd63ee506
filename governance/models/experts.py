"""What was trained: anchors, experts and their revisions, findings about them, and builds."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from governance.models.columns import append_only, identity, instant, sha256
from governance.models.licences import Corpus
from governance.models.owners import Account, DataOwner
from governance.vocabulary import (
    PUBLIC_EXPERT,
    BuildState,
    ExpertState,
    RevisionState,
    Verdict,
)

_ENDED = [ExpertState.WITHDRAWN.value, ExpertState.ERASED.value]


class Anchor(models.Model):
    """The public base every expert is trained beside. `digest` is of its manifest."""

    id = identity()
    digest = sha256(unique=True)
    title = models.CharField(max_length=200)
    parameter_count = models.PositiveBigIntegerField(default=0)
    registered_at = instant()

    class Meta:
        ordering = ("-registered_at",)

    def __str__(self) -> str:
        return f"{self.title} ({self.digest[:12]})"


class Expert(models.Model):
    """A named place in the model for what one owner's corpus teaches."""

    id = identity()
    name = models.SlugField(max_length=64, unique=True)
    title = models.CharField(max_length=200)
    owner = models.ForeignKey(DataOwner, on_delete=models.PROTECT, related_name="experts")
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="experts")
    state = models.CharField(
        max_length=16, choices=ExpertState.choices(), default=ExpertState.PROPOSED
    )
    proposed_at = instant()

    class Meta:
        ordering = ("name",)
        triggers = [
            pgtrigger.Protect(
                name="expert_withdrawn_never_returns",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__in=_ENDED) & ~pgtrigger.Q(new__state__in=_ENDED),
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="expert_name_is_not_public", condition=~Q(name=PUBLIC_EXPERT)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ExpertRevision(models.Model):
    """One contribution to an expert: weights by digest, with what was found about them.

    `digest` is of the expert manifest, which binds the weights file. Activation takes four eyes.
    """

    id = identity()
    expert = models.ForeignKey(Expert, on_delete=models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    digest = sha256()
    weights_digest = sha256(blank=True)
    anchor = models.ForeignKey(Anchor, on_delete=models.PROTECT, related_name="revisions")
    size_bytes = models.PositiveBigIntegerField(default=0)
    state = models.CharField(
        max_length=24, choices=RevisionState.choices(), default=RevisionState.SUBMITTED
    )
    gate_report = models.JSONField(default=dict)
    submitted_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    submitted_at = instant()
    activation_requested_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True
    )
    activation_decided_by = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="+", null=True
    )
    activation_decided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("expert", "-number")
        constraints = [
            models.UniqueConstraint(name="revision_number_once", fields=["expert", "number"]),
            models.UniqueConstraint(name="revision_digest_once", fields=["expert", "digest"]),
            models.UniqueConstraint(
                name="revision_one_activated_an_expert",
                fields=["expert"],
                condition=Q(state=RevisionState.ACTIVATED),
            ),
            models.CheckConstraint(
                name="revision_requester_never_activates",
                condition=Q(activation_decided_by__isnull=True)
                | ~Q(activation_decided_by=F("activation_requested_by")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.expert} r{self.number}"


class Finding(models.Model):
    """What an audit found about one revision. Append-only; an audit is run again, not edited.

    Rates are shares in [0, 1] with a two-sided 95 % interval; `report` holds the whole result.
    """

    id = identity()
    revision = models.ForeignKey(ExpertRevision, on_delete=models.PROTECT, related_name="findings")
    audit = models.CharField(max_length=32, default="extraction")
    verdict = models.CharField(max_length=8, choices=Verdict.choices())
    rate = models.FloatField()
    rate_low = models.FloatField()
    rate_high = models.FloatField()
    threshold = models.FloatField()
    seed = models.BigIntegerField()
    report = models.JSONField(default=dict)
    found_at = instant()

    class Meta:
        ordering = ("-found_at",)
        triggers = append_only("finding")
        constraints = [
            models.CheckConstraint(
                name="finding_rate_inside_its_interval",
                condition=Q(rate_low__lte=F("rate"), rate_high__gte=F("rate")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.audit} of {self.revision}: {self.verdict}"


class Build(models.Model):
    """One merged whole: an anchor and experts by name and digest.

    `experts` is a list of `{"name", "digest"}` sorted by name; the public expert is implied.
    `proof` holds what showed that it is what it claims (masked = rebuilt, absence).
    """

    id = identity()
    number = models.PositiveIntegerField(unique=True)
    digest = sha256(blank=True)
    anchor = models.ForeignKey(Anchor, on_delete=models.PROTECT, related_name="builds")
    experts = models.JSONField(default=list)
    top_k = models.PositiveIntegerField()
    is_router_tuned = models.BooleanField(default=False)
    state = models.CharField(
        max_length=16, choices=BuildState.choices(), default=BuildState.PLANNED
    )
    export_path = models.CharField(max_length=500, blank=True)
    export_files = models.JSONField(default=dict, help_text="file name to SHA-256")
    proof = models.JSONField(default=dict)
    reason = models.CharField(max_length=200, blank=True)
    withdrawal = models.ForeignKey(
        "governance.Withdrawal",
        on_delete=models.PROTECT,
        related_name="builds",
        null=True,
        blank=True,
        help_text="the withdrawal this build answers, if any",
    )
    planned_at = instant()
    assembled_at = models.DateTimeField(null=True)
    promoted_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-number",)
        triggers = [
            pgtrigger.Protect(
                name="build_content_never_updated",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange("anchor", "experts", "is_router_tuned"),
            ),
            pgtrigger.Protect(
                name="build_tombstoned_never_returns",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state=BuildState.TOMBSTONED.value)
                & ~pgtrigger.Q(new__state=BuildState.TOMBSTONED.value),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                name="build_one_promoted",
                fields=["state"],
                condition=Q(state=BuildState.PROMOTED),
            ),
            models.CheckConstraint(
                name="build_router_tuned_never_answers_withdrawal",
                condition=Q(withdrawal__isnull=True) | Q(is_router_tuned=False),
            ),
        ]

    def __str__(self) -> str:
        return f"build {self.number}"


class HandOut(models.Model):
    """A copy of a build's files that was given to somebody outside. Append-only."""

    id = identity()
    build = models.ForeignKey(Build, on_delete=models.PROTECT, related_name="hand_outs")
    recipient = models.CharField(max_length=200)
    by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    at = instant()

    class Meta:
        ordering = ("-at",)
        triggers = append_only("hand_out")

    def __str__(self) -> str:
        return f"{self.build} to {self.recipient}"
