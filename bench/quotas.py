"""What a quota costs at admission, and that it is never overshot.

    python -m bench.quotas [--quick] --json FILE

Eight processes race for one quota, each reserving, promising and settling as a runner does, and
are killed at random moments. An auditor adds up what they had released (each writes that into a
file of its own before it closes the row) and what the usage rows charge. Then one process opens
and closes usage rows with and without a quota, and reserves slices while seven others do.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from bench import database
from bench.record import Record, options, percentile, spread_ms

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = 8
WORST_TOKENS = 300
TOKEN_S = 0.0002
"""Tokens take their time, so that a kill mostly comes in the middle of an answer."""


def main() -> int:
    """Run all parts, print, write the record; with `--spend`, be one of the processes."""
    if "--spend" in sys.argv:
        return _spend(sys.argv[sys.argv.index("--spend") + 1 :])
    wanted = options(__doc__ or "")
    max_tokens, kills, rows = (60_000, 8, 300) if wanted.quick else (1_000_000, 60, 2_000)
    settings = {"processes": PROCESSES, "max_tokens": max_tokens, "kills": kills, "rows": rows}
    record = Record("quotas", settings, wanted)
    with database.fresh(), tempfile.TemporaryDirectory() as folder:
        _race(record, Path(folder), max_tokens, kills)
        _admissions(record, rows)
        _reservations(record, Path(folder), rows)
    return record.finish()


# ── One spender ──────────────────────────────────────────────────────────────────────────────────


def spender(
    environ: Mapping[str, str], reference: str, books: Path, *, seed: int
) -> subprocess.Popen[bytes]:
    """A process that spends of the quota until there is none, and books what it releases."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench.quotas", "--spend", reference, str(books), str(seed)],
        cwd=ROOT,
        env=dict(environ),
    )


