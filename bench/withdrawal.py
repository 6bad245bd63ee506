"""How long a withdrawal takes until no runner can release what the expert made.

    python -m bench.withdrawal [--quick] --json FILE

Eight runner processes answer one licensed stream each, under real leases on a real PostgreSQL. One
expert after another is withdrawn; the coordinator counts acknowledgements as the product's does.
The stub engine writes into each word when it released it: a word is late if that was after the
withdrawal was effective, or if it was still arriving `READ_LATE_S` after it. Then the real engine,
loaded and answering, is told to withdraw an expert: how long until the weights are out of memory.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import database
from bench.record import Record, options
from modelops.contract import (
    Delta,
    Done,
    EndCause,
    ExpertRef,
    GenerationOrder,
    Refused,
    Sampling,
    from_wire,
    to_wire,
)

RUNNERS = 8
EXPERTS = 12
"""Licensed experts in a build; the engine's router has room for 15."""

LEASE_S = 10.0
TOKEN_S = 0.02
READ_LATE_S = 0.25
"""How late a busy machine may let a reader see what had been written before."""

_ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run both parts, print, write the record."""
    wanted = options(__doc__ or "")
    withdrawals, unloads = (40, 20) if wanted.quick else (300, 100)
    settings = {
        "runners": RUNNERS,
        "experts": EXPERTS,
        "withdrawals": withdrawals,
        "lease_s": LEASE_S,
        "token_s": TOKEN_S,
        "unloads": unloads,
    }
    record = Record("withdrawal", settings, wanted)
    with database.fresh() as home:
        measure_enforcement(record, home, withdrawals)
    measure_unloading(record, unloads)
    return record.finish()


# ── Enforcement ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Listener:
    """A stream of one runner, read in a thread; words as the instants they were released at."""

    url: str
    order: GenerationOrder
    released_at: list[float] = field(default_factory=list)
    read_at: list[float] = field(default_factory=list)
    end: Done | Refused | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(self.url.removeprefix("unix://"))
            line.sendall(to_wire(self.order))
            with line.makefile("rb") as lines:
                for text in lines:
                    message = from_wire(text)
                    if isinstance(message, Delta):
                        self.read_at.append(time.time())
                        self.released_at.append(float(message.text))
                    elif isinstance(message, Done | Refused):
                        self.end = message

    def join(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(timeout=30)

    def late(self, effective_at: float) -> int:
        """Words that left after `effective_at`, in seconds since 1970."""
        released = sum(at > effective_at for at in self.released_at)
        return max(released, sum(at > effective_at + READ_LATE_S for at in self.read_at))


def measure_enforcement(record: Record, home: Path, withdrawals: int) -> None:
    """Withdraw one expert after another under load, and look for late words."""
    stage = _Stage()
    quiesced_ms: list[float] = []
    commit_ms: list[float] = []
    late = by_expiry = streams = 0
    names = stage.promote()
    with _runners(home) as urls:
        for _ in range(withdrawals):
            names = names or stage.promote()
            name = names.pop(0)
            for url in urls:
                _wait_for(url, name)
            listeners = [Listener(url, stage.order(name)) for url in urls]
            while not all(listener.released_at or listener.end for listener in listeners):
                time.sleep(0.002)
            committed_ms, settled_ms, withdrawal = stage.withdraw(name)
            commit_ms.append(committed_ms)
            quiesced_ms.append(settled_ms)
            by_expiry += withdrawal.quiesced_by != "acks"
            for listener in listeners:
                listener.join()
                late += listener.late(withdrawal.quiesced_at.timestamp())
                streams += _was_cut(listener)
    record.row("commit", **_spread(commit_ms))
    record.row("commit to quiesced", **_spread(quiesced_ms))
    record.row("streams cut", streams=streams, withdrawals=withdrawals, settled_by_expiry=by_expiry)
    record.claim("withdrawal.quiesced_p99_ms", _at(quiesced_ms, 0.99), "ms", "<= 100")
    record.claim("withdrawal.late_tokens", late, "tokens", "== 0")


def _was_cut(listener: Listener) -> bool:
    end = listener.end
    return isinstance(end, Done) and end.cause is EndCause.CONSENT_WITHDRAWN


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": statistics.median(values),
        "p95_ms": _at(values, 0.95),
        "p99_ms": _at(values, 0.99),
        "max_ms": max(values),
    }


def _at(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie, without interpolating."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class _Stage:
    """One promoted build after another, each of `EXPERTS` experts licensed to one consumer."""

    def __init__(self) -> None:
        from governance.models import Anchor, Consumer

        self._anchor = Anchor.objects.create(digest="a" * 64, title="bench")
        Consumer.objects.create(slug="bench", name="Bench", territory="NL")
        self.experts: dict[str, tuple[Any, str]] = {}
        self.refs: dict[str, ExpertRef] = {}
        self._builds = 0

    def promote(self) -> list[str]:
        """Serve a build of fresh experts from now on; their names."""
        from django.utils import timezone

        from governance.models import Build
        from governance.services import snapshots
        from governance.vocabulary import BuildState

        at = timezone.now()
        first = self._builds * EXPERTS
        self._builds += 1
        names = [f"expert-{number:04}" for number in range(first, first + EXPERTS)]
        for number, name in enumerate(names, start=first):
            self.experts[name] = _expert(name, number, self._anchor, at)
        refs = [ExpertRef(name, self.experts[name][1]) for name in names]
        self.refs = {ref.name: ref for ref in refs}
        Build.objects.filter(state=BuildState.PROMOTED).update(state=BuildState.RETIRED)
        # Each withdrawal plans a build of its own, so the numbers in use are not ours to know.
        number = Build.objects.order_by("-number").values_list("number", flat=True).first() or 0
        build = Build.objects.create(
            number=number + 1,
            digest=f"{self._builds:064x}",
            anchor=self._anchor,
            experts=[{"name": ref.name, "digest": ref.digest} for ref in refs],
            top_k=4,
            state=BuildState.PROMOTED,
            proof={"bench": True},
        )
        snapshots.publish(reason="bench", build=build, at=at)
        return names

    def order(self, name: str) -> GenerationOrder:
        """An endless order that may route to one expert."""
        return GenerationOrder(
            order_id=str(uuid4()),
            decision_id=str(uuid4()),
            policy_epoch=0,
            build_digest=f"{self._builds:064x}",
            anchor_digest="a" * 64,
            allowed=(self.refs[name],),
            top_k=4,
            prompt="bench",
            sampling=Sampling(max_tokens=10**6),
            ask={"consumer": "bench", "purpose": "research", "territory": "NL"},
        )

    def withdraw(self, name: str) -> tuple[float, float, Any]:
        """Commit and coordinate; (ms of the commit, ms from there until quiesced, the row)."""
        from django.utils import timezone

        from governance.services import consent
        from worker.tasks import enforcement

        began_s = time.perf_counter()
        row = consent.withdraw(self.experts[name][0], by=None, at=timezone.now(), method="bench")
        seen_s = time.perf_counter()
        enforcement.settle(row, lambda: None)
        settled_s = time.perf_counter()
        row.refresh_from_db()
        return (seen_s - began_s) * 1e3, (settled_s - seen_s) * 1e3, row


def _expert(name: str, number: int, anchor: Any, at: Any) -> tuple[Any, str]:
    from datetime import timedelta

    from governance.models import (
        Account,
        Corpus,
        DataOwner,
        Expert,
        ExpertRevision,
        Finding,
        Licence,
    )
    from governance.vocabulary import ExpertState, LicenceState, RevisionState, Verdict

    owner, _ = DataOwner.objects.get_or_create(
        slug="bench", defaults={"legal_name": "Bench", "jurisdiction": "NL"}
    )
    asker, _ = Account.objects.get_or_create(email="asker@bench.example")
    decider, _ = Account.objects.get_or_create(email="decider@bench.example")
    corpus = Corpus.objects.create(owner=owner, slug=name, title=name, source_licence="own")
    Licence.objects.create(
        reference=f"B-{number}",
        corpus=corpus,
        uses=["train", "answer"],
        purposes=["research"],
        starts_at=at - timedelta(days=1),
        terms_digest="c" * 64,
        state=LicenceState.APPROVED,
        requested_by=asker,
        requested_at=at,
        decided_by=decider,
        decided_at=at,
    )
    expert = Expert.objects.create(
        name=name, title=name, owner=owner, corpus=corpus, state=ExpertState.ACTIVE
    )
    digest = f"{number:064x}"
    revision = ExpertRevision.objects.create(
        expert=expert,
        number=1,
        digest=digest,
        weights_digest=digest,
        anchor=anchor,
        state=RevisionState.ACTIVATED,
    )
    Finding.objects.create(
        revision=revision,
        verdict=Verdict.PASS,
        rate=0,
        rate_low=0,
        rate_high=0.001,
        threshold=0.01,
        seed=1,
    )
    return expert, digest


@contextmanager
def _runners(home: Path) -> Iterator[list[str]]:
    urls = [f"unix://{home / f'r{number}.sock'}" for number in range(RUNNERS)]
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.stub_runner"),
                *("--name", f"runner-{number}", "--url", url),
                *("--lease-s", str(LEASE_S), "--token-s", str(TOKEN_S)),
            ],
            cwd=_ROOT,
            env={**os.environ, "RECLAIM_LOG_LEVEL": "ERROR"},
        )
        for number, url in enumerate(urls)
    ]
    try:
        yield urls
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


def _wait_for(url: str, expert: str) -> None:
    import json

    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.connect(url.removeprefix("unix://"))
                line.sendall(b'{"kind": "health"}\n')
                with line.makefile("rb") as lines:
                    said = json.loads(lines.readline())
            if said["policy_epoch"] and expert in said["loaded"]:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"expected a runner at {url} within 60 s, found none; see its output")


# ── Unloading ────────────────────────────────────────────────────────────────────────────────────


def measure_unloading(record: Record, unloads: int) -> None:
    """`withdraw` to weights out of memory, in the real engine while it answers."""
    from bench import engine as models
    from modelops.engine import Engine

    with tempfile.TemporaryDirectory() as folder:
        world = models.build_world(Path(folder))
        refs = tuple(sorted(world.refs.values()))
        engine = Engine(world.store, world.anchor_digest, models.AlwaysPermitted(refs), max_rows=8)
        engine.start()
        taken_ms, cut = [], 0
        for number in range(unloads):
            taken, ended = _unload_once(engine, world, refs, refs[number % len(refs)])
            taken_ms.append(taken)
            cut += ended
        engine.close()
    record.row("withdraw to unloaded, 8 streams", **_spread(taken_ms))
    record.row("streams it ended", streams=cut, withdrawals=unloads)
    record.claim("withdrawal.unload_ms", statistics.median(taken_ms), "ms", "<= 10")


def _unload_once(
    engine: Any, world: Any, refs: tuple[ExpertRef, ...], gone: ExpertRef
) -> tuple[float, int]:
    for ref in refs:
        engine.load(ref)
    begun = threading.Semaphore(0)
    for number in range(8):
        order = GenerationOrder(
            order_id=str(uuid4()),
            decision_id="",
            policy_epoch=1,
            build_digest="",
            anchor_digest=world.anchor_digest,
            allowed=refs if number % 2 else tuple(ref for ref in refs if ref != gone),
            top_k=2,
            prompt=world.prompts[number],
            sampling=Sampling(max_tokens=200, temperature=0.0),
        )
        engine.submit(order, lambda _: begun.release())
    for _ in range(24):
        begun.acquire(timeout=10)
    began_s = time.perf_counter()
    ack = engine.withdraw(gone.name, 2)
    taken_ms = (time.perf_counter() - began_s) * 1e3
    for ref in refs:
        engine.unload(ref.name)  # ends what still runs, before the next round
    return taken_ms, len(ack.streams_ended)


if __name__ == "__main__":
    raise SystemExit(main())
