"""What was used: one row an answer, opened before its first token and closed before its last."""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from governance.models.columns import identity, instant, words
from governance.models.enforcement import RunnerLease
from governance.models.owners import Consumer

# Fences (trust design, section 2.2, D5): once an expert is quiesced, a row of an older policy epoch
# that may use it can neither be opened nor end as if nothing had happened. It may still be closed
# as cut off, because the runner must be able to account for the stream it aborted, and as gone on
# without the expert, because nothing after the withdrawal was computed with it.
_FENCE = """
IF EXISTS (
    SELECT 1 FROM governance_expertfence fence
    WHERE fence.is_quiesced
      AND NEW.policy_epoch < fence.revoked_epoch
      AND fence.expert_name = ANY(NEW.allowed)
      AND fence.expert_name <> ALL(NEW.recomputed_without)
) AND NEW.finish_reason IN ('', 'stop', 'length', 'recomputed') THEN
    RAISE EXCEPTION 'expected usage without a withdrawn expert, found policy epoch % allowing %',
        NEW.policy_epoch, NEW.allowed USING ERRCODE = 'check_violation';
END IF;
RETURN NEW;
"""


class UsageRecord(models.Model):
    """One answer. `routed` and `mass` come from the router's own indices, not from policy.

    `gw_seq` runs without gaps within one incarnation, so that a missing row shows. `licences` maps
    each allowed expert to the licence the answer was given under. Where some of them have quotas,
    `quota_slices` are those it is charged to, with `promised_tokens` each until it is closed.
    `recomputed_without` are those of `allowed` that were withdrawn meanwhile, and it went on.
    """

    id = identity()
    incarnation = models.ForeignKey(RunnerLease, on_delete=models.PROTECT, related_name="usage")
    gw_seq = models.PositiveBigIntegerField()
    order_id = models.UUIDField()
    decision_id = models.UUIDField()
    consumer = models.ForeignKey(Consumer, on_delete=models.PROTECT, related_name="usage")
    purpose = models.CharField(max_length=32)
    policy_epoch = models.PositiveBigIntegerField()
    build_digest = models.CharField(max_length=64)
    allowed = words()
    opened_at = instant()
    closed_at = models.DateTimeField(null=True)
    finish_reason = models.CharField(max_length=32, blank=True)
    cause = models.CharField(max_length=32, blank=True)
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    routed = models.JSONField(default=dict)
    mass = models.JSONField(default=dict)
    recomputed_without = words()
    licences = models.JSONField(default=dict)
    quota_slices = ArrayField(models.UUIDField(), default=list)
    promised_tokens = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ("-opened_at",)
        triggers = [
            pgtrigger.Trigger(
                name="usage_behind_a_fence_refused",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func=_FENCE,
            ),
            pgtrigger.Protect(name="usage_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="usage_closed_never_updated",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__closed_at__isnull=False),
            ),
        ]
        constraints = [
            # An engine that would not begin it leaves the order to another runner.
            models.UniqueConstraint(
                name="usage_order_begun_once",
                fields=["order_id"],
                condition=~Q(finish_reason="refused"),
            ),
            models.UniqueConstraint(
                name="usage_sequence_once_an_incarnation", fields=["incarnation", "gw_seq"]
            ),
            models.CheckConstraint(
                name="usage_closed_says_why",
                condition=Q(closed_at__isnull=True, finish_reason="")
                | (Q(closed_at__isnull=False) & ~Q(finish_reason="")),
            ),
        ]
        indexes = [
            models.Index(fields=["-opened_at"]),
            models.Index(fields=["decision_id"]),
            models.Index(fields=["consumer", "-opened_at"]),
            GinIndex(fields=["allowed"]),
        ]

    def __str__(self) -> str:
        return f"usage {self.id}"