def _spend(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("reference")
    parser.add_argument("books", type=Path)
    parser.add_argument("seed", type=int)
    given = parser.parse_args(argv)
    from worker import boot

    boot.boot()
    chance, incarnation = random.Random(given.seed), uuid4()
    _lease(incarnation)
    with (given.books / str(os.getpid())).open("ab", buffering=0) as book:
        while _answer_once(given.reference, incarnation, chance, book):
            pass
    return 0


def _answer_once(reference: str, incarnation: UUID, chance: random.Random, book: Any) -> bool:
    """One answer, from the reservation to the closed row; False when nothing is left."""
    from django.db import OperationalError
    from django.utils import timezone

    from governance.errors import QuotaSpent
    from governance.services import quotas

    worst = chance.randint(20, WORST_TOKENS)
    try:
        part = quotas.reserve(reference, incarnation=incarnation, tokens=worst, at=timezone.now())
    except OperationalError:  # the lock was not had in time; a runner would pass the expert over
        return True
    if not part.covers(worst, timezone.now()):
        if not part.covers(20, timezone.now()):
            return False
        worst = part.free_tokens or 20
    try:
        row = open_row(incarnation, [part.id], worst, {"code": reference})
    except QuotaSpent:
        return True
    made = 0
    while made < worst and chance.random() > 0.02:
        book.write(b"x")  # a token has left
        made += 1
        time.sleep(TOKEN_S)
    close_row(row, made)
    return True


def _lease(incarnation: UUID) -> None:
    from django.utils import timezone

    from governance.models import RunnerLease

    at = timezone.now()
    RunnerLease.objects.create(
        incarnation=incarnation,
        runner="spender",
        applied_epoch=0,
        granted_at=at,
        renewed_at=at,
        lease_s=10.0,
        started_at=at,
        stats={"pid": os.getpid()},
    )


def open_row(
    incarnation: UUID, slices: Sequence[UUID], worst: int, licences: Mapping[str, str]
) -> UUID:
    """A usage row with its promise, as a runner opens it; its identity."""
    from django.utils import timezone

    from governance.services import usage

    row = usage.open_record(
        incarnation=incarnation,
        order_id=uuid4(),
        decision_id=uuid4(),
        consumer="dara",
        purpose="research",
        policy_epoch=1,
        build_digest="0" * 64,
        allowed=sorted(licences),
        licences=licences,
        quota_slices=slices,
        promised_tokens=worst if slices else 0,
        at=timezone.now(),
    )
    return row.pk


def close_row(row: UUID, tokens: int) -> None:
    """Close it with what was made."""
    from django.utils import timezone

    from governance.services import usage

    usage.close_record(
        row,
        finish_reason="length",
        prompt_tokens=0,
        completion_tokens=tokens,
        routed={"code": tokens},
        mass={"code": 1.0},
        at=timezone.now(),
    )


def is_spending(process: subprocess.Popen[bytes], books: Path) -> bool:
    """Whether a spender has begun and not ended."""
    book = books / str(process.pid)
    return process.poll() is None and book.exists() and book.stat().st_size > 0


# ── The auditor ──────────────────────────────────────────────────────────────────────────────────


def released_tokens(books: Path) -> int:
    """What left the processes, by their own books."""
    return sum(book.stat().st_size for book in books.iterdir())


def charged_by_rows(reference: str) -> int:
    """What the usage rows charge to a licence: lost ones all that was promised to them."""
    from governance.models import UsageRecord
    from governance.services import usage

    rows = UsageRecord.objects.exclude(closed_at=None).filter(
        licences__contains={"code": reference}
    )
    return sum(
        row.promised_tokens
        if row.finish_reason == usage.LOST
        else row.prompt_tokens + row.completion_tokens
        for row in rows
    )


# ── The measurements ─────────────────────────────────────────────────────────────────────────────


def _licence(reference: str, max_tokens: int) -> None:
    from django.utils import timezone

    from governance.models import Account, Consumer, Corpus, DataOwner, Licence
    from governance.vocabulary import LicenceState

    at = timezone.now()
    owner, _ = DataOwner.objects.get_or_create(
        slug="bench", defaults={"legal_name": "Bench", "jurisdiction": "NL"}
    )
    Consumer.objects.get_or_create(slug="dara", defaults={"name": "Dara", "territory": "NL"})
    asker, _ = Account.objects.get_or_create(email="asker@bench.example")
    decider, _ = Account.objects.get_or_create(email="decider@bench.example")
    Licence.objects.create(
        reference=reference,
        corpus=Corpus.objects.create(
            owner=owner, slug=reference, title=reference, source_licence="own"
        ),
        uses=["answer"],
        purposes=["research"],
        starts_at=at,
        terms_digest="c" * 64,
        state=LicenceState.APPROVED,
        requested_by=asker,
        requested_at=at,
        decided_by=decider,
        decided_at=at,
        max_tokens=max_tokens,
        quota_period="term",
    )


def _race(record: Record, folder: Path, max_tokens: int, kills: int) -> None:
    from governance.models import Quota, UsageRecord
    from governance.services import usage

    _licence("race", max_tokens)
    books, chance = folder / "race", random.Random(7)
    books.mkdir()
    running = [spender(os.environ, "race", books, seed=number) for number in range(PROCESSES)]
    began_s, killed = time.monotonic(), 0
    while any(process.poll() is None for process in running):
        time.sleep(chance.uniform(0.2, 0.6))
        place = chance.randrange(PROCESSES)
        if killed < kills and is_spending(running[place], books):
            running[place].send_signal(signal.SIGKILL)
            running[place].wait()
            killed += 1
            running[place] = spender(os.environ, "race", books, seed=100 + killed)
        _reap({process.pid for process in running if process.poll() is None})
    _reap(set())
    released, charged = released_tokens(books), charged_by_rows("race")
    record.row(
        "race",
        answers=UsageRecord.objects.count(),
        killed=killed,
        lost=UsageRecord.objects.filter(finish_reason=usage.LOST).count(),
        released_tokens=released,
        charged_tokens=charged,
        taken_tokens=Quota.objects.get(licence__reference="race").taken_tokens,
        seconds=time.monotonic() - began_s,
    )
    over = max(0, released - max_tokens, charged - max_tokens)
    record.claim("quota.overshoot_tokens", over, "tokens", "== 0")
    record.claim("quota.uncharged_tokens", max(0, released - charged), "tokens", "== 0")


def _reap(alive: set[int]) -> None:
    from django.utils import timezone

    from governance.models import RunnerLease
    from governance.services import leases, quotas, usage

    for lease in RunnerLease.objects.filter(closed_at=None, runner="spender"):
        if lease.stats.get("pid") not in alive:
            leases.close(lease.pk, at=timezone.now())
    usage.close_lost(at=timezone.now())
    quotas.reclaim(at=timezone.now())


def _admissions(record: Record, rows: int) -> None:
    """Opening and closing a row, with one quota and with none, in turns."""
    from django.utils import timezone

    from governance.services import quotas

    _licence("admission", 10**9)
    incarnation = uuid4()
    _lease(incarnation)
    part = quotas.reserve("admission", incarnation=incarnation, tokens=10**8, at=timezone.now())
    taken: dict[str, list[float]] = {"no quota": [], "one quota": []}
    for _ in range(rows):
        for name, slices in (("no quota", []), ("one quota", [part.id])):
            began_s = time.perf_counter()
            row = open_row(incarnation, slices, WORST_TOKENS, {"code": "admission"})
            close_row(row, 100)
            taken[name].append((time.perf_counter() - began_s) * 1e3)
    for name, values in taken.items():
        record.row(f"open and close a row, {name}", **spread_ms(values))
    more = statistics.median(taken["one quota"]) - statistics.median(taken["no quota"])
    record.claim("quota.extra_ms_an_answer", more, "ms", "<= 3")


def _reservations(record: Record, folder: Path, rows: int) -> None:
    """Growing a slice of one quota while seven other processes do the same."""
    from django.utils import timezone

    from governance.services import quotas

    _licence("busy", 10**9)
    books = folder / "busy"
    books.mkdir()
    others = [spender(os.environ, "busy", books, seed=n) for n in range(PROCESSES - 1)]
    incarnation, taken = uuid4(), []
    _lease(incarnation)
    try:
        while len(list(books.iterdir())) < len(others):
            time.sleep(0.05)
        for number in range(1, rows + 1):
            began_s = time.perf_counter()
            quotas.reserve(
                "busy", incarnation=incarnation, tokens=number * 2_000, at=timezone.now()
            )
            taken.append((time.perf_counter() - began_s) * 1e3)
    finally:
        for process in others:
            process.kill()
            process.wait()
    record.row("reserve, 8 processes on one quota", **spread_ms(taken))
    record.claim("quota.reserve_p99_ms", percentile(taken, 0.99), "ms", "<= 100")


if __name__ == "__main__":
    raise SystemExit(main())
