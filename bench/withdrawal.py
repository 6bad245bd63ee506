"""How long a withdrawal takes until no runner can release what the expert made.

    python -m bench.withdrawal [--quick] --json FILE

Eight runner processes answer one licensed stream each, under real leases on a real PostgreSQL. One
expert after another is withdrawn; the coordinator counts acknowledgements as the product's does.
First the runners hear NOTIFY, then others that hear nothing and only ask every third of a lease.
The stub engine writes into each word when it released it: a word is late if that was after the
withdrawal was effective, or if it was still arriving `READ_LATE_S` after it. Then the real engine,
loaded and answering, is told to withdraw an expert: how long until the weights are out of memory.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import database
from bench.record import Record, options, percentile, spread_ms
from bench.withdrawal_stage import Reader, Stage, runners, wait_for
from modelops.contract import Done, EndCause, ExpertRef, GenerationOrder, Sampling

RUNNERS = 8
EXPERTS = 12
"""Licensed experts in a build; the engine's router has room for 15."""

LEASE_S, POLLED_LEASE_S = 10.0, 3.0
TOKEN_S = 0.02


def main() -> int:
    """Run all parts, print, write the record."""
    wanted = options(__doc__ or "")
    pushed, polled, unloads = (60, 8, 20) if wanted.quick else (1000, 60, 100)
    settings = {
        "runners": RUNNERS,
        "experts": EXPERTS,
        "withdrawals": pushed,
        "lease_s": LEASE_S,
        "withdrawals_by_poll": polled,
        "lease_s_by_poll": POLLED_LEASE_S,
        "token_s": TOKEN_S,
        "unloads": unloads,
    }
    record = Record("withdrawal", settings, wanted)
    with database.fresh() as home:
        stage = Stage(EXPERTS)
        by_push = measure_enforcement(stage, home, pushed, LEASE_S)
        by_poll = measure_enforcement(stage, home, polled, POLLED_LEASE_S, ("--deaf",))
    by_push.tell(record, "push")
    by_poll.tell(record, "poll alone")
    pushed_ms, polled_ms = (percentile(one.quiesced_ms, 0.99) for one in (by_push, by_poll))
    record.claim("withdrawal.quiesced_p99_ms", pushed_ms, "ms", "<= 100")
    bound_ms = POLLED_LEASE_S / 3 * 1000 + 100
    record.claim("withdrawal.poll_p99_ms", polled_ms, "ms", f"<= {bound_ms}")
    record.claim("withdrawal.late_tokens", by_push.late + by_poll.late, "tokens", "== 0")
    measure_unloading(record, unloads)
    return record.finish()


# ── Enforcement ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Enforced:
    """What the withdrawals of one part took."""

    commit_ms: list[float] = field(default_factory=list)
    quiesced_ms: list[float] = field(default_factory=list)
    streams: int = 0
    by_expiry: int = 0
    late: int = 0

    def tell(self, record: Record, how: str) -> None:
        """Add this part's rows."""
        record.row(f"commit, {how}", **spread_ms(self.commit_ms))
        record.row(f"commit to quiesced, {how}", **spread_ms(self.quiesced_ms))
        record.row(
            f"streams cut, {how}",
            streams=self.streams,
            withdrawals=len(self.quiesced_ms),
            settled_by_expiry=self.by_expiry,
        )


def measure_enforcement(
    stage: Stage, home: Path, withdrawals: int, lease_s: float, more: Sequence[str] = ()
) -> Enforced:
    """Withdraw one expert after another under load, and look for late words."""
    found = Enforced()
    names: list[str] = []
    with runners(home, RUNNERS, lease_s=lease_s, token_s=TOKEN_S, more=more) as urls:
        for _ in range(withdrawals):
            if not names:
                names = stage.promote()
                for url in urls:
                    wait_for(url, names[-1])
            _withdraw_once(stage, urls, names.pop(0), found)
    return found


def _withdraw_once(stage: Stage, urls: Sequence[str], name: str, found: Enforced) -> None:
    """Let every runner answer with an expert, take it back, and see what still came."""
    from worker.tasks import enforcement

    readers = [Reader(url, stage.order(name)) for url in urls]
    while not all(reader.released_at or reader.end for reader in readers):
        time.sleep(0.002)
    began_s = time.perf_counter()
    withdrawal = stage.withdraw(name)
    seen_s = time.perf_counter()
    enforcement.settle(withdrawal, lambda: None)
    found.commit_ms.append((seen_s - began_s) * 1e3)
    found.quiesced_ms.append((time.perf_counter() - seen_s) * 1e3)
    withdrawal.refresh_from_db()
    found.by_expiry += withdrawal.quiesced_by != "acks"
    for reader in readers:
        reader.join()
        found.late += reader.late(withdrawal.quiesced_at.timestamp())
        found.streams += isinstance(reader.end, Done) and (
            reader.end.cause is EndCause.CONSENT_WITHDRAWN
        )


# ── Unloading ────────────────────────────────────────────────────────────────────────────────────


def measure_unloading(record: Record, unloads: int) -> None:
    """`withdraw` to weights out of memory, in the real engine while it answers."""
    from bench import engine_world as models
    from modelops.engine import reference_engine

    with tempfile.TemporaryDirectory() as folder:
        world = models.build_world(Path(folder), models.SMALL)
        refs = tuple(sorted(world.refs.values()))
        engine = reference_engine(
            world.store, world.anchor_digest, models.AlwaysPermitted(refs), max_rows=8
        )
        engine.start()
        taken_ms, cut = [], 0
        for number in range(unloads):
            taken, ended = _unload_once(engine, world, refs, refs[number % len(refs)])
            taken_ms.append(taken)
            cut += ended
        engine.close()
    record.row("withdraw to unloaded, 8 streams", **spread_ms(taken_ms))
    record.row("streams it ended", streams=cut, withdrawals=unloads)
    record.claim("withdrawal.unload_p99_ms", percentile(taken_ms, 0.99), "ms", "<= 10")


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
        engine.withdraw(ref.name, 2)  # ends what still runs, before the next round
    return taken_ms, len(ack.streams_ended)


if __name__ == "__main__":
    raise SystemExit(main())
