"""Which passages are audited: one window a document, drawn so that nobody can draw again.

Order and offset come from HMACs under a key of corpus, expert and seed: the same inputs give the
same windows, and another seed is another audit with its own number.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelops.corpus.jsonl import Document
from modelops.errors import AuditError

Tokens = npt.NDArray[np.int32]
Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Windows:
    """Token windows `tokens_NW` of prefix and suffix, and how many documents were too short."""

    tokens_NW: Tokens
    document_ids: tuple[str, ...]
    too_short: int


def draw(
    documents: Iterable[Document], encode: Encode, *, width: int, count: int, key: bytes
) -> Windows:
    """Up to `count` windows of `width` tokens, one a document, by HMAC order and offset.

    Documents shorter than `width` tokens cannot hold a window; they are counted, never silently
    dropped.

    Raises:
        AuditError: no document is long enough.
    """
    ordered = sorted(documents, key=lambda document: _mac(key, b"order", document.id))
    rows: list[list[int]] = []
    ids: list[str] = []
    too_short = 0
    for document in ordered:
        if len(rows) == count:
            break
        token_ids = encode(document.text)
        room = len(token_ids) - width
        if room < 0:
            too_short += 1
            continue
        offset = int.from_bytes(_mac(key, b"offset", document.id)[:8], "big") % (room + 1)
        rows.append(token_ids[offset : offset + width])
        ids.append(document.id)
    if not rows:
        raise AuditError(
            f"expected a document of at least {width} tokens, found {too_short} shorter ones and "
            "no other; audit with a shorter window or give more text"
        )
    return Windows(np.array(rows, dtype=np.int32), tuple(ids), too_short)


def sample_key(*parts: str) -> bytes:
    """The key of a draw, bound to what is audited: corpus, expert, anchor, seed."""
    return hashlib.sha256("\x1f".join(parts).encode()).digest()


def _mac(key: bytes, purpose: bytes, document_id: str) -> bytes:
    return hmac.new(key, purpose + b"\x00" + document_id.encode(), hashlib.sha256).digest()
