"""Staging: an event is written in the very transaction of the act it tells of.

If the act is rolled back, so is its event; if it commits, so does the event. The sequencer moves
it into the tree later, so writers never queue behind one another.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import connection

from governance.canonical import canonical_json, plain
from governance.errors import InvalidTerms
from governance.models import Account
from governance.vocabulary import EventTag

MAX_BODY_BYTES = 65_535
"""C2SP tlog-tiles prefixes an entry with its length in 16 bits."""

_INSERT = "INSERT INTO governance_stagedevent (body, staged_at) VALUES (%s, %s)"


def stage(
    tag: EventTag, *, subject: str, by: Account | None, at: datetime, details: Mapping[str, Any]
) -> None:
    """Write one event into the caller's transaction.

    `subject` reads `"<kind>:<id>"`. The actor is named by account number only: the log outlives
    people's right to be forgotten, their names stay in tables. Control characters are taken out
    of free text, so that a reason cannot forge a line in whatever shows it.

    Raises:
        RuntimeError: no transaction is open, so the event could outlive its act or be lost.
        InvalidTerms: the event is longer than a leaf may be; name large evidence by digest.
    """
    if not connection.in_atomic_block:
        raise RuntimeError(
            "expected an open transaction, found none; stage the event inside the act's own atomic"
        )
    body = event_body(tag, subject=subject, by=by, at=at, details=details)
    if len(body) > MAX_BODY_BYTES:
        raise InvalidTerms(
            f"expected an event of at most {MAX_BODY_BYTES} bytes, found {len(body)}; "
            "put large evidence elsewhere and name it by digest"
        )
    with connection.cursor() as cursor:  # plain SQL: every act pays for this, half of the ORM's
        cursor.execute(_INSERT, [body, at])


def event_body(
    tag: EventTag, *, subject: str, by: Account | None, at: datetime, details: Mapping[str, Any]
) -> bytes:
    """The canonical bytes of an event; exactly these become the leaf."""
    return canonical_json(
        {
            "version": 1,
            "tag": tag.value,
            "subject": _clean(subject),
            "by": "system" if by is None else f"account:{by.pk}",
            "at": plain(at),
            "details": _clean(plain(details)),
        }
    )


def _clean(value: Any) -> Any:
    """`value` with the control characters of every text in it turned into spaces."""
    match value:
        case str():
            return "".join(" " if _is_control(letter) else letter for letter in value)
        case dict():
            return {_clean(key): _clean(inner) for key, inner in value.items()}
        case list():
            return [_clean(inner) for inner in value]
        case _:
            return value


def _is_control(letter: str) -> bool:
    """Control characters, and what could make text read backwards or break JSON's UTF-8."""
    return unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
