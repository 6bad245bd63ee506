"""The engine on vLLM beside the reference engine: the same tokens, and at what speed.

    python -m bench.vllm [--quick] --json FILE

Needs vLLM installed beside (docs/vllm.md); on a machine without a GPU, its build for CPUs. Equality
is shown on a small random fp32 model for every allowed set, greedy and sampled; speed on the 142 M
parameters of `bench.engine`, in one process, in turns, one thread, processor time.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded

import torch

from bench.engine_world import MODEL_S, SETS, SMALL, Ask, Bench, Shape, World, build_world
from bench.record import Record, options
from modelops.contract import Sampling
from modelops.engine.vllm_plugin import WRITTEN_FOR, vllm_engine

BATCHES = (1, 8, 32)


def same_tokens(world: World, record: Record, n_prompts: int) -> None:
    """Every allowed set, mixed in batches of eight, greedy and sampled from seeds."""
    asks = [
        Ask(names, p, Sampling(24, temperature=float(p % 2), seed=p))
        for p in range(n_prompts)
        for names in SETS
    ]
    refs = list(world.refs.values())
    wanted = Bench(world, refs, 8).answers(asks)
    found = Bench(world, refs, 8, vllm_engine, slots=8, places=4).answers(asks)
    equal = sum(one[0] == other[0] for one, other in zip(found, wanted, strict=True))
    record.row("tokens as the reference engine's, fp32", requests=len(asks), equal=equal)
    record.claim("vllm.equal_tokens", equal / len(asks), "share", "== 1")


def speeds(world: World, shape: Shape, record: Record, n_tokens: int, repeats: int) -> None:
    """Tokens a second of each, turn by turn in the same minutes."""
    refs, name = list(world.refs.values()), str(shape.dtype).removeprefix("torch.")
    ours = Bench(world, refs, max(BATCHES))
    theirs = Bench(world, refs, max(BATCHES), vllm_engine, slots=len(refs) + 1, places=2)
    for batch in BATCHES:
        asks = [Ask(SETS[-1], p, Sampling(n_tokens, temperature=0)) for p in range(batch)]
        rates = [(ours.rate(asks), theirs.rate(asks)) for _ in range(repeats + 1)][1:]
        medians = [statistics.median(rate) for rate in zip(*rates, strict=True)]
        ratio = statistics.median(their / our for our, their in rates)
        record.row(f"decode, {name}", batch=batch, reference=medians[0], vllm=medians[1])
        record.claim(f"vllm.ratio_reference_b{batch}_{name}", ratio, "times")
    withdrawals(theirs, world, record, name)


def withdrawals(bench: Bench, world: World, record: Record, name: str) -> None:
    """From `withdraw` to weights wiped, between two steps of eight running answers."""
    engine, taken_ms, ended = bench.engine, [], 0
    for ref in sorted(world.refs.values()) * 4:
        for p in range(8):
            order = bench.order(Ask((ref.name,), p, Sampling(100, temperature=0)))
            engine.submit(order, lambda _: None)
        for _ in range(3):
            engine.step()
        begun = time.perf_counter()
        ended += len(engine.withdraw(ref.name, 2).streams_ended)
        taken_ms.append((time.perf_counter() - begun) * 1000)
        engine.load(ref)
    record.row(
        f"withdraw to wiped, {name}, 8 answers",
        median_ms=statistics.median(taken_ms),
        worst_ms=max(taken_ms),
        ended=ended,
    )
    engine.close()


def main() -> int:
    wanted = options("The engine on vLLM beside the reference engine.")
    import vllm  # says itself what is missing

    if not vllm.__version__.startswith(WRITTEN_FOR):
        raise SystemExit(f"expected vLLM {WRITTEN_FOR}, found {vllm.__version__}")
    torch.set_num_threads(1)
    n_tokens, repeats = (24, 2) if wanted.quick else (64, 5)
    settings = {"vllm": vllm.__version__, "tokens": n_tokens, "repeats": repeats}
    record = Record("vllm", settings=settings, options=wanted)
    with tempfile.TemporaryDirectory() as folder:
        same_tokens(build_world(Path(folder), SMALL), record, 4 if wanted.quick else 16)
    types = (torch.float32,) if wanted.quick else (torch.float32, torch.bfloat16)
    for dtype in types:
        gc.collect()
        shape = replace(MODEL_S, dtype=dtype)
        with tempfile.TemporaryDirectory() as folder:
            speeds(build_world(Path(folder), shape), shape, record, n_tokens, repeats)
    return record.finish()


if __name__ == "__main__":
    raise SystemExit(main())
