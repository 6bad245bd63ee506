"""Which windows a step reads: a pure function of the step, so that a resumed run reads the same."""

# W windows, B windows of a batch, T tokens of a window

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from modelops.corpus import packing
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError
from modelops.model import tokenizer


class Batches:
    """Windows in an order that is shuffled anew, by seed and pass, each time they run out."""

    def __init__(self, windows_WT: NDArray[np.int32], size: int, seed: int) -> None:
        self._windows_WT = windows_WT
        self._size = size
        self._seed = seed
        self._pass = -1
        self._order_W = np.zeros(0, dtype=np.int64)

    def at(self, step: int) -> torch.Tensor:
        """The token ids [B, T + 1] of a step."""
        places = range(step * self._size, (step + 1) * self._size)
        chosen = [self._window(place) for place in places]
        return torch.from_numpy(self._windows_WT[chosen].astype(np.int64))

    def sample(self, count: int) -> torch.Tensor:
        """The first `count` windows of the first pass, or as many as there are."""
        chosen = [self._window(place) for place in range(min(count, len(self._windows_WT)))]
        return torch.from_numpy(self._windows_WT[chosen].astype(np.int64))

    def _window(self, place: int) -> int:
        whole_pass, rest = divmod(place, len(self._windows_WT))
        if whole_pass != self._pass:
            chance = np.random.default_rng([self._seed, whole_pass])
            self._pass, self._order_W = whole_pass, chance.permutation(len(self._windows_WT))
        return int(self._order_W[rest])


def windows_of(
    documents: Iterable[Document], encode: Callable[[str], list[int]], context: int
) -> NDArray[np.int32]:
    """All windows [W, context + 1] of the documents.

    Raises:
        CorpusError: too little text for one window.
    """
    packed = packing.pack((encode(document.text) for document in documents), tokenizer.END_ID)
    return packed.windows(context)


def first_bytes(documents: Iterable[Document], limit_bytes: int) -> list[Document]:
    """Documents from the start until the next would pass the limit; at least one.

    Raises:
        CorpusError: there is none.
    """
    kept: list[Document] = []
    taken = 0
    for document in documents:
        taken += len(document.text.encode())
        if kept and taken > limit_bytes:
            break
        kept.append(document)
    if not kept:
        raise CorpusError("expected at least one document, found none; add held-out documents")
    return kept
