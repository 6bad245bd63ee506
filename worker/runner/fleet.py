"""The engines of one runner, one an anchor, and the builds whose experts they hold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from modelops.contract import EngineClient, ExpertRef, WithdrawalAck
from modelops.errors import ModelopsError

log = logging.getLogger(__name__)

_ACKS_KEPT = 20


@dataclass(frozen=True)
class WantedBuild:
    """A build as the fleet sees it. `experts` holds none that was withdrawn."""

    build_id: str
    digest: str
    anchor_digest: str
    experts: frozenset[ExpertRef]


class Fleet:
    """Brings engines and experts to what is wanted; one thread calls `bring_to`, any the rest."""

    def __init__(self, make_engine: Callable[[str], EngineClient]) -> None:
        self._make_engine = make_engine
        self._engines: dict[str, EngineClient] = {}
        self._lock = threading.Lock()
        self._acks: list[WithdrawalAck] = []
        self.faults: dict[str, str] = {}

    def engine(self, anchor_digest: str) -> EngineClient | None:
        """The engine that serves this anchor, or None."""
        return self._engines.get(anchor_digest)

    def loaded(self) -> frozenset[ExpertRef]:
        """The licensed experts in memory, in any engine."""
        return frozenset().union(*(engine.loaded() for engine in self._each()))

    def bring_to(self, wanted: Iterable[WantedBuild]) -> list[WantedBuild]:
        """Load what `wanted` asks for, drop the rest, and say which builds are now whole.

        What answers under way use stays, and is dropped by the first call after their ends; what
        must go at once is withdrawn. An expert that cannot be loaded is noted in `faults` and
        tried again at the next call; the others still serve.
        """
        wanted = list(wanted)
        by_anchor: dict[str, set[ExpertRef]] = {}
        for build in wanted:
            by_anchor.setdefault(build.anchor_digest, set()).update(build.experts)
        self.faults = {}
        for anchor_digest, experts in by_anchor.items():
            self._bring_engine(anchor_digest, experts)
        for anchor_digest in set(self._engines) - set(by_anchor):
            self._bring_engine(anchor_digest, set())
            if self._engines[anchor_digest].retire():
                del self._engines[anchor_digest]
        return [build for build in wanted if self._is_whole(build)]

    def _bring_engine(self, anchor_digest: str, experts: set[ExpertRef]) -> None:
        engine = self._engines.get(anchor_digest) or self._new_engine(anchor_digest)
        if engine is None:
            return
        # Dropped first: the router has a bounded number of lanes.
        for ref in sorted(engine.loaded() - experts):
            engine.unload(ref.name, ref.digest)
        for ref in sorted(experts - engine.loaded()):
            try:
                engine.load(ref)
            except (ModelopsError, OSError) as error:
                self._note_fault(f"{ref.name}@{ref.digest[:12]}", error)

    def _new_engine(self, anchor_digest: str) -> EngineClient | None:
        try:
            engine = self._make_engine(anchor_digest)
        except (ModelopsError, OSError) as error:
            self._note_fault(f"anchor {anchor_digest[:12]}", error)
            return None
        engine.start()
        with self._lock:
            self._engines = {**self._engines, anchor_digest: engine}
        return engine

    def _note_fault(self, what: str, error: Exception) -> None:
        log.error("not loaded: %s: %s", what, error)
        self.faults[what] = str(error)

    def _is_whole(self, build: WantedBuild) -> bool:
        engine = self._engines.get(build.anchor_digest)
        return engine is not None and build.experts <= engine.loaded()

    def withdraw(self, ref: ExpertRef, policy_epoch: int) -> None:
        """End every stream that may use the expert and drop it, in every engine; keep the acks.

        Raises:
            Exception: an engine could not; then the policy epoch must not be acknowledged.
        """
        for engine in self._each():
            ack = engine.withdraw(ref.name, policy_epoch)
            with self._lock:
                self._acks = [*self._acks, ack][-_ACKS_KEPT:]

    def close(self) -> None:
        """End every stream and every engine."""
        for engine in self._each():
            engine.close()
        with self._lock:
            self._engines = {}

    def stats(self) -> Mapping[str, Any]:
        """Counts of each engine, the last withdrawals and what could not be loaded, as JSON."""
        return {
            "engines": {
                anchor: asdict(engine.stats()) for anchor, engine in dict(self._engines).items()
            },
            "withdrawals": [asdict(ack) for ack in self._acks],
            "faults": dict(self.faults),
        }

    def _each(self) -> list[EngineClient]:
        with self._lock:
            return list(self._engines.values())
