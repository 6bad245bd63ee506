"""A commitment to a corpus: one digest that binds every document and shows none.

The tree is that of RFC 6962 §2.1 (leaf prefix 0x00, node prefix 0x01). A leaf is a salt and the
document's SHA-256; the salt is the document's own, derived from a secret of the owner. So the root
can be published, and the owner can later prove that one document was in the corpus by showing its
text, its salt and a path, while all others stay unguessable. What it does not prove: that the
training run read these documents and no others.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError


@dataclass(frozen=True)
class Commitment:
    """The root (hex SHA-256) over `size` documents."""

    root: str
    size: int


@dataclass(frozen=True)
class Inclusion:
    """Proof that a document is leaf `index` of a committed corpus; digests are hex."""

    index: int
    salt: str
    path: tuple[str, ...]


def salt_for(secret: bytes, index: int) -> bytes:
    """The 32-byte salt of document `index`, by HMAC-SHA-256 from the owner's secret."""
    return hmac.new(secret, b"corpus leaf %d" % index, hashlib.sha256).digest()


def leaf_digest(salt: bytes, document: Document) -> bytes:
    """The leaf of a document. Id, source and licence are bound too, each behind its length."""
    body = hashlib.sha256()
    for field in (document.id, document.source, document.licence, document.text):
        encoded = field.encode()
        body.update(len(encoded).to_bytes(8, "big") + encoded)
    return hashlib.sha256(b"\x00" + salt + body.digest()).digest()


def leaves(documents: Iterable[Document], secret: bytes) -> list[bytes]:
    """The leaf digests of a corpus in its order.

    Raises:
        CorpusError: the secret is shorter than 16 bytes and could be guessed.
    """
    if len(secret) < 16:
        raise CorpusError(
            f"expected a commitment secret of at least 16 bytes, found {len(secret)}; "
            "make one with secrets.token_bytes(32) and keep it"
        )
    return [
        leaf_digest(salt_for(secret, index), document) for index, document in enumerate(documents)
    ]


def commit(documents: Iterable[Document], secret: bytes) -> Commitment:
    """The commitment to publish with an expert trained on `documents`."""
    hashed = leaves(documents, secret)
    return Commitment(root=root(hashed).hex(), size=len(hashed))


def root(hashed: Sequence[bytes]) -> bytes:
    """The tree head over leaf digests (RFC 6962 §2.1); of none, SHA-256 of nothing."""
    if not hashed:
        return hashlib.sha256().digest()
    if len(hashed) == 1:
        return hashed[0]
    cut = _cut(len(hashed))
    return _node(root(hashed[:cut]), root(hashed[cut:]))


def prove(hashed: Sequence[bytes], secret: bytes, index: int) -> Inclusion:
    """The inclusion proof of leaf `index` (RFC 6962 §2.1.1).

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= index < len(hashed):
        raise IndexError(f"expected a leaf index below {len(hashed)}, found {index}")
    path = tuple(digest.hex() for digest in _path(hashed, index))
    return Inclusion(index=index, salt=salt_for(secret, index).hex(), path=path)


def is_included(document: Document, inclusion: Inclusion, commitment: Commitment) -> bool:
    """Whether the proof leads from the document to the commitment's root."""
    if not 0 <= inclusion.index < commitment.size:
        return False
    leaf = leaf_digest(bytes.fromhex(inclusion.salt), document)
    path = [bytes.fromhex(digest) for digest in inclusion.path]
    head = _climb(leaf, inclusion.index, commitment.size, path)
    return head is not None and hmac.compare_digest(head.hex(), commitment.root)


def _climb(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    if size == 1:
        return leaf if not path else None
    if not path:
        return None
    cut = _cut(size)
    *below, beside = path
    left = index < cut
    here = _climb(leaf, index if left else index - cut, cut if left else size - cut, below)
    if here is None:
        return None
    return _node(here, beside) if left else _node(beside, here)


def _path(hashed: Sequence[bytes], index: int) -> list[bytes]:
    if len(hashed) == 1:
        return []
    cut = _cut(len(hashed))
    if index < cut:
        return [*_path(hashed[:cut], index), root(hashed[cut:])]
    return [*_path(hashed[cut:], index - cut), root(hashed[:cut])]


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _cut(size: int) -> int:
    """The largest power of two below `size`."""
    return int(1 << ((size - 1).bit_length() - 1))
