"""What a corpus trains on and what it is measured on.

Whole works are held out, chosen by a keyed hash of the work's name: nobody without the key can
predict or steer the choice, adding a work never moves another, and any split can be repeated.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from modelops.corpus import jsonl
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError

_RANGE = 1 << 64
_PARTS = ("train", "heldout")


@dataclass(frozen=True)
class Split:
    """Disjoint by work: no part of a held-out work is trained on."""

    train: tuple[Document, ...]
    heldout: tuple[Document, ...]


def rank(work: str, key: bytes) -> float:
    """Where in [0, 1) the keyed hash (HMAC-SHA-256) puts a work; below the share is held out."""
    mark = hmac.new(key, work.encode(), hashlib.sha256).digest()
    return int.from_bytes(mark[:8], "big") / _RANGE


def split(documents: Iterable[Document], key: bytes, heldout_share: float) -> Split:
    """Divide by work; about `heldout_share` of the works (0 < share < 1) are held out.

    Where chance would leave one side empty, the work nearest to the boundary changes sides.

    Raises:
        CorpusError: the documents come from fewer than two works.
    """
    kept = tuple(documents)
    ranks = {work: rank(work, key) for work in {document.work for document in kept}}
    if len(ranks) < 2:
        raise CorpusError(
            f"expected documents of at least two works to hold one out, found {len(ranks)}; "
            "give each work its own id, or bring a heldout.jsonl.xz"
        )
    in_order = sorted(ranks.values())
    boundary = min(max(heldout_share, in_order[1]), in_order[-1])
    return Split(
        train=tuple(document for document in kept if ranks[document.work] >= boundary),
        heldout=tuple(document for document in kept if ranks[document.work] < boundary),
    )


def in_chance_order(documents: Iterable[Document], key: bytes) -> list[Document]:
    """The documents in an order, fixed by the key, in which any beginning is a sample of all."""
    return sorted(documents, key=lambda document: rank(document.id, key))


def read_set(folder: Path, key: bytes, heldout_share: float = 0.05) -> Split:
    """The split of a set folder: `train.jsonl[.xz|.zst|.gz]` and perhaps `heldout.jsonl…`.

    Without a held-out file, one is split off the training documents.

    Raises:
        CorpusError: no training file, a file that cannot be read, or nothing to hold out.
    """
    train, heldout = (_part(folder, part) for part in _PARTS)
    if train is None:
        raise CorpusError(
            f"expected {folder.name}/train.jsonl (or .xz, .zst, .gz), found none; "
            "put the documents there"
        )
    if heldout is None:
        return split(jsonl.read(train), key, heldout_share)
    return Split(train=tuple(jsonl.read(train)), heldout=tuple(jsonl.read(heldout)))


def open_corpus(path: Path, key: bytes, heldout_share: float = 0.05) -> Split:
    """The split of a set folder (`read_set`) or of one corpus file (`split`).

    Raises:
        CorpusError: as those two.
    """
    if path.is_dir():
        return read_set(path, key, heldout_share)
    return split(jsonl.read(path), key, heldout_share)


def digest(path: Path) -> str:
    """SHA-256 (hex) over the corpus files at `path` as they lie there, names included.

    Raises:
        CorpusError: there is no corpus file.
    """
    parts = [path] if path.is_file() else list(filter(None, (_part(path, p) for p in _PARTS)))
    if not parts:
        raise CorpusError(f"expected a corpus at {path}, found none; check the path")
    whole = hashlib.sha256()
    for part in parts:
        with part.open("rb") as file:
            whole.update(part.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _part(folder: Path, part: str) -> Path | None:
    places = (folder / f"{part}{suffix}" for suffix in jsonl.SUFFIXES)
    return next((place for place in places if place.is_file()), None)
