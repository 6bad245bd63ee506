"""Quotas as escrow: what a licence allows in one period, and the slices runners hold of it.

A runner takes a slice out of the quota before it needs it, promises a part of the slice to each
answer before the first token, and settles the promise with what the answer really took. Three
inequalities make an overshoot impossible, and the database holds all of them:

    spent + promised + returned ≤ reserved                    in every slice (check constraint)
    taken = Σ (reserved - returned) over the slices           (trigger on slices)
    taken ≤ maximum                                           (check constraint on the quota)

The second runs in the transaction that changes a slice and locks the quota's row, so racing
reservations queue and the last one that does not fit fails. O'Neil's escrow method (ACM TODS 11,
1986) with leases as the way to end a holder.
"""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from governance.models.columns import identity, instant
from governance.models.enforcement import RunnerLease
from governance.models.licences import Licence

# The maxima are the licence's own, whoever inserts the row: terms are never edited.
_FROM_LICENCE = """
SELECT max_tokens, max_answers INTO NEW.max_tokens, NEW.max_answers
FROM governance_licence WHERE id = NEW.licence_id;
NEW.taken_tokens := 0;
NEW.taken_answers := 0;
RETURN NEW;
"""

_TAKE = """
IF TG_OP = 'INSERT' THEN
    UPDATE governance_quota
    SET taken_tokens = taken_tokens + NEW.reserved_tokens - NEW.returned_tokens,
        taken_answers = taken_answers + NEW.reserved_answers - NEW.returned_answers
    WHERE id = NEW.quota_id;
ELSIF NEW.reserved_tokens - NEW.returned_tokens <> OLD.reserved_tokens - OLD.returned_tokens
   OR NEW.reserved_answers - NEW.returned_answers <> OLD.reserved_answers - OLD.returned_answers
THEN
    UPDATE governance_quota
    SET taken_tokens = taken_tokens + NEW.reserved_tokens - NEW.returned_tokens
                       - OLD.reserved_tokens + OLD.returned_tokens,
        taken_answers = taken_answers + NEW.reserved_answers - NEW.returned_answers
                        - OLD.reserved_answers + OLD.returned_answers
    WHERE id = NEW.quota_id;
END IF;
RETURN NEW;
"""


class Quota(models.Model):
    """What one licence allows in one of its periods. `ends_at` null: a term without an end.

    `taken_*` is what runners hold or have spent; a trigger on the slices keeps it, nobody else.
    """

    id = identity()
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, related_name="quotas")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    max_tokens = models.PositiveBigIntegerField(null=True)
    max_answers = models.PositiveBigIntegerField(null=True)
    taken_tokens = models.PositiveBigIntegerField(default=0)
    taken_answers = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ("-starts_at",)
        triggers = [
            pgtrigger.Trigger(
                name="quota_maxima_of_the_licence",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=_FROM_LICENCE,
            ),
            pgtrigger.Protect(
                name="quota_maxima_never_changed",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange(
                    "licence", "starts_at", "ends_at", "max_tokens", "max_answers"
                ),
            ),
            pgtrigger.Protect(name="quota_row_kept", operation=pgtrigger.Delete),
        ]
        constraints = [
            models.UniqueConstraint(name="quota_once_a_period", fields=["licence", "starts_at"]),
            models.CheckConstraint(
                name="quota_tokens_never_overshot",
                condition=Q(max_tokens__isnull=True) | Q(taken_tokens__lte=F("max_tokens")),
            ),
            models.CheckConstraint(
                name="quota_answers_never_overshot",
                condition=Q(max_answers__isnull=True) | Q(taken_answers__lte=F("max_answers")),
            ),
        ]

    def __str__(self) -> str:
        return f"quota of {self.licence} from {self.starts_at:%Y-%m-%d}"


class QuotaSlice(models.Model):
    """One incarnation's part of a quota.

    `promised_*` belongs to answers being written, `spent_*` to answers that ended, `returned_*`
    went back. `closed_at` is when nobody could spend from it any more.
    """

    id = identity()
    quota = models.ForeignKey(Quota, on_delete=models.PROTECT, related_name="slices")
    incarnation = models.ForeignKey(RunnerLease, on_delete=models.PROTECT, related_name="slices")
    reserved_tokens = models.PositiveBigIntegerField(default=0)
    promised_tokens = models.PositiveBigIntegerField(default=0)
    spent_tokens = models.PositiveBigIntegerField(default=0)
    returned_tokens = models.PositiveBigIntegerField(default=0)
    reserved_answers = models.PositiveBigIntegerField(default=0)
    promised_answers = models.PositiveBigIntegerField(default=0)
    spent_answers = models.PositiveBigIntegerField(default=0)
    returned_answers = models.PositiveBigIntegerField(default=0)
    opened_at = instant()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("opened_at",)
        triggers = [
            pgtrigger.Trigger(
                name="slice_is_taken_from_its_quota",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.Update,
                func=_TAKE,
            ),
            pgtrigger.Protect(
                name="slice_spending_never_undone",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(new__spent_tokens__lt=pgtrigger.F("old__spent_tokens"))
                | pgtrigger.Q(new__spent_answers__lt=pgtrigger.F("old__spent_answers")),
            ),
            pgtrigger.Protect(
                name="slice_never_moved",
                operation=pgtrigger.Update,
                condition=pgtrigger.AnyChange("quota", "incarnation"),
            ),
            pgtrigger.Protect(name="slice_row_kept", operation=pgtrigger.Delete),
        ]
        constraints = [
            models.UniqueConstraint(
                name="slice_once_an_incarnation", fields=["quota", "incarnation"]
            ),
            models.CheckConstraint(
                name="slice_tokens_never_overdrawn",
                condition=Q(
                    reserved_tokens__gte=F("promised_tokens")
                    + F("spent_tokens")
                    + F("returned_tokens")
                ),
            ),
            models.CheckConstraint(
                name="slice_answers_never_overdrawn",
                condition=Q(
                    reserved_answers__gte=F("promised_answers")
                    + F("spent_answers")
                    + F("returned_answers")
                ),
            ),
        ]
        indexes = [
            models.Index(
                name="slice_open", fields=["incarnation"], condition=Q(closed_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"slice of {self.quota} for {self.incarnation}"
