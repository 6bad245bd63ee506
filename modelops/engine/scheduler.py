"""Whose turn it is: first come, first served; prompts in chunks between the others' tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from modelops.engine.kv import KVArena
from modelops.engine.sequence import NO_ROW, Sequence

CHUNKS_A_TURN = 4


@dataclass(frozen=True)
class StepPlan:
    """One step: the tokens `start` … `end` − 1 of each prompt (`end` above 0), or, with `end` 0,
    one new token for each of `sequences`."""

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
        if not any(s.is_ended for s in (*self.live, *self.waiting)):
            return
        self.waiting = deque(s for s in self.waiting if not s.is_ended)
        for sequence in [s for s in self.live if s.is_ended]:
            hole, last = sequence.row, self.live.pop()
            self._arena.wipe(hole)
            if last is not sequence:
                self._arena.move(last.row, hole)
                last.row = hole
                self.live[hole] = last
            sequence.row = NO_ROW

    def rewind(self, sequence: Sequence, sent_ids: tuple[int, ...]) -> None:
        """Wipe the row of `sequence` and have it start again from its prompt and `sent_ids`."""
        if sequence.is_begun:
            self._arena.wipe(sequence.row)
        sequence.restart(sent_ids)

    def next(self) -> StepPlan | None:
        """The next step, or None if nobody is live.

        Prompts go first until `CHUNKS_A_TURN` chunks' worth of their tokens has run; then everyone
        whose prompt is done gets a token. So prompts, however long or many, delay the others'
        next token by no more than that.
        """
        fresh = [s for s in self.live if not s.is_prefilled]
        ready = tuple(s for s in self.live if s.is_prefilled)
        if fresh:
            plan = self._prefill(fresh)
            size = (plan.end - plan.start) * len(plan.sequences)
            if not ready or self._since_decode + size <= CHUNKS_A_TURN * self._chunk:
                self._since_decode += size
                return plan
        self._since_decode = 0
        return StepPlan(ready) if ready else None

    def _prefill(self, fresh: list[Sequence]) -> StepPlan:
        """The first one's next chunk, with every other prompt that has the very same span to run.

        Only equal spans go together: attention then has for each row the shape it has alone.
        """
        start, end, _ = wanted = self._span(fresh[0])
        alike = [s for s in fresh if self._span(s) == wanted]
        most = max(1, self._chunk // (end - start))
        return StepPlan(tuple(alike[:most]), start, end)

    def _span(self, sequence: Sequence) -> tuple[int, int, bool]:
        """Where its next chunk starts and ends, and whether it is the last."""
        size = len(sequence.context_ids)
        end = min(sequence.computed + self._chunk, size)
        return sequence.computed, end, end == size
