"""A statement as files: what it says, and the rows it was computed from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from governance.models import Statement
from governance.selectors import accounts
from governance.verifier import reclaim_statement


def statement_json(statement: Statement) -> HttpResponseBase:
    """The statement with its digest, as the stand-alone script reads it."""
    said = {"body": statement.body, "digest": statement.digest}
    text = json.dumps(said, indent=1, ensure_ascii=False) + "\n"
    return _named(HttpResponse(text, content_type="application/json"), statement, "json")


def rows_json_lines(statement: Statement) -> HttpResponseBase:
    """The rows, one JSON object a line; their SHA-256 is in the statement."""
    # Read whole: the connection's tenant ends with the view, before a stream would.
    rows = list(accounts.rows_of(statement.owner, statement.month))
    lines = map(accounts.json_line, rows)
    return _named(
        StreamingHttpResponse(lines, content_type="application/jsonl"), statement, "jsonl"
    )


def rows_csv(statement: Statement) -> HttpResponseBase:
    """The rows as a table."""
    rows = list(accounts.rows_of(statement.owner, statement.month))
    return _named(
        StreamingHttpResponse(_csv(rows), content_type="text/csv; charset=utf-8"), statement, "csv"
    )


def script() -> HttpResponse:
    """The stand-alone script that recomputes a statement."""
    response = HttpResponse(
        Path(reclaim_statement.__file__).read_bytes(), content_type="text/x-python; charset=utf-8"
    )
    response["Content-Disposition"] = 'attachment; filename="reclaim_statement.py"'
    return response


def _csv(rows: list[accounts.Row]) -> Iterator[str]:
    names = [field.name for field in fields(accounts.Row)]
    yield _csv_line(names)
    for row in rows:
        found = asdict(row)
        yield _csv_line([str(found[name]) for name in names])


def _csv_line(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _named(response: HttpResponseBase, statement: Statement, suffix: str) -> HttpResponseBase:
    kind = "statement" if suffix == "json" else "rows"
    name = f"{statement.stem}-{kind}.{suffix}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
