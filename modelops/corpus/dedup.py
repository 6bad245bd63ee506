"""Leaves out documents seen before.

Only equal text counts, after Unicode and white-space differences are evened out. It does not find
near copies: two texts that differ in one word are two documents.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from modelops.corpus.jsonl import Document


def fingerprint(text: str) -> bytes:
    """SHA-256 of the text in NFKC with runs of white space as one space."""
    even = " ".join(unicodedata.normalize("NFKC", text).split())
    return hashlib.sha256(even.encode()).digest()


def unseen(documents: Iterable[Document], seen: set[bytes] | None = None) -> Iterator[Document]:
    """The documents whose fingerprint is new; `seen` is read and added to."""
    seen = set() if seen is None else seen
    for document in documents:
        mark = fingerprint(document.text)
        if mark not in seen:
            seen.add(mark)
            yield document
