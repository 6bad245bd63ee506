"""What an engine counts about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineStats:
    """Counts since the engine was made, and what it holds now. `fault` is empty while healthy."""

    live: int
    waiting: int
    steps: int
    steps_abandoned: int
    tokens_released: int
    rows_discarded: int
    kv_bytes: int
    layout: str
    fault: str


@dataclass
class Counts:
    """The engine's own copy, changed under its lock."""

    steps: int = 0
    steps_abandoned: int = 0
    tokens_released: int = 0
    rows_discarded: int = 0
    fault: str = ""

    def stats(self, *, live: int, waiting: int, kv_bytes: int, layout: str) -> EngineStats:
        """The counts with what the engine holds at this moment."""
        return EngineStats(
            live=live,
            waiting=waiting,
            steps=self.steps,
            steps_abandoned=self.steps_abandoned,
            tokens_released=self.tokens_released,
            rows_discarded=self.rows_discarded,
            kv_bytes=kv_bytes,
            layout=layout,
            fault=self.fault,
        )
