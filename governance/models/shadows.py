"""Licences on trial: proposed, not in policy, and looked at as if they were."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from governance.models.columns import identity, instant
from governance.models.licences import Licence
from governance.models.owners import Account


class Shadow(models.Model):
    """A period in which a proposed licence is looked at as if it were in policy.

    It changes no decision: what would have differed is worked out from recorded decisions when
    somebody looks.
    """

    id = identity()
    licence = models.ForeignKey(Licence, on_delete=models.PROTECT, related_name="shadows")
    started_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    started_at = instant()
    ended_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+", null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-started_at",)
        constraints = [
            models.UniqueConstraint(
                name="shadow_one_open_a_licence",
                fields=["licence"],
                condition=Q(ended_at__isnull=True),
            ),
            models.CheckConstraint(
                name="shadow_ends_with_a_name",
                condition=Q(ended_at__isnull=True, ended_by__isnull=True)
                | Q(ended_at__gte=F("started_at"), ended_by__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"shadow of {self.licence.reference}"
