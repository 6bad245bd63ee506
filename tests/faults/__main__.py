"""`make faults`: many seeded runs, several worlds side by side, and what the auditor found.

    python -m tests.faults [--runs 500] [--worlds 3] [--seed 1] [--json FILE]
    python -m tests.faults --mutants

With --mutants each guard of the protocol is taken out in turn, and a schedule directed at it must
make the auditor complain; the same schedule on the whole protocol must not. A complaint names an
expert: number n met the n-th seed of its world, counted from 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record import Options, Record
from worker.processes import Home, servers

if TYPE_CHECKING:
    from tests.faults.harness import World

LEASE_S = 0.8
TRIES, TRIES_WHOLE = 5, 2
"""Seeds within which the auditor must catch a mutant, and of the same schedule without it."""


def main() -> int:
    """Run what was asked for, print, write the record."""
    parser = argparse.ArgumentParser(description="Withdrawals while things fail.")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--worlds", type=int, default=3, help="worlds side by side")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part is not None:
        return _part(**asked.part)
    settings = {"runs": asked.runs, "worlds": asked.worlds, "seed": asked.seed, "lease_s": LEASE_S}
    record = Record("faults", settings, Options(quick=False, json=asked.json))
    if asked.mutants:
        _try_mutants(record)
    else:
        _try_seeds(record, asked)
    return record.finish()


def _try_seeds(record: Record, asked: argparse.Namespace) -> None:
    seeds = range(asked.seed, asked.seed + asked.runs)
    parts = [{"seeds": list(seeds[number :: asked.worlds])} for number in range(asked.worlds)]
    reports = _side_by_side(parts)
    for number, report in enumerate(reports):
        for complaint in report.pop("complaints"):
            record.row("complaint", world=number, says=complaint)
            print(complaint, file=sys.stderr)
        record.row("world", number=number, **report)
    complaints = sum(row["what"] == "complaint" for row in record.rows)
    worst_s = max(report["worst_s"] for report in reports)
    bound_s = 1.01 * LEASE_S + 0.25
    record.claim("faults.worst_s", worst_s, "s", f"<= {bound_s:.3f}")
    record.claim("faults.worst_held_up_s", max(one["worst_held_up_s"] for one in reports), "s")
    record.claim("faults.withdrawals", sum(one["withdrawals"] for one in reports), "runs")
    record.claim("faults.complaints", complaints, "complaints", "== 0")


def _try_mutants(record: Record) -> None:
    from tests.faults import auditor
    from tests.faults.runner import MUTANTS

    caught = 0
    for name in MUTANTS:
        mutant, whole = _side_by_side(
            [
                {"seeds": list(range(TRIES)), "directed": name, "mutant": name},
                {"seeds": list(range(TRIES_WHOLE)), "directed": name},
            ]
        )
        late = [one for one in mutant["complaints"] if auditor.LATE in one]
        is_caught = bool(late) and not whole["complaints"]
        caught += is_caught
        print(f"{name}: {'caught' if is_caught else 'NOT CAUGHT'}", file=sys.stderr, flush=True)
        record.row(
            name,
            seeds=mutant["withdrawals"],
            caught="yes" if is_caught else "NO",
            complaint=(late or ["none"])[0],
            without_it=(whole["complaints"] or ["none"])[0],
        )
    record.claim("faults.mutants_caught", caught, "mutants", f"== {len(MUTANTS)}")


def _side_by_side(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each part reports, every one a process with a world of its own."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults", "--part", json.dumps(part)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in parts
    ]
    said = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("a world ended in an error of its own; see above")
    return [json.loads(each.splitlines()[-1]) for each in said]


# ── One world in a process of its own ────────────────────────────────────────────────────────────


def _part(seeds: Sequence[int], directed: str = "", mutant: str = "") -> int:
    with _servers() as (home, own):
        from tests.faults import schedules
        from tests.faults.harness import world

        more: dict[str, Any] = {"lease_s": LEASE_S}
        if directed:
            settings = {**schedules.SETTINGS.get(directed, {}), "FAULTS_MUTANT": mutant}
            more = {"lease_s": schedules.DIRECTED_LEASE_S, "size": 1, "settings": settings}
        with world(home, own.postgres, own.database, **more) as made:
            report = _directed(made, directed, seeds) if directed else _drawn(made, seeds)
    print(json.dumps(asdict(report)))
    return 0


def _drawn(made: World, seeds: Sequence[int]) -> Any:
    for number, seed in enumerate(seeds):
        made.run(seed)
        print(f"seed {seed}, {number + 1} of {len(seeds)}", file=sys.stderr, flush=True)
    return made.finish()


def _directed(made: World, directed: str, seeds: Sequence[int]) -> Any:
    """Until a word left late, or every seed was tried."""
    from tests.faults import auditor, schedules

    made.lift_fence()
    for seed in seeds:
        schedules.DIRECTED[directed](made, seed)
        if auditor.late_words(made.place, made.evidence()):
            break
    return made.finish()


@contextmanager
def _servers() -> Iterator[tuple[Path, Any]]:
    """A PostgreSQL of this process's own, migrated, and Django on it."""
    folder = Path(tempfile.mkdtemp(prefix="rf-"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as someone else and must get through
    home = Home(folder)
    home.prepare()
    port = home.ports(("postgres", "redis"), None, ours_run=False)["postgres"]
    password = home.passwords()["postgres"]
    name = servers.DATABASE
    os.environ |= {
        "RECLAIM_HOME": str(folder),
        "DATABASE_URL": f"postgresql://{name}:{password}@127.0.0.1:{port}/{name}",
        "REDIS_URL": "redis://127.0.0.1:1/0",  # named, so that none is asked for
        "RECLAIM_LEASE_S": "1",  # what a withdrawal waits for that meets no lease at all
        "DJANGO_SETTINGS_MODULE": "web.settings",
    }
    from tests.worker.installation import own_servers  # reads those settings
    from worker.boot import boot

    boot()
    try:
        with own_servers(folder) as own:
            from django.core.management import call_command

            call_command("migrate", verbosity=0)
            yield folder, own
    finally:
        shutil.rmtree(servers.roots_own_folder(home), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
