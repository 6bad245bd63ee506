"""Does the demo's training make experts whose withdrawal is felt by their own domain alone?

Trains the demo's anchor and one expert an owner with the demo's own recipes, then measures bits a
byte on held-out text of every domain: with all experts, and with each one physically removed.
Every run has one thread and two experts train at a time: on shared cores, two threads of one run
mostly wait for each other. `RECLAIM_CORPORA` may name a folder of set folders to use instead of
the installed text, `RECLAIM_CLOSED` the closed ones among them, with commas.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.record import Options, Record, options
from modelops.artefacts.store import Store
from modelops.corpus import installed, split
from modelops.corpus.jsonl import Document
from modelops.model import flexolmo, tokenizer
from modelops.training import anchor, batches, evaluation, expert, recipe
from modelops.training.recipe import AnchorRecipe, ExpertRecipe, Schedule

TOP_K = 4
EVALUATION_BYTES = 60_000


def main() -> int:
    """Run for each seed, print, write the record."""
    wanted = options(__doc__ or "")
    seeds = (0,) if wanted.quick else (0, 1)
    record = Record("demo_quality", _settings(wanted), wanted)
    with tempfile.TemporaryDirectory() as scratch:
        corpora = _corpora(Path(scratch) / "corpora")
        if wanted.quick:
            corpora = dict(sorted(corpora.items())[1:])  # two owners instead of three
        worst = [_measure(record, corpora, Path(scratch) / f"{seed}", seed) for seed in seeds]
    least = 0.5 if wanted.quick else 5  # a quick run learns little; the other bound is the same
    record.claim("demo.gain_own_min", min(w[0] for w in worst), "%", ">= 0.5")
    record.claim("demo.removal_own_min", min(w[1] for w in worst), "%", f">= {least}")
    record.claim("demo.removal_other_max", max(w[2] for w in worst), "%", "<= 5")
    record.claim("demo.training_s", max(w[3] for w in worst), "s")
    return record.finish()


def recipes(seed: int, *, quick: bool) -> tuple[AnchorRecipe, ExpertRecipe]:
    """The demo's recipes; `quick` cuts the steps and nothing else."""
    first, other = recipe.demo_anchor(seed), recipe.demo_expert(seed)
    if not quick:
        return first, other
    first = dataclasses.replace(first, schedule=Schedule(steps=70, warmup_steps=12))
    return first, dataclasses.replace(other, schedule=Schedule(steps=40, warmup_steps=6))


def _settings(wanted: Options) -> dict[str, object]:
    first, other = recipes(0, quick=wanted.quick)
    return {
        "anchor": recipe.as_fields(first),
        "expert": recipe.as_fields(other),
        "top_k": TOP_K,
        "corpora": "RECLAIM_CORPORA" if "RECLAIM_CORPORA" in os.environ else "installed",
    }


def _corpora(folder: Path) -> dict[str, Path]:
    given = os.environ.get("RECLAIM_CORPORA")
    if given is None:
        return installed.write_all(folder)
    closed = os.environ.get("RECLAIM_CLOSED", "code,news,math").split(",")
    return {name: Path(given) / name for name in ("public", *closed)}


def _measure(
    record: Record, corpora: dict[str, Path], folder: Path, seed: int
) -> tuple[float, float, float, float]:
    """Least own gain, least own loss by removal, greatest other change (%), training seconds."""
    quick = record.options.quick
    store = Store(folder / "store")
    started = time.monotonic()
    anchor_digest = _train_anchor(store, corpora, folder, seed, quick)
    anchored = time.monotonic()
    experts = _train_experts(store, anchor_digest, corpora, folder, seed, quick)
    trained = time.monotonic()
    record.row("time", seed=seed, anchor_s=anchored - started, experts_s=trained - anchored)
    heldout = {
        name: batches.first_bytes(split.read_set(path, b"bench").heldout, EVALUATION_BYTES)
        for name, path in sorted(corpora.items())
    }
    alone = _bits(store, anchor_digest, {}, heldout)
    whole = _bits(store, anchor_digest, experts, heldout)
    record.row("bits a byte, public alone", seed=seed, **alone)
    record.row("bits a byte, all experts", seed=seed, **whole)
    own_changes, other_changes = [], []
    for gone in experts:
        kept = {name: digest for name, digest in experts.items() if name != gone}
        without = _bits(store, anchor_digest, kept, heldout)
        change = {name: 100 * (without[name] / whole[name] - 1) for name in whole}
        record.row(f"change in % without {gone}", seed=seed, **change)
        own_changes.append(change.pop(gone))
        other_changes += [abs(value) for value in change.values()]
    gains = [100 * (1 - whole[name] / alone[name]) for name in experts]
    return min(gains), min(own_changes), max(other_changes), trained - started


def _train_anchor(
    store: Store, corpora: dict[str, Path], folder: Path, seed: int, quick: bool
) -> str:
    first, _ = recipes(seed, quick=quick)
    anchor.train(corpora["public"], folder / "public", first, _quiet, _never)
    return store.put_anchor(folder / "public")


def _train_experts(
    store: Store,
    anchor_digest: str,
    corpora: dict[str, Path],
    folder: Path,
    seed: int,
    quick: bool,
) -> dict[str, str]:
    names = sorted(set(corpora) - {"public"})
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        runs = [
            pool.submit(
                _train_expert, store.root, anchor_digest, corpora, folder / name, seed, quick
            )
            for name in names
        ]
    for run in runs:
        run.result()  # raises what the run raised
    return {name: store.put_expert(folder / name) for name in names}


def _train_expert(
    root: Path, anchor_digest: str, corpora: dict[str, Path], folder: Path, seed: int, quick: bool
) -> None:
    _, other = recipes(seed, quick=quick)
    expert.train(
        Store(root),
        anchor_digest,
        corpora[folder.name],
        folder,
        other,
        _quiet,
        _never,
        public_path=corpora["public"],
    )


def _bits(
    store: Store, anchor_digest: str, experts: dict[str, str], heldout: dict[str, list[Document]]
) -> dict[str, float]:
    words = tokenizer.load(store.path(store.anchor(anchor_digest).tokenizer_digest))
    model = flexolmo.assemble(store, anchor_digest, experts, top_k=TOP_K)
    return {
        name: evaluation.bits_per_byte(model, words, documents)
        for name, documents in heldout.items()
    }


def _quiet(done: int, total: int, note: str, metrics: dict[str, float]) -> None:
    """Progress is not shown: the table is."""


def _never() -> bool:
    return False


if __name__ == "__main__":
    raise SystemExit(main())
