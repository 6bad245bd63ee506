"""Does a runner stay as it is for hours, while experts come and go under its answers?

    python -m bench.soak [--minutes 20] [--quick] --json FILE

A runner process of the product with the real engine and a small random model answers `STREAMS`
clients under a real lease. All the while one expert after another is withdrawn, and when few are
left, fresh ones are granted and promoted. Every ten seconds its resident memory is noted. Memory
must not grow, no answer may end otherwise than well unless its expert was withdrawn, and then not
in an error either, and of an expert withdrawn no token may arrive later than `READ_LATE_S` after
the withdrawal was effective. Clients pause, so that it runs beside others.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import torch

from bench import database
from bench import engine_world as models
from bench.record import Record, options
from bench.withdrawal_stage import READ_LATE_S, Stage, wait_for
from modelops.artefacts import bundle
from modelops.artefacts.manifest import shared_digests
from modelops.artefacts.tensors import expert_tensor_specs
from modelops.contract import (
    Delta,
    Done,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    Sampling,
    from_wire,
    to_wire,
)
from modelops.model import flexolmo

STREAMS, EXPERTS, LEASE_S = 4, 4, 10.0
WITHDRAW_EVERY_S, PAUSE_S = 3.0, 0.2
WELL = (FinishReason.STOP, FinishReason.LENGTH)


class LivingStage(Stage):
    """A stage whose experts have weights: fresh ones in the store for every build."""

    def __init__(self, world: models.World) -> None:
        super().__init__(EXPERTS)
        self.world, self._seed = world, 0
        self._config = flexolmo.load_config(world.store, world.anchor_digest)
        self._anchor.digest = world.anchor_digest
        self._anchor.save()

    def _license(self, first: int, at: datetime) -> None:
        from governance.models import ExpertRevision

        super()._license(first, at)
        for name, invented in self.refs.items():
            digest = self._put()
            ExpertRevision.objects.filter(digest=invented.digest).update(digest=digest)
            self.refs[name] = ExpertRef(name, digest)

    def order(self, name: str) -> GenerationOrder:
        """An order of one expert, on the anchor there is."""
        return replace(
            super().order(name),
            anchor_digest=self.world.anchor_digest,
            prompt="Whoever lends a text may take it back",
        )

    def _put(self) -> str:
        self._seed += 1
        chance = torch.Generator().manual_seed(self._seed)
        tensors = {
            key: torch.randn(size, generator=chance) * 0.06
            for key, size in expert_tensor_specs(self._config).items()
        }
        anchor = self.world.store.anchor(self.world.anchor_digest)
        with tempfile.TemporaryDirectory() as folder:
            shared = shared_digests(anchor)
            anchor_digest = self.world.anchor_digest
            bundle.write_expert(Path(folder), tensors, anchor_digest, shared, recipe={})
            return self.world.store.put_expert(Path(folder))


@dataclass
class Found:
    """What the clients saw; each list is appended to by many threads and read at the end."""

    ends: Counter[str] = field(default_factory=Counter)
    withdrawn: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    tokens_at: dict[str, list[float]] = field(default_factory=dict)
    effective_at: dict[str, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.tokens_at.values()))

    def late(self) -> int:
        """Tokens read after the expert that made them was withdrawn, and the time to read them."""
        return sum(
            at > effective_at + READ_LATE_S
            for name, effective_at in self.effective_at.items()
            for at in self.tokens_at.get(name, ())
        )


def keep_asking(
    url: str, live: dict[str, GenerationOrder], found: Found, stop: threading.Event
) -> None:
    """One client: answer after answer of whichever expert is there."""
    chance = random.Random(threading.get_ident())
    while not stop.wait(PAUSE_S):
        if not (orders := list(live.items())):
            continue
        name, order = chance.choice(orders)
        sampling = Sampling(max_tokens=150, seed=chance.randrange(2**40))
        order = replace(order, order_id=str(uuid4()), decision_id=str(uuid4()), sampling=sampling)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(60)
                line.connect(url.removeprefix("unix://"))
                line.sendall(to_wire(order))
                with line.makefile("rb") as lines:
                    for text in lines:
                        message = from_wire(text)
                        if isinstance(message, Delta):
                            now = [time.time()] * len(message.token_ids)
                            found.tokens_at.setdefault(name, []).extend(now)
        except OSError as error:
            found.errors.append(str(error))
            continue
        if isinstance(message, Done):
            end = message.finish_reason.value
            is_cut = end == FinishReason.CONTENT_FILTER and name in found.withdrawn
            is_well = message.finish_reason in WELL or is_cut
        else:  # not begun: asked too late, or too early
            end, is_well = message.reason.value, name not in live
        found.ends[end] += 1
        if not is_well:
            found.errors.append(f"{name}: {message}")


def soak(
    url: str, pid: int, stage: LivingStage, minutes: float, look_s: float
) -> tuple[Found, list[float]]:
    """Grants and withdrawals for so long; what the clients found, and the memory in MB."""
    from worker.tasks import enforcement

    found, live, stop = Found(), dict[str, GenerationOrder](), threading.Event()
    clients = [
        threading.Thread(target=keep_asking, args=(url, live, found, stop), daemon=True)
        for _ in range(STREAMS)
    ]
    memory_mb: list[float] = []
    until_s, look_at_s = time.monotonic() + minutes * 60, 0.0
    for client in clients:
        client.start()
    while time.monotonic() < until_s:
        if len(live) < 2:
            live.clear()
            names = stage.promote()
            wait_for(url, names[-1])
            live.update({name: stage.order(name) for name in names})
        time.sleep(WITHDRAW_EVERY_S)
        name = min(live)
        del live[name]
        found.withdrawn.add(name)
        withdrawal = stage.withdraw(name)
        enforcement.settle(withdrawal, lambda: None)
        withdrawal.refresh_from_db()
        found.effective_at[name] = withdrawal.quiesced_at.timestamp()
        if time.monotonic() >= look_at_s:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            memory_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            look_at_s = time.monotonic() + look_s
    stop.set()
    for client in clients:
        client.join(timeout=90)
    return found, memory_mb


def main() -> int:
    """Run it, print, write the record."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float)
    own, rest = parser.parse_known_args()
    chosen = options(__doc__ or "", rest)
    minutes = own.minutes or (0.6 if chosen.quick else 20.0)
    settings = {
        "minutes": minutes, "streams": STREAMS, "experts": EXPERTS, "lease_s": LEASE_S,
        "withdraw_every_s": WITHDRAW_EVERY_S, "model": models.SMALL.settings(),
    }  # fmt: skip
    record = Record("soak", settings, chosen)
    with database.fresh() as home, tempfile.TemporaryDirectory() as folder:
        world = models.build_world(Path(folder), models.SMALL)
        stage, url = LivingStage(world), f"unix://{home / 'soak.sock'}"
        runner = subprocess.Popen(
            [
                *(sys.executable, "-m", "worker.runner.main", "--name", "soak", "--url", url),
                *("--lease-s", str(LEASE_S)),
            ],
            env=os.environ | {"RECLAIM_STORE": str(Path(folder) / "store")},
        )
        try:
            found, memory_mb = soak(url, runner.pid, stage, minutes, 2.0 if chosen.quick else 10.0)
        finally:
            runner.terminate()
            runner.wait(timeout=30)
    quarter = max(1, len(memory_mb) // 4)
    second, last = memory_mb[quarter : 2 * quarter], memory_mb[-quarter:]
    for at in range(0, len(memory_mb), quarter):
        mb = statistics.median(memory_mb[at : at + quarter])
        record.row("resident memory of the runner", look=at, median_mb=mb)
    record.row("streams", withdrawals=len(found.effective_at), tokens=found.tokens, **found.ends)
    for error in found.errors[:10]:
        record.row("error", detail=error)
    growth = statistics.median(last) / statistics.median(second or last) - 1
    record.claim("soak.memory_growth", growth, "share", "<= 0.02")
    record.claim("soak.errors", len(found.errors), "answers", "== 0")
    record.claim("soak.late_tokens", found.late(), "tokens", "== 0")
    return record.finish()


if __name__ == "__main__":
    raise SystemExit(main())
