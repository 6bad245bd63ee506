"""Whose turn it is: first come, first served; prompts in chunks between the others' tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from modelops.engine.kv import KVArena
from modelops.engine.sequence import NO_ROW, Sequence


@dataclass(frozen=True)
class StepPlan:
    """One step: a chunk of one prompt (`end` above 0), or one token for each of `sequences`."""

    sequences: tuple[Sequence, ...]
    start: int = 0
    end: int = 0

    @property
    def is_prefill(self) -> bool:
        return self.end > 0


class Scheduler:
    """The waiting line and the rows. Rows 0 … n−1 are always the n live sequences."""

    def __init__(self, arena: KVArena, prefill_chunk: int) -> None:
        self._arena, self._chunk = arena, prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.live: list[Sequence] = []
        self._since_decode = 0

    def __iter__(self) -> Iterator[Sequence]:
        """Every sequence not yet ended, live ones first."""
        yield from (s for s in (*self.live, *self.waiting) if not s.is_ended)

    def admit(self) -> None:
        """Give free rows to those who wait, in their order."""
        while self.waiting and len(self.live) < self._arena.rows:
            sequence = self.waiting.popleft()
            if not sequence.is_ended:
                sequence.row = len(self.live)
                self.live.append(sequence)

    def clear_ended(self) -> None:
        """Wipe the rows of ended sequences and close the gaps; drop those that never had one."""
        self.waiting = deque(s for s in self.waiting if not s.is_ended)
        for sequence in [s for s in self.live if s.is_ended]:
            hole, last = sequence.row, self.live.pop()
            self._arena.wipe(hole)
            if last is not sequence:
                self._arena.move(last.row, hole)
                last.row = hole
                self.live[hole] = last
            sequence.row = NO_ROW

    def next(self) -> StepPlan | None:
        """The next step, or None if nobody is live.

        Prompts go first until a chunk's worth of their tokens has run; then everyone whose prompt
        is done gets a token. So a long prompt delays the others by one chunk at a time.
        """
        fresh = next((s for s in self.live if not s.is_prefilled), None)
        ready = tuple(s for s in self.live if s.is_prefilled)
        if fresh is not None:
            end = min(fresh.computed + self._chunk, len(fresh.prompt_ids))
            size = end - fresh.computed
            if not ready or self._since_decode + size <= self._chunk:
                self._since_decode += size
                return StepPlan((fresh,), fresh.computed, end)
        self._since_decode = 0
        return StepPlan(ready) if ready else None
