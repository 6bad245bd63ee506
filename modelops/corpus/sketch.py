"""A MinHash sketch of a corpus, made where the corpus is, to tell how much two have in common.

The set sketched is that of all shingles: runs of `SHINGLE_WORDS` words after case, Unicode forms
and everything that is no letter or digit are evened out. Of two sketches, the share of equal
values estimates the Jaccard index of the two sets, with standard error √(J(1-J)/512).

Parameters are fixed, or sketches could not be compared: scheme `SCHEME` names them all. Not keyed:
whoever holds a sketch and guesses a passage can test whether its hash is one of the least ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError

SCHEME = "minhash-sha1-32/512/seed-1/words-8"
PERMUTATIONS = 512
SHINGLE_WORDS = 8
_SEED = 1
_BATCH = 4096
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Sketch:
    """The least hash under each permutation, over the shingles of `document_count` documents."""

    minima: tuple[int, ...]
    document_count: int
    scheme: str = SCHEME
    shingle_words: int = SHINGLE_WORDS


def sketch(documents: Iterable[Document]) -> Sketch:
    """The sketch of a corpus, in one pass; memory does not grow with the corpus.

    Raises:
        CorpusError: there is no word in it.
    """
    from datasketch import MinHash

    minima = MinHash(num_perm=PERMUTATIONS, seed=_SEED)
    counted = 0

    def all_shingles() -> Iterator[bytes]:
        nonlocal counted
        for document in documents:
            counted += 1
            yield from shingles(document.text)

    stream = all_shingles()
    is_empty = True
    while batch := list(islice(stream, _BATCH)):
        minima.update_batch(batch)
        is_empty = False
    if is_empty:
        raise CorpusError("expected at least one word to sketch, found none; check the corpus")
    values = tuple(int(value) for value in minima.hashvalues)
    return Sketch(minima=values, document_count=counted)


def shingles(text: str) -> Iterator[bytes]:
    """Every run of `SHINGLE_WORDS` words, evened out; a shorter text is one shingle."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    for start in range(max(len(words) - SHINGLE_WORDS + 1, min(len(words), 1))):
        yield " ".join(words[start : start + SHINGLE_WORDS]).encode()


def jaccard(one: Sketch, other: Sketch) -> float:
    """The estimated Jaccard index of two corpora.

    Raises:
        CorpusError: the sketches are of different schemes.
    """
    if one.scheme != other.scheme:
        raise CorpusError(
            f"expected sketches of one scheme, found {one.scheme} and {other.scheme}; "
            "make both with the same version of reclaim"
        )
    same = sum(a == b for a, b in zip(one.minima, other.minima, strict=True))
    return same / PERMUTATIONS
