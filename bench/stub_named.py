"""A stub runner whose words say whose they are, which, and when they were released.

Each word is `<order id>:<number>:<nanoseconds of CLOCK_MONOTONIC> `. Rows are released 16 at a
time, as an engine's step does, evenly over the pace: each stream says a word every `token_s`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from bench import stub_runner
from bench.stub_engine import Deliver, StubEngine
from modelops.contract import Delta, Done, GenerationOrder, Refused

ROWS = 16


@dataclass
class NamingEngine(StubEngine):
    """The stub engine with words that a reader can tell apart."""

    numbers: Counter[str] = field(default_factory=Counter)

    def submit(self, order: GenerationOrder, deliver: Deliver) -> None:
        def named(message: Delta | Done | Refused) -> None:
            if isinstance(message, Delta):
                self.numbers[order.order_id] += 1
                number = self.numbers[order.order_id]
                text = f"{order.order_id}:{number}:{time.monotonic_ns()} "
                message = replace(message, text=text)
            deliver(message)

        super().submit(order, named)

    def _serve(self) -> None:
        next_s, place = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, next_s - time.monotonic())):
            with self._lock:
                streams = list(self.streams.values())
                place = place if place < len(streams) else 0
                for stream in streams[place : place + ROWS]:
                    self._step(stream)
            place += ROWS
            next_s = max(next_s, time.monotonic() - self.token_s)  # late, but not for ever
            next_s += self.token_s * ROWS / max(len(streams), ROWS)


if __name__ == "__main__":
    sys.exit(stub_runner.main(NamingEngine))
