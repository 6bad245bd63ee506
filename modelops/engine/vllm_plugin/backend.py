"""The backend on vLLM: its scheduler, paged cache and kernels under our engine's guards.

vLLM runs in this very process, one step for each step of the engine, so that nothing is computed
or kept where the engine's thread does not see it. vLLM's sampler gets logits that leave one token:
tokens are chosen as the reference engine chooses them, from the same seed the same. A request
never ends by itself inside vLLM; the engine ends it, and its cache is wiped first. Imports vLLM.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from typing import Any

import torch

from modelops.artefacts.store import Store
from modelops.contract import PUBLIC, ExpertRef
from modelops.engine import sampling
from modelops.engine.backend import Computed
from modelops.engine.routing import RowUse
from modelops.engine.runner_step import Outcome
from modelops.engine.scheduler import StepPlan
from modelops.engine.sequence import NO_ROW, Sequence
from modelops.engine.vllm_plugin.process import Vllm
from modelops.engine.vllm_plugin.rights import Span
from modelops.engine.vllm_plugin.slots import Slots
from modelops.engine.weights import read_expert
from modelops.errors import EngineError
from modelops.model import flexolmo


@dataclass
class _Request:
    """A sequence inside vLLM, which knows it by two names. `reached` counts its positions
    computed there and `chosen` the tokens chosen; `held` is what of it was not released yet. What
    a prompt that is to be scored used is summed in `prompt_use` until it is whole."""

    sequence: Sequence
    outer_id: str
    inner_id: str
    reached: int = 0
    chosen: int = 0
    held: list[Computed] = field(default_factory=list)
    prompt_use: RowUse | None = None


@dataclass(frozen=True)
class _Loaded:
    ref: ExpertRef
    generation: int


@dataclass(frozen=True)
class _Turn:
    """vLLM decides what it computes in a step; these are those it may choose from."""

    sequences: tuple[Sequence, ...]


class VllmBackend:
    """`max_rows` requests run at once, each with at most `max_length` tokens, and `step_tokens`
    are computed in a step, in the type the anchor is stored in. `slots` experts find room, the
    public one included, and a token has at most `places` of them.

    Raises:
        MissingArtefact, ManifestMismatch: the store lacks the anchor, or it is damaged.
        EngineError: another vLLM than this was written for, or one that cannot serve like this.
    """

    def __init__(
        self,
        store: Store,
        anchor_digest: str,
        *,
        max_rows: int = 8,
        max_length: int | None = None,
        step_tokens: int = 512,
        slots: int = 16,
        places: int = 8,
    ) -> None:
        self._store, self._anchor_digest = store, anchor_digest
        self._config = flexolmo.load_config(store, anchor_digest)
        most = int(self._config.max_position_embeddings)
        # vLLM ends a request at its own limit, and gives its cache away unwiped: never reach it.
        self.length = min(max_length or most, most - 1)
        self.most_places: int | None = min(places, slots)
        self._vllm = Vllm(
            store,
            anchor_digest,
            self._config,
            rows=max_rows,
            length=self.length + 1,
            step_tokens=step_tokens,
            slots=slots,
            places=min(places, slots),
        )
        model = self._vllm.model
        model.choose = self._choose
        self._rights, self._layers = model.rights, len(model.governed)
        self._slots = Slots(model.governed)
        self.layout, self.kv_bytes = f"vllm-{model.device_config.device_type}", self._vllm.kv_bytes
        self._max_rows = max_rows
        self._waiting: deque[Sequence] = deque()
        self._begun: dict[str, _Request] = {}  # by order id, in the order they began
        self._inner: dict[str, _Request] = {}
        self._loaded: list[_Loaded | None] = [None] * slots
        self._generations, self._numbers = itertools.count(1), itertools.count()
        self._tokens: dict[str, tuple[int | None, sampling.Likelihood | None]] = {}
        self._has_chosen = False

    # ---- experts -------------------------------------------------------------------------------

    def prepare(self, ref: ExpertRef) -> Any:
        return ref, read_expert(self._store, self._anchor_digest, self._config, ref)

    def attach(self, prepared: Any) -> None:
        """Write it into a free slot.

        Raises:
            EngineError: every slot is taken.
        """
        ref, (rows, parts) = prepared
        if ref in self.refs():
            return
        free = [slot for slot, held in enumerate(self._loaded) if slot and held is None]
        if not free:
            raise EngineError(
                f"expected at most {len(self._loaded) - 1} licensed experts at a time, found one "
                "more; unload one, or start the engine with more slots"
            )
        self._slots.fill(free[0], rows, parts)
        self._loaded[free[0]] = _Loaded(ref, next(self._generations))

    def detach(self, name: str, digest: str) -> int:
        if name == PUBLIC:
            raise ValueError("expected a licensed expert, found the public one; it always stays")
        freed = 0
        for slot, held in enumerate(self._loaded):
            if held is not None and held.ref.name == name and digest in ("", held.ref.digest):
                self._loaded[slot] = None
                freed += self._slots.clear(slot)
        return freed

    def refs(self) -> frozenset[ExpertRef]:
        return frozenset(held.ref for held in self._loaded if held is not None)

    def names(self) -> Rows[str]:
        held = ["" if one is None else one.ref.name for one in self._loaded]
        return [PUBLIC, *held[1:]]

    # ---- sequences -----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Sequence]:
        begun = (request.sequence for request in self._begun.values())
        yield from (s for s in (*begun, *self._waiting) if not s.is_ended)

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def bind(self, sequence: Sequence) -> bool:
        loaded = {one.ref: one.generation for one in self._loaded if one is not None}
        allowed = sequence.order.allowed
        if sequence.generations is None and all(ref in loaded for ref in allowed):
            sequence.generations = tuple(loaded[ref] for ref in allowed)
        return sequence.generations is not None

    def clear_ended(self) -> None:
        self._waiting = deque(s for s in self._waiting if not s.is_ended)
        for request in [one for one in self._begun.values() if one.sequence.is_ended]:
            self._forget(request)
            request.sequence.row = NO_ROW

    def rewind(self, sequence: Sequence, sent_ids: tuple[int, ...]) -> None:
        request = self._begun.get(sequence.order_id)
        if request is not None:
            self._forget(request)
        sequence.restart(sent_ids)
        if request is not None:
            # It keeps its place, so that nobody who waits can take it from one who has begun.
            self._begin(sequence)

    # ---- steps ---------------------------------------------------------------------------------

    def plan(self) -> _Turn | None:
        while self._waiting and len(self._begun) < self._max_rows:
            sequence = self._waiting.popleft()
            if not sequence.is_ended:
                self._begin(sequence)
        for request in self._begun.values():
            self._admit(request)
        return _Turn(tuple(r.sequence for r in self._begun.values())) if self._begun else None

    @torch.inference_mode()
    def run(self, plan: _Turn, is_interrupted: Callable[[], bool]) -> Rows[Computed]:  # noqa: ARG002
        """Never abandoned: a step of vLLM's cannot be. What it computed for who lost permission
        meanwhile is not released."""
        self._tokens, self._has_chosen = {}, False
        prompts = self._vllm.step()
        computed = [one for r in self._begun.values() for one in r.held]
        for request in self._begun.values():
            request.held = []
        spans = self._rights.spans
        before = [self._inner[span.request_id].reached for span in spans]
        first = [max(span.start, reached) for span, reached in zip(spans, before, strict=True)]
        uses = self._rights.uses(first, self._layers)
        for span, start, use in zip(spans, first, uses, strict=True):
            if start < span.end:  # the rest was computed before, and given up for lack of room
                computed += self._step_of(span, start, use, prompts)
        return computed

    def keep(self, sequence: Sequence, plan: StepPlan, use: RowUse) -> None:
        """Nothing: no prompt is kept for others."""

    def hold(self, sequence: Sequence, plan: StepPlan, outcome: Outcome) -> None:
        self._begun[sequence.order_id].held.append((plan, outcome))

    def close(self) -> None:
        for request in list(self._begun.values()):
            self._forget(request)
        self._vllm.close()

    # ---- inside --------------------------------------------------------------------------------

    def _begin(self, sequence: Sequence) -> None:
        """Hand a sequence to vLLM: what is known of its text, and no end in sight."""
        order, taken = sequence.order, {r.sequence.row for r in self._begun.values()}
        outer_id = f"{order.order_id}/{next(self._numbers)}"
        inner_id = self._vllm.begin(outer_id, sequence.context_ids, order.score_prompt)
        request = _Request(sequence, outer_id, inner_id)
        self._begun[order.order_id] = self._inner[inner_id] = request
        sequence.row = min(set(range(self._max_rows)) - taken)

    def _admit(self, request: _Request) -> None:
        bound = set(request.sequence.generations or ())
        slots = [s for s, one in enumerate(self._loaded) if one and one.generation in bound]
        self._rights.admit(request.inner_id, slots, request.sequence.top_k())

    def _forget(self, request: _Request) -> None:
        self._vllm.end(request.inner_id)
        self._rights.release(request.inner_id)
        del self._begun[request.sequence.order_id], self._inner[request.inner_id]

    def _choose(self, logits_BV: torch.Tensor) -> torch.Tensor:
        """The token of each request whose text is whole; called again for a prompt's scores."""
        spans = self._rights.spans
        if not spans or self._has_chosen:
            return logits_BV
        self._has_chosen = True
        forced_BV = torch.full_like(logits_BV, -torch.inf)
        forced_BV[:, 0] = 0  # for who gets no token, vLLM throws it away
        whole = [b for b, span in enumerate(spans) if self._is_whole(span)]
        sequences = [self._inner[spans[b].request_id].sequence for b in whole]
        asked = [s.order.sampling for s in sequences]
        rows_BV = logits_BV[whole].float().cpu()
        pasts = [sampling.Past(s.prompt_ids, self._output_ids(s)) for s in sequences]
        token_ids = sampling.choose(rows_BV, asked, pasts)
        found = sampling.likelihoods(rows_BV, token_ids, asked)
        for b, token_id, likelihood in zip(whole, token_ids, found, strict=True):
            self._inner[spans[b].request_id].chosen += 1
            self._tokens[spans[b].request_id] = token_id, likelihood
            forced_BV[b, 0] = -torch.inf
            forced_BV[b, token_id or 0] = 0
        return forced_BV

    def _output_ids(self, sequence: Sequence) -> list[int]:
        """The answer as far as it is computed, what is held included."""
        held = self._begun[sequence.order_id].held
        waiting = [o.token_ids[0] for _, o in held if o.token_ids[0] is not None]
        return [*sequence.output_ids, *waiting]

    def _is_whole(self, span: Span) -> bool:
        """Whether the span ends with the last token known of its request, so that one follows."""
        request = self._inner[span.request_id]
        return span.end == len(request.sequence.context_ids) + request.chosen

    def _step_of(
        self, span: Span, start: int, use: RowUse, prompts: Mapping[str, Any]
    ) -> list[Computed]:
        """A request's part of a step, as the engine knows it."""
        request = self._inner[span.request_id]
        sequence, context = request.sequence, len(request.sequence.context_ids)
        request.reached = span.end
        token_id, likelihood = self._tokens.get(span.request_id, (None, None))
        if start >= context:
            return [(StepPlan((sequence,)), Outcome((token_id,), (use,), ((),), (likelihood,)))]
        scores: tuple[float, ...] = ()
        if sequence.order.score_prompt:
            use = request.prompt_use = _sum(request.prompt_use, use)
            if span.end < context:
                return []  # vLLM scores a prompt when it is whole
            start, scores = 0, _scores(sequence, prompts.get(request.outer_id))
        step = StepPlan((sequence,), start, span.end)
        return [(step, Outcome((token_id,), (use,), (scores,), (likelihood,)))]


def _sum(before: RowUse | None, use: RowUse) -> RowUse:
    if before is None:
        return use
    return RowUse(
        tuple(map(sum, zip(before.routed, use.routed, strict=True))),
        tuple(map(sum, zip(before.mass, use.mass, strict=True))),
        use.last,
    )


def _scores(sequence: Sequence, found: Any) -> tuple[float, ...]:
    """The log-probability of each token of the prompt but the first."""
    ids = sequence.prompt_ids[1:]
    if found is None or len(found) != len(ids) + 1:
        raise EngineError(f"expected vLLM to score {len(ids)} tokens of a prompt, found other ones")
    return tuple(place[id_].logprob for id_, place in zip(ids, found[1:], strict=True))
