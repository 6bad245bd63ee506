"""A whole filter as CSV or XLSX, with cells that no spreadsheet runs as formulas."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import tablib
from django.db.models import QuerySet
from django.http import HttpResponse

from web.ui.lists.listing import Listing

MAX_ROWS = 50_000
"""A longer export belongs to the API, which is read page by page; it is refused, never cut off."""

_MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
FORMATS = tuple(_MEDIA_TYPES)
_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")
"""What makes a spreadsheet read a cell as a formula, in both widths (OWASP, CSV injection)."""


def is_too_long(rows: QuerySet[Any]) -> bool:
    """Whether there are more rows than a file takes."""
    return rows.order_by()[: MAX_ROWS + 1].count() > MAX_ROWS


def file_of(listing: Listing, rows: QuerySet[Any], kind: str, at: datetime) -> HttpResponse:
    """The rows as a file to keep. Instants are in UTC, ISO 8601; lists are joined by spaces."""
    table = tablib.Dataset(headers=[column.title for column in listing.columns])
    for cells in _cells(listing, rows):
        table.append(cells)
    answer = HttpResponse(table.export(kind), content_type=_MEDIA_TYPES[kind])
    name = f"reclaim-{listing.name}-{at:%Y-%m-%d}.{kind}"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _cells(listing: Listing, rows: QuerySet[Any]) -> Iterator[list[Any]]:
    for row in rows.iterator(chunk_size=1000):
        yield [cell(column.value(row)) for column in listing.columns]


def cell(value: Any) -> Any:
    """`value` as a spreadsheet takes it."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float() | Decimal():
            return value
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case list() | tuple():
            return cell(" ".join(str(each) for each in value))
        case _:
            text = str(value)
            return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
