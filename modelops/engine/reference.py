"""The backend of our own: stock transformers layers around the expert bank, one row a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Rows
from typing import Any

import torch

from modelops.artefacts.store import Store
from modelops.contract import Authority, ExpertRef
from modelops.engine.backend import Computed
from modelops.engine.bank import LANES, ExpertBank, Resident
from modelops.engine.engine import Engine
from modelops.engine.kv import KVArena
from modelops.engine.linear import Layout, best_layout
from modelops.engine.prefix import PrefixStore
from modelops.engine.routing import RowUse, StepDesk
from modelops.engine.runner_step import Forward, Outcome, governed_model
from modelops.engine.scheduler import Scheduler, StepPlan
from modelops.engine.sequence import Sequence
from modelops.errors import EngineError
from modelops.model import flexolmo


class ReferenceBackend:
    """`max_rows` requests run at once, each with at most `max_length` tokens (None: what the
    anchor was made for), prompts in chunks of `prefill_chunk` tokens on `threads` cores.

    `layout` None takes the fastest that keeps rows independent of their batch. `prefix_bytes`
    above 0 keeps so much of what prompts began with, to be copied (see `prefix`). On a `device`
    other than the CPU experts lie in a pool of `slots`, the public one included.

    Raises:
        MissingArtefact, ManifestMismatch: the store lacks the anchor, or it is damaged.
        EngineError: this machine has no such device.
    """

    most_places: int | None = None

    def __init__(
        self,
        store: Store,
        anchor_digest: str,
        *,
        max_rows: int = 8,
        max_length: int | None = None,
        threads: int = 1,
        prefill_chunk: int = 64,
        layout: Layout | None = None,
        prefix_bytes: int = 0,
        device: str = "cpu",
        slots: int = LANES,
    ) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        is_cpu = self._device.type == "cpu"
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise EngineError(
                "expected a CUDA device, found none that this torch can use; compute on the CPU "
                "(RECLAIM_DEVICE=cpu), or install the GPU build and its driver"
            )
        layout = layout or (best_layout() if is_cpu else Layout.POOLED)
        config = flexolmo.load_config(store, anchor_digest)
        most = int(config.max_position_embeddings)
        self.length = min(max_length or most, most)
        desk = StepDesk()
        self.bank = ExpertBank(store, anchor_digest, config, layout, self._device, slots)
        model = governed_model(store, anchor_digest, config, self.bank, desk, layout, self._device)
        # A CPU attends several times faster in fp32; a GPU as the model was made.
        kept = torch.float32 if is_cpu else model.model.embed_tokens.weight.dtype
        arena = KVArena(config, max_rows, self.length, kept, self._device)
        self.forward = Forward(model, arena, self.bank, desk, self._device)
        self.scheduler = Scheduler(arena, prefill_chunk)
        self.prefixes = PrefixStore(anchor_digest, arena, prefill_chunk, prefix_bytes)
        self.kv_bytes, self.layout = arena.size_bytes, layout.value

    def prepare(self, ref: ExpertRef) -> Resident:
        return self.bank.prepare(ref)

    def attach(self, prepared: Resident) -> None:
        self.bank.attach(prepared)

    def detach(self, name: str, digest: str) -> int:
        freed = self.bank.detach(name, digest) + self.prefixes.drop(name)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # zeros only asked for are no evidence
        return freed

    def refs(self) -> frozenset[ExpertRef]:
        return self.bank.refs()

    def names(self) -> Rows[str]:
        return self.bank.names()

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self.scheduler)

    def add(self, sequence: Sequence) -> None:
        self.scheduler.waiting.append(sequence)

    def bind(self, sequence: Sequence) -> bool:
        if sequence.generations is None:
            sequence.generations = self.bank.generations(sequence.order.allowed)
            if sequence.generations is None:
                return False
        if sequence.lanes_version != self.bank.version:
            sequence.lanes = self.bank.lanes(sequence.generations)
            sequence.lanes_version = self.bank.version
        return True

    def clear_ended(self) -> None:
        self.scheduler.clear_ended()

    def rewind(self, sequence: Sequence, sent_ids: tuple[int, ...]) -> None:
        self.scheduler.rewind(sequence, sent_ids)

    def plan(self) -> StepPlan | None:
        self.scheduler.admit()
        for sequence in self.scheduler.live:
            self.prefixes.reuse(sequence)
        return self.scheduler.next()

    def run(self, plan: StepPlan, is_interrupted: Callable[[], bool]) -> Rows[Computed]:
        return [(plan, self.forward.run(plan, is_interrupted))]

    def keep(self, sequence: Sequence, plan: StepPlan, use: RowUse) -> None:
        self.prefixes.keep(sequence, plan, use, self.bank.names())

    def hold(self, sequence: Sequence, plan: StepPlan, outcome: Outcome) -> None:
        """Nothing: the sequence stands where it stood, and the step is run again."""

    def close(self) -> None:
        """Nothing: what is held goes with the backend."""


def reference_engine(
    store: Store,
    anchor_digest: str,
    authority: Authority,
    *,
    max_rows: int = 8,
    max_queue: int = 64,
    **settings: Any,
) -> Engine:
    """An engine on our own backend: `max_rows` requests run, `max_queue` more may wait; the other
    settings are `ReferenceBackend`'s.

    Raises:
        MissingArtefact, ManifestMismatch: the store lacks the anchor, or it is damaged.
    """
    backend = ReferenceBackend(store, anchor_digest, max_rows=max_rows, **settings)
    return Engine(store, anchor_digest, authority, backend, most_open=max_rows + max_queue)
