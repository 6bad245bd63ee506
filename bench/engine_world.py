"""What `bench.engine` measures on: random models in a store, and an engine driven by hand."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from modelops.artefacts import bundle
from modelops.artefacts.manifest import shared_digests
from modelops.artefacts.store import Store
from modelops.artefacts.tensors import expert_tensor_specs
from modelops.contract import (
    Delta,
    Done,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    Refused,
    Sampling,
    Warrant,
)
from modelops.engine import Engine, reference_engine
from modelops.model import flexolmo, tokenizer

TOP_K = 2
NAMES = ("alder", "birch", "cedar")
SETS = [s for n in range(4) for s in itertools.combinations(NAMES, n)]
TEXT = (
    "Whoever lends a text may take it back, and what was learnt from it goes with it. "
    "A licence names who may ask, for which purpose, from which day and until which other. "
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a model with the public expert and three licensed ones."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    vocab: int
    dtype: torch.dtype

    def settings(self) -> dict[str, Any]:
        """The sizes as JSON takes them."""
        return asdict(self) | {"dtype": str(self.dtype).removeprefix("torch.")}

    def step_bytes(self, experts: int) -> int:
        """Bytes of weights that a step reads when it needs `experts` experts a layer."""
        layer = 4 * self.hidden**2 + experts * 3 * self.hidden * self.ffn
        return (self.layers * layer + self.vocab * self.hidden) * self.dtype.itemsize


SMALL = Shape(256, 704, 4, 4, 4096, torch.float32)  # FFN : width as in FlexOlmo
MODEL_S = Shape(512, 2048, 8, 8, 32_000, torch.bfloat16)  # 142 M parameters


class AlwaysPermitted:
    """An authority that never objects: this benchmark is about tensors."""

    def __init__(self, refs: Iterable[ExpertRef]) -> None:
        self._warrant = Warrant(1, 2**62, frozenset(refs))

    def warrant(self) -> Warrant | None:
        return self._warrant

    def holds(self, warrant: Warrant) -> bool:
        return warrant is self._warrant

    def permits(self, order: GenerationOrder, warrant: Warrant) -> frozenset[ExpertRef]:
        return frozenset(order.allowed) & warrant.live

    def may_outlive(self, order: GenerationOrder, lost: frozenset[str]) -> bool:
        return lost.issubset(order.recompute_without)


@dataclass(frozen=True)
class World:
    """A store with the random anchor and experts; `poisoned` are the same names full of NaN."""

    store: Store
    anchor_digest: str
    refs: dict[str, ExpertRef]
    poisoned: dict[str, ExpertRef]
    prompts: tuple[str, ...]
    prompt_ids: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Ask:
    """One request: who may answer, prompt number, settings, experts per token."""

    names: tuple[str, ...]
    prompt: int
    sampling: Sampling
    top_k: int = TOP_K
    score: bool = False


Answer = tuple[tuple[int, ...], tuple[float | None, ...], bool]
"""Token ids, prompt log-probabilities, and whether it ended as it should."""


def build_world(folder: Path, shape: Shape, names: Sequence[str] = NAMES) -> World:
    """Write the random bundles under `folder` and put them into a store."""
    store = Store(folder / "store")
    words = tokenizer.train([TEXT], vocab_size=400)
    config = flexolmo.tiny_config(
        shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=256,
        initializer_range=0.06,
    )
    model = flexolmo.new_anchor_model(config, seed=7).to(shape.dtype)
    anchor = bundle.write_anchor(
        folder / "public",
        flexolmo.anchor_tensors(model),
        flexolmo.config_json(model.config),
        tokenizer.to_json(words),
    )
    anchor_digest = store.put_anchor(folder / "public")
    chance = torch.Generator().manual_seed(11)
    shared = shared_digests(anchor)

    def put(name: str, scale: float) -> ExpertRef:
        tensors: dict[str, Any] = {
            key: (torch.randn(size, generator=chance) * scale).to(shape.dtype)
            for key, size in expert_tensor_specs(config).items()
        }
        bundle.write_expert(folder / "expert", tensors, anchor_digest, shared, recipe={})
        return ExpertRef(name, store.put_expert(folder / "expert"))

    refs = {name: put(name, 0.06) for name in names}
    poisoned = {name: put(name, torch.nan) for name in names}
    tokens = words.encode(TEXT * 4).ids
    windows = tuple(tuple(tokens[i : i + 16]) for i in range(64))
    prompts = tuple(str(words.decode(list(ids))) for ids in windows)
    again = tuple(tuple(words.encode(prompt).ids) for prompt in prompts)
    return World(store, anchor_digest, refs, poisoned, prompts, again)


class Bench:
    """An engine driven by hand, and how long it takes over a list of asks."""

    def __init__(
        self,
        world: World,
        refs: Sequence[ExpertRef],
        rows: int,
        make: Callable[..., Engine] = reference_engine,
        **settings: Any,
    ) -> None:
        self._world, self._numbers = world, itertools.count()
        authority = AlwaysPermitted([*world.refs.values(), *refs])
        self.engine = make(
            world.store,
            world.anchor_digest,
            authority,
            max_rows=rows,
            max_queue=1000,
            **settings,
        )
        for ref in refs:
            self.engine.load(ref)

    def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        """Submit all at once, run to the end, and return what each got."""
        heard: list[list[Delta | Done | Refused]] = [[] for _ in asks]
        for ask, messages in zip(asks, heard, strict=True):
            self.engine.submit(self.order(ask), messages.append)
        while self.engine.step():
            pass
        return [_answer(messages) for messages in heard]

    def rate(self, asks: Sequence[Ask]) -> float:
        """Tokens a second of processor time."""
        start = time.process_time()
        tokens = sum(len(ids) for ids, _, _ in self.answers(asks))
        return tokens / (time.process_time() - start)

    def order(self, ask: Ask) -> GenerationOrder:
        return GenerationOrder(
            order_id=str(next(self._numbers)),
            decision_id="bench",
            policy_epoch=1,
            build_digest="0" * 64,
            anchor_digest=self._world.anchor_digest,
            allowed=tuple(self._world.refs[name] for name in ask.names),
            top_k=ask.top_k,
            prompt=self._world.prompts[ask.prompt],
            sampling=ask.sampling,
            score_prompt=ask.score,
        )


def _answer(messages: Sequence[Delta | Done | Refused]) -> Answer:
    deltas = [m for m in messages if isinstance(m, Delta)]
    last = messages[-1]
    is_good = isinstance(last, Done) and last.finish_reason in (
        FinishReason.LENGTH,
        FinishReason.STOP,
    )
    ids = tuple(i for m in deltas for i in m.token_ids)
    return ids, tuple(t.logprob for m in deltas for t in m.scored), is_good
