"""Where a run keeps its state, and how its result appears: whole, or not at all.

A run that is to end in `FOLDER` works in `FOLDER.training` beside it. The bundle is written there
and renamed into place, so `FOLDER` never holds half a result, and nothing but the result. The
optimiser's state goes as soon as the bundle stands; the record of the run stays.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelops.artefacts.store import MANIFEST
from modelops.errors import TrainingError
from modelops.training.loop import STATE, Stopped

_RECORD = "record.json"
_BUNDLE = "bundle"


@dataclass(frozen=True)
class Finished:
    """A run whose bundle stands in `folder`. `metrics` are its last, by name."""

    folder: Path
    metrics: dict[str, float]


Outcome = Finished | Stopped


def place_for(folder: Path) -> Path:
    """The working folder of the run that ends in `folder`; made if need be."""
    place = folder.with_name(folder.name + ".training")
    place.mkdir(parents=True, exist_ok=True)
    return place


def finished(folder: Path, identity: str) -> Finished | None:
    """The outcome, if this very run has already ended in `folder`; None if it has yet to.

    Raises:
        TrainingError: the folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    record = place_for(folder) / _RECORD
    fields = json.loads(record.read_bytes()) if record.exists() else {}
    if fields.get("identity") != identity or not (folder / MANIFEST).exists():
        raise TrainingError(
            f"expected {folder.name} empty or with this run's own result, found something else; "
            "choose another folder, or remove this one and its .training folder"
        )
    return Finished(folder, fields["metrics"])


def publish(
    folder: Path, identity: str, metrics: dict[str, float], write: Callable[[Path], object]
) -> Finished:
    """Let `write` fill a bundle folder, then put it into place and drop the optimiser's state."""
    place = place_for(folder)
    bundle = place / _BUNDLE
    shutil.rmtree(bundle, ignore_errors=True)
    write(bundle)
    record = {"identity": identity, "metrics": metrics}
    part = place / f"{_RECORD}.part"
    part.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    part.replace(place / _RECORD)
    if folder.exists():
        folder.rmdir()  # only ever empty here: `finished` refused anything else
    bundle.rename(folder)
    (place / STATE).unlink(missing_ok=True)
    return Finished(folder, metrics)
