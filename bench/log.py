"""The event log under eight writers, undisturbed and while its sequencer is killed.

    python -m bench.log [--quick] --json FILE

Eight processes commit acts, each with its event, as fast as PostgreSQL takes them, while a
sequencer process seals what it sees and publishes the tiles: that gives the rate and the lag. Then
the same once more while the sequencer is killed with -9 at random moments and started anew. In the
end every event whose commit was acknowledged must be in the log exactly once, the numbers must
have no gap, and the whole log must verify.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from bench import database
from bench.record import Record, options
from worker.boot import boot

WRITERS = 8
SEAL_EVERY_S = 0.1
_SPAWN = get_context("spawn")


@dataclass
class Phase:
    """One stretch of writing. `acknowledged` counts by writer; times are since 1970, in seconds."""

    name: str
    acknowledged: dict[str, int]
    began_at: float
    ended_at: float


def main() -> int:
    """Run, check, print, write the record."""
    wanted = options(__doc__ or "")
    seconds, kills = (6.0, 3) if wanted.quick else (40.0, 20)
    settings = {"writers": WRITERS, "seconds": seconds, "kills": kills, "seal_s": SEAL_EVERY_S}
    record = Record("log", settings, wanted)
    with database.fresh() as home:
        steady = run(home, "steady", seconds, 0)
        killed = run(home, "killed", seconds, kills)
        judge(record, home, steady, killed)
    return record.finish()


def run(home: Path, name: str, seconds: float, kills: int) -> Phase:
    """Write for so long, with the sequencer killed so often; wait until all is sealed."""
    ready, stop = _SPAWN.Barrier(WRITERS + 1), _SPAWN.Event()
    counts: Queue[tuple[str, int]] = _SPAWN.Queue()
    writers = [
        _SPAWN.Process(target=write, args=(f"{name}-{number}", ready, stop, counts))
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    sealer = started_sealer(home, name)
    while not (home / name).exists():
        time.sleep(0.02)
    ready.wait(timeout=120)
    began_at = time.time()
    for number, pause_s in enumerate(_pauses(seconds, kills)):
        time.sleep(pause_s)
        if number < kills:
            _kill(sealer)
            sealer = started_sealer(home, name)
    stop.set()
    acknowledged = dict(counts.get(timeout=60) for _ in writers)
    _wait_until_sealed()
    ended_at = time.time()
    _kill(sealer)
    for writer in writers:
        writer.join(timeout=60)
    return Phase(name, acknowledged, began_at, ended_at)


def _pauses(seconds: float, kills: int) -> list[float]:
    """Random pauses, one before each kill and one after the last, that add up to `seconds`."""
    cuts = sorted(random.Random(7).uniform(0, seconds) for _ in range(kills))
    return [after - before for before, after in zip([0.0, *cuts], [*cuts, seconds], strict=True)]


def write(name: str, ready: Barrier, stop: Event, counts: Queue[tuple[str, int]]) -> None:
    """Commit one act after another; count those PostgreSQL acknowledged."""
    boot()
    from django.db import connection, transaction

    from governance.log import events
    from governance.vocabulary import EventTag

    connection.ensure_connection()
    ready.wait(timeout=120)
    done = 0
    while not stop.is_set():
        with transaction.atomic():
            events.stage(
                EventTag.LICENCE_APPROVED,
                subject=f"licence:{name}",
                by=None,
                at=datetime.now(UTC),
                details={"writer": name, "n": done, "text": "x" * 200},
            )
        done += 1
    counts.put((name, done))


def started_sealer(home: Path, name: str) -> BaseProcess:
    """A sequencer in a process of its own."""
    sealer = _SPAWN.Process(target=seal_for_ever, args=(home / name,), daemon=True)
    sealer.start()
    return sealer


def seal_for_ever(noted: Path) -> None:
    """Seal every so often, and note when each head was committed."""
    boot()
    from governance.log import sequencer

    log = sequencer.configured()
    with noted.open("a") as notes:
        while True:
            while (batch := sequencer.seal(datetime.now(UTC), log=log)) is not None:
                notes.write(f"{json.dumps([batch.first, batch.size, time.time()])}\n")
                notes.flush()
            time.sleep(SEAL_EVERY_S)


def _kill(process: BaseProcess) -> None:
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join(timeout=30)


def _wait_until_sealed(timeout_s: float = 120) -> None:
    from governance.models import StagedEvent

    until = time.monotonic() + timeout_s
    while StagedEvent.objects.exists() and time.monotonic() < until:
        time.sleep(0.02)


def judge(record: Record, home: Path, *phases: Phase) -> None:
    """Hold the log against what the writers were told."""
    from governance.log import sequencer
    from governance.log.verify import verify

    log = sequencer.configured()
    sequencer.publish(log)
    begun = time.perf_counter()
    report = verify(log.origin, log.signer.verifier, log.tiles)
    verify_s = time.perf_counter() - begun
    found = _sealed()
    lost = 0
    rates, lags_s = [], []
    for phase in phases:
        expected = {(w, n) for w, count in phase.acknowledged.items() for n in range(count)}
        lost += len(expected - found.keys())
        lag_s = sorted(_lags_s(home / phase.name, found))
        rates.append(len(expected) / (phase.ended_at - phase.began_at))
        lags_s.append(_share(lag_s, 0.99))
        record.row(
            phase.name,
            events=len(expected),
            per_s=rates[-1],
            lag_p50_s=_share(lag_s, 0.5),
            lag_p99_s=lags_s[-1],
            lag_max_s=lag_s[-1],
        )
    twice = report.size - len(found)
    record.row("whole log", events=report.size, heads=report.heads, verify_s=verify_s)
    record.claim("log.events_per_s", rates[0], "events/s", ">= 1000")
    record.claim("log.lost", lost + twice + len(report.problems), "events", "== 0")
    record.claim("log.seal_lag_p99_s", lags_s[0], "s", "<= 2")


def _sealed() -> dict[tuple[str, int], tuple[int, float]]:
    """Each event in the log by writer and number: its place, and when it was staged."""
    from governance.models import LogLeaf

    found = {}
    rows: Any = LogLeaf.objects.order_by("seq").values_list("seq", "body", "staged_at")
    for seq, body, staged_at in rows.iterator(4_096):
        details = json.loads(bytes(body))["details"]
        found[details["writer"], details["n"]] = (seq, staged_at.timestamp())
    return found


def _lags_s(noted: Path, found: dict[tuple[str, int], tuple[int, float]]) -> list[float]:
    """How long each event of a phase waited for the commit of its head.

    A head whose sequencer was killed before it could note it has no known instant; its events are
    left out here (not where losses are counted).
    """
    committed: dict[int, float] = {}
    for line in noted.read_text().splitlines():
        first, size, at = json.loads(line)
        committed.update(dict.fromkeys(range(first, size), at))
    return [committed[seq] - staged for seq, staged in found.values() if seq in committed]


def _share(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    raise SystemExit(main())
