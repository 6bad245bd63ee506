"""An engine without a model: it says "word " at a steady pace, under the real lease protocol.

With `tells_time` it says the instant each word was released at instead, in seconds since 1970. A
word takes `compute_s` between what is checked before and what is checked after it.

It keeps D1, D2 and D4 exactly as the real engine does, so that what is measured with it is the
protocol and not arithmetic. It imports no torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from modelops.contract import (
    PUBLIC,
    Authority,
    Delta,
    Done,
    EndCause,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    Refused,
    Tally,
    Warrant,
    WithdrawalAck,
)

Deliver = Callable[[Delta | Done | Refused], None]


@dataclass
class StubStream:
    """One order being answered."""

    order: GenerationOrder
    deliver: Deliver
    checked_epoch: int = 0
    said: int = 0


@dataclass(frozen=True)
class StubStats:
    """What the stub did."""

    tokens_released: int = 0
    fault: str = ""


@dataclass
class StubEngine:
    """Answers every order with `max_tokens` words, one each `token_s` seconds."""

    authority: Authority
    token_s: float = 0.002
    tells_time: bool = False
    compute_s: float = 0.0
    experts: set[ExpertRef] = field(default_factory=set)
    streams: dict[str, StubStream] = field(default_factory=dict)
    released: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        with self._lock:
            for stream in list(self.streams.values()):
                self._end(stream, FinishReason.ERROR, EndCause.ENGINE_FAULT)

    def retire(self) -> bool:
        with self._lock:
            if self.streams:
                return False
            self.close()
            return True

    def load(self, ref: ExpertRef) -> None:
        with self._lock:
            self.experts.add(ref)

    def unload(self, name: str, digest: str = "") -> int:
        with self._lock:
            gone = {r for r in self.experts if r.name == name and digest in ("", r.digest)}
            if not any(gone & {*stream.order.allowed} for stream in self.streams.values()):
                self.experts -= gone
        return 0

    def loaded(self) -> frozenset[ExpertRef]:
        return frozenset(self.experts)

    def submit(self, order: GenerationOrder, deliver: Deliver) -> None:
        with self._lock:
            self.streams[order.order_id] = StubStream(order, deliver)

    def cancel(self, order_id: str) -> None:
        with self._lock:
            stream = self.streams.get(order_id)
            if stream is not None:
                self._end(stream, FinishReason.CANCELLED, EndCause.NONE)

    def withdraw(self, name: str, policy_epoch: int) -> WithdrawalAck:
        with self._lock:
            was_loaded = any(ref.name == name for ref in self.experts)
            hit = [
                stream
                for stream in self.streams.values()
                if name in {ref.name for ref in stream.order.allowed}
            ]
            for stream in hit:
                self._end(stream, FinishReason.CONTENT_FILTER, EndCause.CONSENT_WITHDRAWN, name)
            self.unload(name)
        ended = tuple(stream.order.order_id for stream in hit)
        return WithdrawalAck(name, policy_epoch, was_loaded, ended, 0)

    def stats(self) -> StubStats:
        return StubStats(tokens_released=self.released)

    def _serve(self) -> None:
        while not self._stopping.wait(self.token_s):
            for stream in list(self.streams.values()):
                self._step(stream)

    def _step(self, stream: StubStream) -> None:
        with self._lock:
            warrant = self.authority.warrant()
            if stream.order.allowed and not self._is_permitted(stream, warrant):
                return
        if self.compute_s:
            time.sleep(self.compute_s)
        with self._lock:
            if self._may_leave(stream, warrant):
                self._release(stream)

    def _is_permitted(self, stream: StubStream, warrant: Warrant | None) -> bool:
        """D1 and D2; a stream that may not go on is ended."""
        order = stream.order
        if warrant is None:
            self._end(stream, FinishReason.CONTENT_FILTER, EndCause.LEASE_LOST)
            return False
        if stream.checked_epoch != warrant.policy_epoch:
            kept = self.authority.permits(order, warrant) & warrant.live
            if not kept.issuperset(order.allowed):
                lost = sorted(ref.name for ref in set(order.allowed) - kept)
                self._end(stream, FinishReason.CONTENT_FILTER, EndCause.CONSENT_WITHDRAWN, lost[0])
                return False
            stream.checked_epoch = warrant.policy_epoch
        return True

    def _may_leave(self, stream: StubStream, warrant: Warrant | None) -> bool:
        """D4, once the step is computed."""
        if stream.order.order_id not in self.streams:
            return False
        return not stream.order.allowed or (warrant is not None and self.authority.holds(warrant))

    def _release(self, stream: StubStream) -> None:
        order = stream.order
        if stream.said < order.sampling.max_tokens:
            stream.said += 1
            self.released += 1
            word = f"{time.time():.6f} " if self.tells_time else "word "
            stream.deliver(Delta(order.order_id, word, (stream.said,)))
        if stream.said >= order.sampling.max_tokens:
            self._end(stream, FinishReason.LENGTH, EndCause.NONE)

    def _end(
        self, stream: StubStream, reason: FinishReason, cause: EndCause, expert: str = ""
    ) -> None:
        if self.streams.pop(stream.order.order_id, None) is None:
            return
        names = [PUBLIC, *(ref.name for ref in stream.order.allowed)]
        tally = Tally(
            prompt_tokens=1,
            completion_tokens=stream.said,
            routed=dict.fromkeys(names, stream.said),
            mass=dict.fromkeys(names, stream.said / len(names)),
        )
        epoch = stream.order.policy_epoch
        stream.deliver(
            Done(stream.order.order_id, reason, tally, stream.checked_epoch or epoch, cause, expert)
        )
