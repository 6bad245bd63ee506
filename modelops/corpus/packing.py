"""Token windows out of documents.

Documents are laid end to end, each closed by the end-of-text token, and cut into windows that
overlap by one token, so that every token but the very first is a target exactly once.
"""

# N tokens of the stream, W windows, T tokens of a window

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelops.errors import CorpusError


@dataclass(frozen=True)
class Packed:
    """A stream of token ids and where in it each document begins."""

    tokens_N: NDArray[np.int32]
    starts_D: NDArray[np.int64]

    def windows(self, context: int) -> NDArray[np.int32]:
        """All whole windows [W, context + 1]; a rest shorter than a window is left out.

        Raises:
            CorpusError: the stream is shorter than one window.
        """
        count = (len(self.tokens_N) - 1) // context
        if count < 1:
            raise CorpusError(
                f"expected text of more than {context} tokens, found {len(self.tokens_N)}; "
                "add documents, or train with a shorter context"
            )
        places_WT = np.arange(count)[:, None] * context + np.arange(context + 1)[None, :]
        return self.tokens_N[places_WT]

    def document_of(self, place: int) -> int:
        """Which document (in packing order) the token at `place` belongs to."""
        return int(np.searchsorted(self.starts_D, place, side="right")) - 1


def pack(documents: Iterable[Sequence[int]], end_of_text: int) -> Packed:
    """Lay tokenised documents end to end, `end_of_text` after each."""
    pieces: list[NDArray[np.int32]] = []
    starts: list[int] = []
    length = 0
    for ids in documents:
        piece = np.fromiter((*ids, end_of_text), dtype=np.int32, count=len(ids) + 1)
        starts.append(length)
        pieces.append(piece)
        length += len(piece)
    tokens_N = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32)
    return Packed(tokens_N=tokens_N, starts_D=np.asarray(starts, dtype=np.int64))
