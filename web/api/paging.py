"""Lists over REST: a whitelist of orders, and pages by cursor, which no new row shifts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError as NotAValue
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

PARAMETER = "order"


class Ordering(BaseFilterBackend):
    """`?order=field` or `?order=-field`, of the fields a view names in `ordering_fields`.

    A field named there must not be null. Rows that are equal in it follow by identity, so a list
    has one order only. Without `?order` a view's `ordering` holds, else its table's own.
    """

    def filter_queryset(
        self,
        request: Request,
        queryset: QuerySet[Any, Any],
        view: APIView,
    ) -> QuerySet[Any, Any]:
        """As it is: the page sorts, because its cursor must agree with the order."""
        return queryset

    def get_ordering(
        self, request: Request, queryset: QuerySet[Any], view: APIView
    ) -> tuple[str, ...]:
        """The order asked for, ended by the primary key.

        Raises:
            ValidationError: not one of the view's orders.
        """
        asked = request.query_params.get(PARAMETER)
        if asked is None:
            stated = getattr(view, "ordering", None) or queryset.model._meta.ordering  # noqa: SLF001
            first = next((name for name in stated if "__" not in name), "pk")
            return (first,) if first.lstrip("-") == "pk" else (first, "pk")
        known = _orders(view)
        if asked not in known:
            expected = ", ".join(known) or "no order for this list"
            raise ValidationError({PARAMETER: [f"Expected one of {expected}; found {asked!r}."]})
        return (asked, "pk")

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """What the schema says of it."""
        known = _orders(view)
        if not known:
            return []
        return [
            {
                "name": PARAMETER,
                "in": "query",
                "required": False,
                "description": "Order of the list; a minus turns it round.",
                "schema": {"type": "string", "enum": list(known)},
            }
        ]


def _orders(view: APIView) -> tuple[str, ...]:
    names: Sequence[str] = getattr(view, "ordering_fields", ())
    return tuple(sign + name for name in names for sign in ("", "-"))


class CursorPages(CursorPagination):
    """`limit` rows a page, up to 200; `next` and `previous` are whole addresses to follow as given.

    `count` is of all rows that fit, on every page; a view of a table that grows without bound says
    `is_counted = False` and leaves it out.
    """

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    page_size_query_description = "Rows a page, 1 to 200."
    cursor_query_description = "Where the page begins: follow `next` as it is given."
    offset_cutoff = 100_000

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any] | None:
        """The rows of the page asked for.

        Raises:
            ValidationError: an odd limit.
            NotFound: an odd cursor.
        """
        limit = request.query_params.get("limit", "1")
        is_whole = limit.isascii() and limit.isdigit() and len(limit) < 10
        if not is_whole or not 1 <= int(limit) <= self.max_page_size:
            raise ValidationError(
                {"limit": [f"Expected 1 to {self.max_page_size}; found {limit!r}."]}
            )
        cursor = self.decode_cursor(request)
        if cursor is not None and "\x00" in str(cursor.position):
            raise ValidationError({"cursor": ["Expected a cursor as it was given."]})
        self._count = queryset.count() if getattr(view, "is_counted", True) else None
        try:
            rows: list[Any] | None = super().paginate_queryset(queryset, request, view)
        except (ValueError, TypeError, OverflowError, NotAValue) as error:
            # A cursor forged to hold another kind of position fails only in the query.
            raise ValidationError({"cursor": ["Expected a cursor as it was given."]}) from error
        return rows

    def get_paginated_response(self, data: Any) -> Response:
        """The page with its addresses."""
        count = {} if self._count is None else {"count": self._count}
        links = {"next": self.get_next_link(), "previous": self.get_previous_link()}
        return Response({**count, **links, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """What the schema says of a page."""
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "count": {"type": "integer", "description": "rows of all pages"},
                "next": link,
                "previous": link,
                "results": schema,
            },
        }
