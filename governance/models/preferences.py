"""What people set for themselves; nothing here bears on law."""

from __future__ import annotations

from django.db import models

from governance.models.columns import identity, instant
from governance.models.owners import Account


class SavedFilter(models.Model):
    """A filter of a list that a person gave a name. `query` is as in the address of the page."""

    id = identity()
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="saved_filters")
    listing = models.CharField(max_length=64)
    name = models.CharField(max_length=100)
    query = models.CharField(max_length=2000, blank=True)
    saved_at = instant()

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                name="saved_filter_name_once_a_list", fields=["account", "listing", "name"]
            ),
        ]

    def __str__(self) -> str:
        return self.name
