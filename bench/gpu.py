"""The engine on a GPU: equality, tokens a second against transformers, withdrawal.

    python -m bench.gpu --json FILE
    python -m bench.gpu --device cpu --tiny      (whether it runs; its numbers mean nothing)

A model of 1.2 billion parameters with eight experts of random weights, bf16, all eight allowed and
chosen, as in the released checkpoints. Times are those of the clock, after the device has finished.
**It has not been run on a GPU yet.** Without one it refuses, unless told to use the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench.engine_world import SMALL, Ask, Bench, Shape, World, build_world
from bench.record import Options, Record
from modelops.contract import Sampling
from modelops.model import flexolmo

NAMES = ("alder", "birch", "cedar", "elder", "hazel", "maple", "willow")
MODEL = Shape(1024, 3584, 12, 16, 32_000, torch.bfloat16)
TINY = Shape(32, 48, 2, 4, 400, torch.bfloat16)
BATCHES = (1, 8, 32, 64)


@dataclass(frozen=True)
class Chosen:
    """The arguments of a run."""

    device: str
    shape: Shape
    batches: tuple[int, ...]
    n_tokens: int
    repeats: int
    json: Path | None


def chosen(argv: Sequence[str] | None = None) -> Chosen:
    """The arguments, or an end of the process that says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a toy model: whether it runs at all")
    parser.add_argument("--json", type=Path, help="file to write the record to")
    found = parser.parse_args(argv)
    if found.device == "cuda" and not torch.cuda.is_available():
        parser.error("expected a CUDA device, found none; try it with --device cpu --tiny")
    if found.tiny:
        return Chosen(found.device, TINY, BATCHES[:2], 4, 1, found.json)
    return Chosen(found.device, MODEL, BATCHES, 64, 5, found.json)


def settled(device: str) -> float:
    """The time, once the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def denied_change_nothing(device: str, record: Record, dtype: torch.dtype) -> None:
    """Each expert denied: never loaded, loaded, and full of NaN must answer bit for bit alike."""
    with tempfile.TemporaryDirectory() as folder:
        world = build_world(Path(folder), replace(SMALL, dtype=dtype), NAMES)
        asked = unequal = 0
        for gone in NAMES:
            names = tuple(name for name in NAMES if name != gone)
            kept = [world.refs[name] for name in names]
            others = ([], [world.refs[gone]], [world.poisoned[gone]])
            benches = [Bench(world, kept + more, 8, device=device) for more in others]
            asks = [Ask(names, k, Sampling(12, temperature=0), k, score=True) for k in (1, 2, 7)]
            bare, *rest = [bench.answers(asks) for bench in benches]
            for found in rest:
                asked += len(asks)
                unequal += sum(a != b or not b[2] for a, b in zip(bare, found, strict=True))
    name = str(dtype).removeprefix("torch.")
    record.row("denied: never loaded, loaded, NaN", dtype=name, requests=asked, unequal=unequal)
    record.claim(f"gpu.denied_changed_{name}", unequal, "requests", "== 0")


def against_generate(world: World, wanted: Chosen, record: Record) -> None:
    """Tokens a second of both, batch by batch, in pairs."""
    experts = {name: ref.digest for name, ref in world.refs.items()}
    model = flexolmo.assemble(world.store, world.anchor_digest, experts, len(NAMES) + 1)
    model.to(wanted.device, wanted.shape.dtype).generation_config.eos_token_id = None
    bench = Bench(world, list(world.refs.values()), max(wanted.batches), device=wanted.device)
    for batch in wanted.batches:
        greedy = Sampling(wanted.n_tokens, temperature=0)
        asks = [Ask(NAMES, p, greedy, len(NAMES) + 1) for p in range(batch)]
        prompts = [list((world.prompt_ids[p] * 2)[:16]) for p in range(batch)]
        ids = torch.tensor(prompts, device=wanted.device)

        def ours(asks: Sequence[Ask] = asks) -> float:
            start = settled(wanted.device)
            tokens = sum(len(found) for found, _, _ in bench.answers(asks))
            return tokens / (settled(wanted.device) - start)

        def theirs(ids: torch.Tensor = ids) -> float:
            start = settled(wanted.device)
            with torch.inference_mode():
                found = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=wanted.n_tokens,
                    do_sample=False,
                )
            return found[:, ids.shape[1] :].numel() / (settled(wanted.device) - start)

        ours(), theirs()  # kernels are made on first use
        pairs = [(ours(), theirs()) for _ in range(wanted.repeats)]
        mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        record.row(
            "tokens/s", batch=batch, engine=mine, generate=other, ratio=ratio,
            step_gb_s=mine / batch * wanted.shape.step_bytes(len(NAMES) + 1) / 1e9,
        )  # fmt: skip
        record.claim(f"gpu.ratio_generate_b{batch}", ratio, "times")


def withdrawals(world: World, wanted: Chosen, record: Record) -> None:
    """`withdraw` to zeroed and acknowledged, under eight streams that use the expert."""
    refs = list(world.refs.values())
    bench = Bench(world, refs, rows=8, device=wanted.device)
    bench.engine.start()
    taken_ms, ended = [], 0
    for ref in refs:
        begun = threading.Semaphore(0)
        for prompt in range(8):
            ask = Ask((ref.name,), prompt, Sampling(200, temperature=0))
            bench.engine.submit(bench.order(ask), lambda _, begun=begun: begun.release())
        for _ in range(8):
            begun.acquire()
        start = time.perf_counter()
        ack = bench.engine.withdraw(ref.name, 2)
        taken_ms.append((time.perf_counter() - start) * 1e3)
        ended += len(ack.streams_ended)
    bench.engine.close()
    record.row("withdrawals", count=len(refs), streams_ended=ended, max_ms=max(taken_ms))
    record.claim("gpu.withdraw_p50_ms", statistics.median(taken_ms), "ms")


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts and return the exit status."""
    wanted = chosen(argv)
    torch.manual_seed(0)
    device = torch.cuda.get_device_name() if wanted.device == "cuda" else "cpu"
    settings = wanted.shape.settings() | {"device": device, "experts": len(NAMES) + 1}
    record = Record("gpu", settings, Options(quick=wanted.shape is TINY, json=wanted.json))
    for dtype in (torch.float32, torch.bfloat16):
        denied_change_nothing(wanted.device, record, dtype)
    with tempfile.TemporaryDirectory() as folder:
        world = build_world(Path(folder), wanted.shape, NAMES)
        against_generate(world, wanted, record)
        withdrawals(world, wanted, record)
    return record.finish()


if __name__ == "__main__":
    raise SystemExit(main())
