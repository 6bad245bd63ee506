"""What makes a decision bite: snapshots, runner leases, fences and withdrawals."""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.json import KT

from governance.models.columns import append_only, identity, instant, sha256, words
from governance.models.experts import Build, Expert
from governance.models.licences import Ending
from governance.vocabulary import Instrument, QuiescedBy


class PolicySnapshot(models.Model):
    """The compiled policy of one policy epoch, content-addressed. Append-only.

    `history` names the server's history it was published in (see `governance.services.leases`).
    """

    policy_epoch = models.PositiveBigIntegerField(primary_key=True)
    digest = sha256()
    body = models.JSONField()
    build = models.ForeignKey(Build, on_delete=models.PROTECT, null=True, related_name="+")
    reason = models.CharField(max_length=200)
    history = models.CharField(max_length=40, blank=True)
    published_at = instant()

    class Meta:
        ordering = ("-policy_epoch",)
        triggers = append_only("policy_snapshot")

    def __str__(self) -> str:
        return f"policy epoch {self.policy_epoch}"


class WholeHistory(models.Model):
    """A history of the server in which the longest lease there may be has passed. Append-only.

    Whatever leases an earlier one had granted have run out: those in force have their rows here.
    """

    history = models.CharField(max_length=40, primary_key=True)
    noted_at = instant()

    class Meta:
        triggers = append_only("whole_history")

    def __str__(self) -> str:
        return self.history


class RunnerLease(models.Model):
    """One life of one runner. `applied_epoch` is what it has swapped in, never what it fetched."""

    incarnation = identity()
    runner = models.CharField(max_length=100)
    applied_epoch = models.PositiveBigIntegerField()
    granted_at = models.DateTimeField()
    renewed_at = models.DateTimeField()
    acked_at = models.DateTimeField(null=True)
    lease_s = models.FloatField()
    started_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    gw_seq = models.PositiveBigIntegerField(default=0)
    loaded = models.JSONField(default=list, help_text="experts in memory, as name and digest")
    loaded_build = models.ForeignKey(Build, on_delete=models.PROTECT, null=True, related_name="+")
    stats = models.JSONField(default=dict)

    class Meta:
        ordering = ("runner", "-started_at")
        triggers = [
            pgtrigger.Protect(
                name="lease_epoch_never_decreases",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(new__applied_epoch__lt=pgtrigger.F("old__applied_epoch")),
            ),
            pgtrigger.Protect(
                name="lease_closed_never_reopened",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__closed_at__isnull=False, new__closed_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.runner} {str(self.incarnation)[:8]}"


class Withdrawal(models.Model):
    """One expert taken back: when it was committed, when it was true everywhere, and how we know.

    `settled` lists every incarnation with how it was settled: acked, expired or closed. `history`
    names the server's history in which it was.
    """

    id = identity()
    expert = models.OneToOneField(Expert, on_delete=models.PROTECT, related_name="withdrawal")
    ending = models.OneToOneField(Ending, on_delete=models.PROTECT, related_name="withdrawal")
    instrument = models.CharField(max_length=16, choices=Instrument.choices())
    policy_epoch = models.PositiveBigIntegerField()
    committed_at = models.DateTimeField()
    quiesced_at = models.DateTimeField(null=True)
    quiesced_by = models.CharField(max_length=8, choices=QuiescedBy.choices(), blank=True)
    lease_s = models.FloatField()
    settled = models.JSONField(default=list)
    history = models.CharField(max_length=40, blank=True)
    erased_at = models.DateTimeField(null=True)
    erasure = models.JSONField(default=dict)

    class Meta:
        ordering = ("-committed_at",)
        constraints = [
            models.CheckConstraint(
                name="withdrawal_quiesced_says_how",
                condition=Q(quiesced_at__isnull=True, quiesced_by="")
                | (Q(quiesced_at__isnull=False) & ~Q(quiesced_by="")),
            ),
        ]

    def __str__(self) -> str:
        return f"withdrawal of {self.expert}"


class ExpertFence(models.Model):
    """From `revoked_epoch` on, once quiesced, no usage row may name this expert."""

    expert = models.OneToOneField(
        Expert, on_delete=models.PROTECT, primary_key=True, related_name="fence"
    )
    expert_name = models.SlugField(max_length=64, unique=True)
    revoked_epoch = models.PositiveBigIntegerField()
    is_quiesced = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"fence of {self.expert_name} at policy epoch {self.revoked_epoch}"


class DecisionRecord(models.Model):
    """Why one request was permitted or denied, in OPA's field names. Append-only, no prompts.

    `erased` and `masked` are JSON pointers: what was left out of `input` and what is kept only in
    part. `metrics` holds nanoseconds. `experts` names all that `result` speaks of; the database
    derives it, so that it can say how common a name is and find even a rare one at once.
    """

    decision_id = identity()
    timestamp = instant()
    labels = models.JSONField(default=dict)
    bundles = models.JSONField(default=dict)
    path = models.CharField(max_length=100)
    input = models.JSONField()
    result = models.JSONField()
    experts = words()
    requested_by = models.CharField(max_length=100)
    policy_epoch = models.PositiveBigIntegerField()
    erased = models.JSONField(default=list)
    masked = models.JSONField(default=list)
    metrics = models.JSONField(default=dict)

    class Meta:
        ordering = ("-timestamp",)
        triggers = [
            *append_only("decision_record"),
            pgtrigger.Trigger(
                name="decision_record_names_its_experts",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func="""
                    NEW.experts := ARRAY(
                        SELECT jsonb_array_elements_text(NEW.result -> 'allowed')
                        UNION SELECT jsonb_object_keys(NEW.result -> 'denied')
                    );
                    RETURN NEW;
                """,
            ),
        ]
        indexes = [
            models.Index(fields=["-timestamp", "decision_id"], name="decision_by_time"),
            models.Index(KT("input__consumer"), F("timestamp").desc(), name="decision_by_consumer"),
            models.Index(KT("input__purpose"), F("timestamp").desc(), name="decision_by_purpose"),
            models.Index(fields=["policy_epoch", "-timestamp"]),
            GinIndex(fields=["experts"], name="decision_by_expert"),
        ]

    def __str__(self) -> str:
        return f"decision {self.decision_id}"
