"""Pages of lists: by number where all rows can be counted, by place where there may be millions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

MOST_COUNTED = 1_000
"""Of a list without end no more rows are counted than this: "more than 1,000" is enough to know."""


@dataclass(frozen=True)
class Stretch:
    """A page of a list without end: its rows, and the addresses of those before and after."""

    object_list: Sequence[Any]
    count: int
    """Of all rows that fit, as far as they are counted."""
    previous_url: str | None
    next_url: str | None

    @property
    def count_words(self) -> str:
        """How many rows fit, as it is said."""
        if self.count > MOST_COUNTED:
            return f"more than {intcomma(MOST_COUNTED)}"
        return intcomma(self.count)


class _Places(CursorPagination):
    """A page begins where the one before ended, so a deep page costs what the first does."""

    cursor_query_param = "from_row"

    def __init__(self, rows_a_page: int, order: Sequence[str]) -> None:
        self.page_size, self._order = rows_a_page, tuple(order)

    def get_ordering(self, *_: Any) -> tuple[str, ...]:
        return self._order


def numbered(rows: QuerySet[Any], request: HttpRequest, rows_a_page: int) -> Page[Any]:
    """The page `?page=` asks for; an unknown one is the first or last."""
    return Paginator(rows, rows_a_page).get_page(request.GET.get("page"))


def stretch(
    rows: QuerySet[Any], request: HttpRequest, rows_a_page: int, order: Sequence[str]
) -> Stretch:
    """The rows from the place `?from_row=` on, in an order whose first field is never null.

    Raises:
        Http404: a place nobody gave out.
    """
    places = _Places(rows_a_page, order)
    try:
        found = places.paginate_queryset(rows, Request(request))
    except (NotFound, ValidationError, ValueError, TypeError, OverflowError) as odd:
        raise Http404 from odd
    return Stretch(
        object_list=found or [],
        count=rows.order_by()[: MOST_COUNTED + 1].count(),
        previous_url=places.get_previous_link(),
        next_url=places.get_next_link(),
    )
