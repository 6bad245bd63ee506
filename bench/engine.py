"""What one batch for requests with different rights costs, and that it changes nothing.

    python -m bench.engine [--quick] --json FILE

A random fp32 model (4 layers, width 256, the public expert and three licensed ones) on one
thread. Times are processor time of several rounds, so that a busy machine disturbs them little.
The stock side is transformers' `generate()` on the same weights, with whichever of its expert
kernels is faster for the batch.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import FlexOlmoForCausalLM

from bench.record import Record, options
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
from modelops.engine import Engine
from modelops.engine.linear import Layout
from modelops.model import flexolmo, tokenizer

HIDDEN, FFN, LAYERS, HEADS, VOCAB, TOP_K = 256, 704, 4, 4, 4096, 2  # FFN : width as in FlexOlmo
NAMES = ("alder", "birch", "cedar")
SETS = [s for n in range(4) for s in itertools.combinations(NAMES, n)]
TEXT = (
    "Whoever lends a text may take it back, and what was learnt from it goes with it. "
    "A licence names who may ask, for which purpose, from which day and until which other. "
)


KERNELS = ("eager", "grouped_mm")


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


def build_world(folder: Path) -> World:
    """Write the random bundles under `folder` and put them into a store."""
    store = Store(folder / "store")
    words = tokenizer.train([TEXT], vocab_size=400)
    config = flexolmo.tiny_config(
        VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=256,
        initializer_range=0.06,
    )
    model = flexolmo.new_anchor_model(config, seed=7)
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
        specs = expert_tensor_specs(config)
        tensors = {key: torch.randn(s, generator=chance) * scale for key, s in specs.items()}
        bundle.write_expert(folder / "expert", tensors, anchor_digest, shared, recipe={})
        return ExpertRef(name, store.put_expert(folder / "expert"))

    refs = {name: put(name, 0.06) for name in NAMES}
    poisoned = {name: put(name, torch.nan) for name in NAMES}
    tokens = words.encode(TEXT * 4).ids
    windows = tuple(tuple(tokens[i : i + 16]) for i in range(32))
    prompts = tuple(str(words.decode(list(ids))) for ids in windows)
    again = tuple(tuple(words.encode(prompt).ids) for prompt in prompts)
    return World(store, anchor_digest, refs, poisoned, prompts, again)


class Bench:
    """An engine driven by hand, and how long it takes over a list of asks."""

    def __init__(
        self, world: World, refs: Sequence[ExpertRef], rows: int, layout: Layout | None = None
    ) -> None:
        self._world, self._numbers = world, itertools.count()
        authority = AlwaysPermitted([*world.refs.values(), *refs])
        self.engine = Engine(
            world.store, world.anchor_digest, authority, max_rows=rows, layout=layout
        )
        for ref in refs:
            self.engine.load(ref)

    def answers(self, asks: Sequence[Ask]) -> list[Answer]:
        """Submit all at once, run to the end, and return what each got."""
        heard: list[list[Delta | Done | Refused]] = [[] for _ in asks]
        for ask, messages in zip(asks, heard, strict=True):
            self.engine.submit(self._order(ask), messages.append)
        while self.engine.step():
            pass
        return [_answer(messages) for messages in heard]

    def rate(self, asks: Sequence[Ask]) -> float:
        """Tokens a second of processor time."""
        start = time.process_time()
        tokens = sum(len(ids) for ids, _, _ in self.answers(asks))
        return tokens / (time.process_time() - start)

    def _order(self, ask: Ask) -> GenerationOrder:
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


def mixed_equals_alone(world: World, record: Record, n_prompts: int) -> None:
    """Every set in one batch, experts resident, against an engine that never loaded the others."""
    asks = [
        Ask(names, p, Sampling(24, temperature=float(p % 2), seed=p), score=True)
        for p in range(n_prompts)
        for names in SETS
    ]
    mixed = Bench(world, list(world.refs.values()), rows=8).answers(asks)
    equal = 0
    for names in SETS:
        bare = Bench(world, [world.refs[name] for name in names], rows=8)
        for ask, seen in zip(asks, mixed, strict=True):
            if ask.names == names:
                equal += bare.answers([ask])[0] == seen and seen[2]
    record.row("mixed batch = alone, never loaded", requests=len(asks), equal=equal)
    record.claim("engine.mixed_equals_alone", equal / len(asks), "share", "== 1")


def differs_from_stock(world: World, record: Record, n_prompts: int) -> None:
    """Prompt log-probabilities against transformers on the physically smaller model."""
    bench = Bench(world, list(world.refs.values()), rows=8)
    asks = [
        Ask(names, p, Sampling(0), k, score=True)
        for names in SETS
        for k in range(1, len(NAMES) + 2)
        for p in range(n_prompts)
    ]
    worst = 0.0
    models: dict[tuple[str, ...], FlexOlmoForCausalLM] = {}
    for ask, (_, scores, _) in zip(asks, bench.answers(asks), strict=True):
        if ask.names not in models:
            experts = {name: world.refs[name].digest for name in ask.names}
            models = {ask.names: flexolmo.assemble(world.store, world.anchor_digest, experts)}
        model = models[ask.names]
        for layer in model.model.layers:
            layer.mlp.gate.top_k = min(ask.top_k, len(ask.names) + 1)
        ids = torch.tensor([world.prompt_ids[ask.prompt]])
        with torch.inference_mode():
            logs = torch.log_softmax(model(ids).logits[0, :-1], dim=-1)
        stock = logs.gather(1, ids[0, 1:, None])[:, 0].tolist()
        ours = [score for score in scores if score is not None]
        gaps = [abs(a - b) for a, b in zip(ours, stock, strict=True)]
        worst = max(worst, *gaps)
    record.row("against stock transformers, fp32", requests=len(asks), max_abs_diff=worst)
    record.claim("engine.max_abs_diff_hf", worst, "nats", "<= 1e-5")


def nan_reaches_output(world: World, record: Record, sets: Sequence[tuple[str, ...]]) -> None:
    """Requests that change when every expert they are not allowed is full of NaN."""
    reached = asked = 0
    for layout, names in itertools.product(Layout, sets):
        kept = [world.refs[name] for name in names]
        nan = [world.poisoned[name] for name in NAMES if name not in names]
        clean, poisoned = Bench(world, kept, 8, layout), Bench(world, kept + nan, 8, layout)
        asks = [Ask(names, k, Sampling(12, temperature=0), k, score=True) for k in (1, 2, 3, 4)]
        for a, b in zip(clean.answers(asks), poisoned.answers(asks), strict=True):
            asked, reached = asked + 1, reached + int(a != b or not b[2])
    record.row("denied experts full of NaN", requests=asked, reached=reached)
    record.claim("engine.nan_reached_output", reached, "requests", "== 0")


def against_generate(world: World, record: Record, n_tokens: int, repeats: int) -> None:
    """Tokens a second of processor time, the engine against `generate()`, batch by batch."""
    experts = {name: ref.digest for name, ref in world.refs.items()}
    stock = flexolmo.assemble(world.store, world.anchor_digest, experts, TOP_K)
    stock.generation_config.eos_token_id = None
    bench = Bench(world, list(world.refs.values()), rows=32)
    for batch, bound in ((1, ">= 1.4"), (8, ">= 1.5"), (32, ">= 1.3")):
        asks = [Ask(NAMES, p, Sampling(n_tokens, temperature=0)) for p in range(batch)]
        ids = torch.tensor([(world.prompt_ids[p] * 2)[:16] for p in range(batch)])
        bench.rate(asks)  # kernels are made on first use
        kernel = max(KERNELS, key=lambda k: _generate_rate(stock, k, ids, n_tokens))
        # In pairs, so that a slow moment hits both sides; the middle pair counts.
        pairs = [
            (bench.rate(asks), _generate_rate(stock, kernel, ids, n_tokens)) for _ in range(repeats)
        ]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        record.row(
            "engine and generate()",
            batch=batch,
            kernel=kernel,
            engine=ours,
            stock=theirs,
            ratio=ratio,
        )
        record.claim(f"engine.ratio_generate_b{batch}", ratio, "times", bound)


def _generate_rate(
    stock: FlexOlmoForCausalLM, kernel: str, ids: torch.Tensor, n_tokens: int
) -> float:
    stock.set_experts_implementation(kernel)
    start = time.process_time()
    with torch.inference_mode():
        found = stock.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_tokens, do_sample=False
        )
    return found[:, ids.shape[1] :].numel() / (time.process_time() - start)


def sharing(world: World, record: Record, n_tokens: int, repeats: int) -> None:
    """Eight sets in one batch, in turn, and eight times the same set in one batch."""
    bench = Bench(world, list(world.refs.values()), rows=8)
    greedy = Sampling(n_tokens, temperature=0)
    mixed = [Ask(names, p, greedy) for p, names in enumerate(SETS)]
    uniform = [Ask(NAMES, p, greedy) for p in range(len(SETS))]

    def in_turn() -> float:
        start = time.process_time()
        tokens = sum(len(bench.answers([ask])[0][0]) for ask in mixed)
        return tokens / (time.process_time() - start)

    ways: dict[str, Callable[[], float]] = {
        "mixed": lambda: bench.rate(mixed),
        "uniform": lambda: bench.rate(uniform),
        "in turn": in_turn,
    }
    best = dict.fromkeys(ways, 0.0)
    for _ in range(repeats):
        for way, rate in ways.items():
            best[way] = max(best[way], rate())
    for way, rate_found in best.items():
        record.row("eight sets", way=way, tokens_per_s=rate_found)
    record.claim("engine.sharing_8", best["mixed"] / best["in turn"], "times", ">= 3.5")
    record.claim("engine.mixing_cost", 1 - best["mixed"] / best["uniform"], "share", "<= 0.05")


def main() -> int:
    """Run all parts and return the exit status."""
    chosen = options(__doc__ or "")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_tokens, repeats, n_prompts = (48, 5, 4) if chosen.quick else (96, 9, 16)
    settings = {
        "hidden": HIDDEN, "ffn": FFN, "layers": LAYERS, "vocab": VOCAB, "experts": len(NAMES) + 1,
        "top_k": TOP_K, "dtype": "float32", "threads": 1, "prompt_tokens": 16,
        "new_tokens": n_tokens, "repeats": repeats, "clock": "process_time",
    }  # fmt: skip
    record = Record("engine", settings, chosen)
    with tempfile.TemporaryDirectory() as folder:
        world = build_world(Path(folder))
        mixed_equals_alone(world, record, n_prompts)
        differs_from_stock(world, record, n_prompts // 4)
        nan_reaches_output(world, record, SETS[:-1:3] if chosen.quick else SETS[:-1])
        against_generate(world, record, n_tokens, repeats)
        sharing(world, record, n_tokens, repeats)
    return record.finish()


if __name__ == "__main__":
    raise SystemExit(main())
