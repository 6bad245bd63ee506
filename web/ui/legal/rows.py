"""How lists of the legal room are fetched."""

from __future__ import annotations

from django.db.models import Prefetch, QuerySet

from governance.models import Ending, Licence

ROWS_A_PAGE = 25


def listed(rows: QuerySet[Licence]) -> QuerySet[Licence]:
    """With what a row shows; `standing` are the endings that no resumption has lifted."""
    endings = Ending.objects.filter(lifts=None, lifted_by=None)
    return rows.select_related("corpus__owner", "requested_by", "decided_by").prefetch_related(
        Prefetch("endings", queryset=endings, to_attr="standing")
    )
