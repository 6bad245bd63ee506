"""What lists share: a filter by words anywhere in a row, and counts beside a row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

import django_filters
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import SearchInput


class Words(django_filters.CharFilter):
    """Rows that hold every word somewhere in the fields of `over`, whatever its case.

    Each row is read: behind row-level security PostgreSQL uses no index for LIKE, whose operator
    is not leakproof. 50,000 names take some 30 ms; a table of millions needs another filter.
    """

    def __init__(self, label: str, *, over: Sequence[str]) -> None:
        super().__init__(label=label, widget=SearchInput)
        self._over = tuple(over)

    def filter(self, qs: QuerySet[Any], value: str | None) -> QuerySet[Any]:
        """The rows that fit."""
        for word in (value or "").split():
            qs = qs.filter(reduce(or_, (Q(**{f"{name}__icontains": word}) for name in self._over)))
        return qs


def count_of(rows: QuerySet[Any], through: str) -> Coalesce:
    """How many of `rows` lead to a row by `through`; counted for the rows shown alone."""
    beside = rows.filter(**{through: OuterRef("pk")}).order_by().values(through)
    return Coalesce(Subquery(beside.annotate(found=Count("pk")).values("found")), 0)
