"""Files handed in as evidence: kept whole, named by their content, never changed."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.canonical import sha256_hex
from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, Document
from governance.models.documents import MAX_BYTES
from governance.vocabulary import EventTag

_SIGNATURES = {
    "application/pdf": (b"%PDF-",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (b"PK\x03\x04",),
}
"""What a file of a media type begins with; text has no signature, and is checked as text."""
MEDIA_TYPES = (*_SIGNATURES, "text/plain")


@transaction.atomic
def store(
    content: bytes, *, name: str, media_type: str, by: Account | None, at: datetime
) -> Document:
    """Keep a file. The same bytes handed in again give the first row back.

    Raises:
        InvalidTerms: empty, longer than 20 MiB, of a kind we do not take, or not what it says.
    """
    _check(content, name, media_type)
    digest = sha256_hex(content)
    found = Document.objects.filter(pk=digest).first()
    if found is not None:
        return found
    document = Document.objects.create(
        digest=digest,
        name=name[:200],
        media_type=media_type,
        size_bytes=len(content),
        content=content,
        stored_by=by,
        stored_at=at,
    )
    events.stage(
        EventTag.DOCUMENT_STORED,
        subject=f"document:{digest}",
        by=by,
        at=at,
        details={"media_type": media_type, "size_bytes": len(content)},
    )
    return document


def _check(content: bytes, name: str, media_type: str) -> None:
    if media_type not in MEDIA_TYPES:
        raise _refusal(f"expected one of {', '.join(MEDIA_TYPES)}, found {media_type} in {name}.")
    if not 0 < len(content) <= MAX_BYTES:
        raise _refusal(f"expected 1 byte to 20 MiB, found {len(content)} bytes in {name}.")
    if not _is_what_it_says(content, media_type):
        raise _refusal(f"expected {media_type} as {name} says, found other bytes in it.")


def _is_what_it_says(content: bytes, media_type: str) -> bool:
    if media_type in _SIGNATURES:
        return content.startswith(_SIGNATURES[media_type])
    try:
        return "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _refusal(problem: str) -> InvalidTerms:
    return InvalidTerms(
        f"{problem} Hand in a PDF, PNG, JPEG, DOCX or plain text file.", fields={"file": problem}
    )
