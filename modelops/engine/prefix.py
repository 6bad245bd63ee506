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

from modelops.engine.kv import KVArena
from modelops.engine.progress import count_use
from modelops.engine.routing import RowUse
from modelops.engine.scheduler import StepPlan
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

    def __init__(self, anchor_digest: str, arena: KVArena, chunk: int, most_bytes: int) -> None:
        self._anchor_digest, self._arena = anchor_digest, arena
        self._chunk, self._most_bytes = chunk, most_bytes
        self._chunks: OrderedDict[bytes, Chunk] = OrderedDict()
        self.size_bytes = 0

    def reuse(self, sequence: Sequence) -> None:
        """Copy into a row not yet begun what is kept of its beginning, and count what that used.

        At least the last token is left to compute; a prompt to be scored is computed whole.
        """
        if not self._chunks or sequence.computed or sequence.order.score_prompt:
            return
        for key in self._keys(sequence, len(sequence.context_ids) - 1):
            if key not in self._chunks:
                return
            self._chunks.move_to_end(key)
            chunk = self._chunks[key]
            self._arena.copy_in(sequence.row, sequence.computed, chunk.halves)
            sequence.computed += self._chunk
            count_use(sequence, chunk.use, chunk.names)

    def keep(self, sequence: Sequence, plan: StepPlan, use: RowUse, names: Rows[str]) -> None:
        """Keep a copy of what `plan` computed for `sequence`, if it was a whole chunk."""
        is_whole = plan.start % self._chunk == 0 and plan.end - plan.start == self._chunk
        if not (self._most_bytes and plan.is_prefill and is_whole):
            return
        key = self._keys(sequence, plan.end)[-1]
        if key in self._chunks:
            return
        halves = self._arena.copy_out(sequence.row, plan.start, plan.end)
        experts = frozenset(ref.name for ref in sequence.order.allowed)
        self._chunks[key] = Chunk(halves, use, tuple(names), experts)
        self.size_bytes += halves.nbytes
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
