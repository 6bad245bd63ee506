"""What one batch for requests with different rights costs, and that it changes nothing.

    python -m bench.engine [--quick] --json FILE

Equality is shown on a small random fp32 model, speed on model S of the design (142 M parameters,
bf16 and fp32; `--quick` bf16 only), both with the public expert and three licensed ones, on one
thread. Times are processor time of several rounds, so that a busy machine disturbs them little.
The stock side is transformers on the same weights: `generate()` with whichever of its expert
kernels is faster for the batch, and its continuous batching.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import ContinuousBatchingConfig, FlexOlmoForCausalLM, GenerationConfig

from bench.engine_world import (
    MODEL_S,
    NAMES,
    SETS,
    SMALL,
    TOP_K,
    Ask,
    Bench,
    Shape,
    World,
    build_world,
)
from bench.record import Record, options
from modelops.contract import Sampling
from modelops.engine.bank import return_heap
from modelops.engine.linear import Layout
from modelops.model import flexolmo, tokenizer

KERNELS = ("eager", "grouped_mm")


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
        clean, poisoned = (
            Bench(world, kept, 8, layout=layout),
            Bench(world, kept + nan, 8, layout=layout),
        )
        asks = [Ask(names, k, Sampling(12, temperature=0), k, score=True) for k in (1, 2, 3, 4)]
        for a, b in zip(clean.answers(asks), poisoned.answers(asks), strict=True):
            asked, reached = asked + 1, reached + int(a != b or not b[2])
    record.row("denied experts full of NaN", requests=asked, reached=reached)
    record.claim("engine.nan_reached_output", reached, "requests", "== 0")


class Bandwidth:
    """Bytes a second that one thread reads from memory: the best seen while the bench ran."""

    def __init__(self) -> None:
        self._large, self.best = torch.ones(2**25), 0.0

    def look(self) -> None:
        """Read through more than any cache holds, a few times."""
        for _ in range(3):
            start = time.process_time()
            self._large.sum()
            self.best = max(self.best, self._large.nbytes / (time.process_time() - start))


class Stock:
    """transformers on the same weights and prompts: `generate()` and continuous batching."""

    def __init__(self, world: World, shape: Shape) -> None:
        experts = {name: ref.digest for name, ref in world.refs.items()}
        self._world = world
        self._model = flexolmo.assemble(world.store, world.anchor_digest, experts, TOP_K)
        self._model.to(shape.dtype).generation_config.eos_token_id = None

    def rate(self, kernel: str, batch: int, n_tokens: int) -> float:
        """Tokens a second of processor time of `generate()`."""
        self._model.set_experts_implementation(kernel)
        ids = torch.tensor(self._prompts(batch))
        start = time.process_time()
        with torch.inference_mode():
            found = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_tokens, do_sample=False
            )
        return found[:, ids.shape[1] :].numel() / (time.process_time() - start)

    def continuous_rate(self, batch: int, n_tokens: int) -> float:
        """The same of `generate_batch()`; without block sharing, which would leak (see docs)."""
        settings = GenerationConfig(
            max_new_tokens=n_tokens, do_sample=False, eos_token_id=-1, pad_token_id=tokenizer.PAD_ID
        )
        pages = ContinuousBatchingConfig(
            page_size=32, num_blocks=8 * batch, max_batch_tokens=256, allow_block_sharing=False
        )
        start = time.process_time()
        found = self._model.generate_batch(
            self._prompts(batch),
            generation_config=settings,
            continuous_batching_config=pages,
            warmup=False,
        )
        tokens = sum(len(answer.generated_tokens) for answer in found.values())
        return tokens / (time.process_time() - start)

    def _prompts(self, batch: int) -> list[list[int]]:
        return [list((ids * 2)[:16]) for ids in self._world.prompt_ids[:batch]]


def against_stock(world: World, shape: Shape, record: Record, n_tokens: int, repeats: int) -> None:
    """Tokens a second of processor time, the engine against transformers, batch by batch."""
    stock, dtype = Stock(world, shape), str(shape.dtype).removeprefix("torch.")
    bench, bandwidth = Bench(world, list(world.refs.values()), rows=32), Bandwidth()
    for batch, bound in ((1, ">= 1.4"), (8, ">= 1.5"), (32, "")):
        asks = [Ask(NAMES, p, Sampling(n_tokens, temperature=0)) for p in range(batch)]
        bench.rate(asks)  # kernels are made on first use
        kernel = max(KERNELS, key=lambda k: stock.rate(k, batch, n_tokens))
        # In pairs, so that a slow moment hits both sides; the middle of the ratios counts.
        pairs = []
        for _ in range(repeats):
            pairs.append((bench.rate(asks), stock.rate(kernel, batch, n_tokens)))
            bandwidth.look()
        continuous = [stock.continuous_rate(batch, n_tokens) for _ in range(3)]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(mine / other for mine, other in pairs)
        step_bytes = shape.step_bytes(TOP_K if batch == 1 else len(NAMES) + 1)
        record.row(
            "engine and transformers, tokens/s",
            dtype=dtype,
            batch=batch,
            engine=ours,
            generate=theirs,
            kernel=kernel,
            continuous=statistics.median(continuous[1:]),
            ratio=ratio,
            share_of_bandwidth_limit=ours * step_bytes / batch / bandwidth.best,
            bandwidth_gb_s=bandwidth.best / 1e9,
        )
        suffix = "" if shape.dtype is torch.bfloat16 else f"_{dtype}"
        record.claim(f"engine.ratio_generate_b{batch}{suffix}", ratio, "times", bound)


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
    rounds = [{way: rate() for way, rate in ways.items()} for _ in range(repeats)]
    for way in ways:
        record.row(
            "eight sets", way=way, tokens_per_s=statistics.median(found[way] for found in rounds)
        )
    gain = statistics.median(found["mixed"] / found["in turn"] for found in rounds)
    cost = statistics.median(1 - found["mixed"] / found["uniform"] for found in rounds)
    record.claim("engine.sharing_8", gain, "times", ">= 3.5")
    record.claim("engine.mixing_cost", cost, "share", "<= 0.05")


def memory_returns(world: World, record: Record) -> None:
    """Unload an expert that has been used, and see what the process has in memory then."""
    shares = []
    for layout in (Layout.PACKED, Layout.MAPPED):
        bench = Bench(world, list(world.refs.values()), rows=1, layout=layout)
        bench.answers([Ask(NAMES, 0, Sampling(4, temperature=0), top_k=4)])
        gc.collect()
        return_heap()  # what earlier parts left behind is not the expert's
        before, start = resident_bytes(), time.perf_counter()
        freed = bench.engine.unload(NAMES[1])
        took_ms = (time.perf_counter() - start) * 1000
        returned = before - resident_bytes()
        shares.append(returned / freed)
        record.row("unload", layout=layout.value, freed=freed, returned=returned, took_ms=took_ms)
    record.claim("engine.unload_returns", min(shares), "share", ">= 0.9")


def resident_bytes() -> int:
    """What of this process is in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run all parts and return the exit status."""
    chosen = options(__doc__ or "")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    n_tokens, repeats, n_prompts = (24, 3, 4) if chosen.quick else (48, 7, 8)
    settings = {
        "equality": SMALL.settings(), "speed": MODEL_S.settings(), "experts": len(NAMES) + 1,
        "top_k": TOP_K, "threads": 1, "prompt_tokens": 16, "new_tokens": n_tokens,
        "repeats": repeats, "clock": "process_time",
    }  # fmt: skip
    record = Record("engine", settings, chosen)
    with tempfile.TemporaryDirectory() as folder:
        world = build_world(Path(folder), SMALL)
        mixed_equals_alone(world, record, n_prompts)
        differs_from_stock(world, record, n_prompts // 4)
        nan_reaches_output(world, record, SETS[:-1:3] if chosen.quick else SETS[:-1])
    for dtype in (torch.bfloat16,) if chosen.quick else (torch.bfloat16, torch.float32):
        shape_S = replace(MODEL_S, dtype=dtype)
        with tempfile.TemporaryDirectory() as folder:
            world = build_world(Path(folder), shape_S)
            against_stock(world, shape_S, record, n_tokens, repeats)
            if dtype is torch.bfloat16:
                sharing(world, record, n_tokens, repeats)
                memory_returns(world, record)
    return record.finish()


if __name__ == "__main__":
    raise SystemExit(main())
