"""The other side of `gate.examine_apart`: reads one question on stdin, answers on stdout.

Limits are set before the upload is touched. Without the right to write a file or start a process,
a flaw in a parser has little to do here.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from modelops.artefacts import gate
from modelops.artefacts.manifest import AnchorManifest


def main() -> None:
    """Answer one question; whatever goes wrong ends the process with a status."""
    ask: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    rms_least, rms_most = ask["limits"].pop("weight_rms")
    limits = gate.Limits(**ask["limits"], weight_rms=(rms_least, rms_most))
    confine(limits)
    report = gate.examine(
        Path(ask["path"]),
        AnchorManifest.from_json(ask["anchor"].encode()),
        SimpleNamespace(**ask["sizes"]),
        limits,
    )
    sys.stdout.buffer.write(report.to_json())


def confine(limits: gate.Limits) -> None:
    """Bound this process for good: memory, processor time, no files written, no core dump."""
    for kind, bound in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        resource.setrlimit(kind, (bound, bound))


if __name__ == "__main__":
    main()
