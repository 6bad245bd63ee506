"""What every benchmark shares: its arguments, the machine it ran on, its table and its file.

    record = Record("engine", settings={"hidden": 256}, options=options("what it measures"))
    record.row("decode", batch=8, tokens_per_s=412.0)
    record.claim("engine.ratio_generate_b8", 1.71, "times", bound=">= 1.5")
    raise SystemExit(record.finish())

The file holds `{"bench", "machine", "settings", "rows", "claims"}`; a claim is
`{"id", "value", "unit"}` and, where one was given, its `bound` and whether it was `met`.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Options:
    """The arguments of a run: `quick` stays under 50 s on two cores; `json` is where to write."""

    quick: bool
    json: Path | None


def options(description: str, argv: Sequence[str] | None = None) -> Options:
    """The options on the command line (`argv` None reads the process's own)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller but honest, under 50 s")
    parser.add_argument("--json", type=Path, help="file to write the record to")
    found = parser.parse_args(argv)
    return Options(quick=found.quick, json=found.json)


def machine() -> dict[str, Any]:
    """What the numbers were taken on; nothing that names the host or its owner."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "release": platform.release(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "python": platform.python_version(),
        "load_at_end": round(os.getloadavg()[0], 2),
    }
    torch = sys.modules.get("torch")  # told only where the benchmark itself used it
    if torch is not None:
        found["torch"] = str(torch.__version__)
        found["torch_threads"] = torch.get_num_threads()
    return found


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_mb() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


@dataclass
class Record:
    """The outcome of one benchmark, growing row by row until `finish`."""

    bench: str
    settings: Mapping[str, Any]
    options: Options
    rows: list[dict[str, Any]] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)

    def row(self, what: str, **columns: Any) -> None:
        """Add one measured row; columns may differ from row to row."""
        self.rows.append({"what": what, **columns})

    def claim(self, claim_id: str, value: float, unit: str, bound: str = "") -> None:
        """Add one number that stands for a promise.

        `bound` reads like `">= 1.4"`, `"<= 10"` or `"== 1"`; it is judged and written down.

        Raises:
            ValueError: the bound does not read like that.
        """
        claim: dict[str, Any] = {"id": claim_id, "value": value, "unit": unit}
        if bound:
            claim |= {"bound": bound, "met": _met(value, bound)}
        self.claims.append(claim)

    def finish(self) -> int:
        """Print the tables, write the file, and return 0, or 1 if a bound was missed."""
        _print_rows(self.bench, self.rows)
        _print_claims(self.claims)
        if self.options.json is not None:
            self.options.json.parent.mkdir(parents=True, exist_ok=True)
            self.options.json.write_text(json.dumps(self.content(), indent=1) + "\n")
        return int(any(not claim.get("met", True) for claim in self.claims))

    def content(self) -> dict[str, Any]:
        """The record as the file holds it."""
        return {
            "bench": self.bench,
            "machine": machine(),
            "settings": {"quick": self.options.quick, **self.settings},
            "rows": self.rows,
            "claims": self.claims,
        }


def _met(value: float, bound: str) -> bool:
    sign, _, limit = bound.partition(" ")
    if sign not in _BOUNDS or not limit:
        raise ValueError(f"expected a bound like '>= 1.4', found {bound!r}; write it that way")
    return _BOUNDS[sign](value, float(limit))


def _print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    console = Console()
    by_columns: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        by_columns.setdefault(tuple(row), []).append(row)
    for columns, alike in by_columns.items():
        table = Table(*columns, title=title, title_justify="left")
        for row in alike:
            table.add_row(*(_shown(row[column]) for column in columns))
        console.print(table)


def _print_claims(claims: Sequence[Mapping[str, Any]]) -> None:
    table = Table("claim", "value", "unit", "bound", "met", title="claims", title_justify="left")
    for claim in claims:
        met = {True: "yes", False: "NO", None: ""}[claim.get("met")]
        table.add_row(claim["id"], _shown(claim["value"]), claim["unit"], claim.get("bound"), met)
    Console().print(table)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread_ms(values: Sequence[float]) -> dict[str, float]:
    """Milliseconds as the columns of a row."""
    return {
        "p50_ms": statistics.median(values),
        "p95_ms": percentile(values, 0.95),
        "p99_ms": percentile(values, 0.99),
        "max_ms": max(values),
    }
