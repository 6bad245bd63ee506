"""Beginnings of prompts computed before, kept to be copied into a row that begins alike.

From the first layer on, keys and values carry what every allowed expert answered. So a beginning
is kept under all that shaped it: the anchor, the allowed experts with digest and generation, the
experts per token, and the tokens. A row gets a copy; nothing is ever shared between rows, and
what a withdrawn expert had a part in is wiped with it.

Only whole chunks, as prefill runs them, are kept and copied: the chunk is computed in the same
shape with or without reuse, and so the answer is the same bit for bit.

What it does not hide: who asks with the same rights can tell from the time to the first token
that someone asked the same before. It is off unless an engine is given bytes for it.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from modelops.engine.routing import RowUse
from modelops.engine.sequence import Sequence


@dataclass(frozen=True)
class Chunk:
    """Keys and values of one chunk [2·L, S, H, W], what it used and who had a part in it."""

    halves: torch.Tensor
    use: RowUse
    names: tuple[str, ...]
    experts: frozenset[str]


class PrefixStore:
    """At most `most_bytes` of chunks of `chunk` tokens, the least recently used given up first."""

    def __init__(self, anchor_digest: str, chunk: int, most_bytes: int) -> None:
        self._anchor_digest, self._chunk, self._most_bytes = anchor_digest, chunk, most_bytes
        self._chunks: OrderedDict[bytes, Chunk] = OrderedDict()
        self.size_bytes = 0

    def find(self, sequence: Sequence) -> list[Chunk]:
        """The chunks its context begins with; at least its last token is left to compute."""
        found: list[Chunk] = []
        for key in self._keys(sequence, len(sequence.context_ids) - 1):
            if key not in self._chunks:
                break
            self._chunks.move_to_end(key)
            found.append(self._chunks[key])
        return found

    def lacks(self, sequence: Sequence, start: int, end: int) -> bool:
        """Whether tokens `start` … `end` − 1 are a whole chunk that is worth keeping."""
        is_whole = start % self._chunk == 0 and end - start == self._chunk
        return is_whole and self._keys(sequence, end)[-1] not in self._chunks

    def keep(self, sequence: Sequence, end: int, chunk: Chunk) -> None:
        """Keep the chunk that ends before position `end` of the sequence's context."""
        if chunk.halves.nbytes > self._most_bytes:
            return
        self._chunks[self._keys(sequence, end)[-1]] = chunk
        self.size_bytes += chunk.halves.nbytes
        while self.size_bytes > self._most_bytes:
            self._give_up(next(iter(self._chunks)))

    def drop(self, expert: str) -> int:
        """Wipe every chunk that `expert` had a part in; returns the bytes freed."""
        before = self.size_bytes
        for key in [key for key, chunk in self._chunks.items() if expert in chunk.experts]:
            self._give_up(key)
        return before - self.size_bytes

    def _give_up(self, key: bytes) -> None:
        halves = self._chunks.pop(key).halves
        self.size_bytes -= halves.nbytes
        halves.zero_()

    def _keys(self, sequence: Sequence, end: int) -> list[bytes]:
        """The key of each whole chunk of the first `end` tokens, each bound to those before."""
        digest = hashlib.sha256(shaped_by(self._anchor_digest, sequence)).digest()
        keys = []
        for start in range(0, end - self._chunk + 1, self._chunk):
            tokens = sequence.context_ids[start : start + self._chunk]
            digest = hashlib.sha256(digest + json.dumps(tokens).encode()).digest()
            keys.append(digest)
        return keys


def shaped_by(anchor_digest: str, sequence: Sequence) -> bytes:
    """All that shapes keys and values besides the tokens."""
    generations: Rows[int] = sequence.generations or ()
    experts = [
        (ref.name, ref.digest, generation)
        for ref, generation in zip(sequence.order.allowed, generations, strict=True)
    ]
    return json.dumps([anchor_digest, sorted(experts), sequence.top_k()]).encode()
