"""A build as a standard `flex_olmo` checkpoint folder, for transformers, vLLM or an archive.

The folder takes its name when it is complete. Until then the work lies beside it, under the name
with `.partial`, and a repeated call takes it up where it was left.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelops.artefacts.manifest import BuildManifest
from modelops.artefacts.store import CONFIG, TOKENIZER, Store
from modelops.errors import MergeError
from modelops.merging.execute import Report, WrittenFile, execute, write_file
from modelops.merging.plan import MergePlan, plan

BUILD = "build.json"
"""The build's manifest inside an exported folder; loaders do not look at it."""


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, in the order of file names."""

    build_digest: str
    folder: Path
    files: tuple[WrittenFile, ...]


def plan_of(store: Store, manifest: BuildManifest) -> MergePlan:
    """The merge plan of a build whose experts are in the store.

    Raises:
        MissingArtefact: an expert or the anchor is not there (any more).
        AnchorMismatch, ManifestMismatch, MergeError: as `plan` says.
    """
    experts = {ref.name: (ref.digest, store.expert(ref.digest)) for ref in manifest.experts}
    anchor = store.anchor(manifest.anchor_digest)
    return plan(manifest.anchor_digest, anchor, experts, manifest.top_k)


def export(
    store: Store, build_digest: str, folder: Path, report: Report | None = None
) -> ExportReport:
    """Write the build under `folder`, which loads with AutoModelForCausalLM and AutoTokenizer.

    Safe to repeat, also after a kill and when the folder is already complete.

    Raises:
        MergeError: `folder` exists and is not an export of this build, or another export into it
            is under way.
        MissingArtefact, AnchorMismatch, ManifestMismatch: as `plan_of` and `execute` say.
    """
    manifest = store.build(build_digest)
    whole = plan_of(store, manifest)
    folder = folder.absolute()
    if folder.exists():
        _own(folder, manifest)
        return ExportReport(build_digest, folder, _write(store, whole, folder, report))
    partial = folder.with_name(f"{folder.name}.partial")
    with _alone(partial):
        if _manifest_in(partial) != manifest.to_json():
            _clear(partial)
        write_file(partial / BUILD, manifest.to_json())
        files = _write(store, whole, partial, report)
        partial.rename(folder)
        _sync(folder.parent)
    return ExportReport(build_digest, folder, files)


def _write(
    store: Store, whole: MergePlan, folder: Path, report: Report | None
) -> tuple[WrittenFile, ...]:
    from modelops.model import tokenizer

    anchor = store.anchor(whole.anchor_digest)
    config: dict[str, Any] = json.loads(store.read(anchor.config_digest))
    weights = execute(whole, store, folder, report)
    small = {
        BUILD: whole.manifest.to_json(),
        CONFIG: _json(_config(config, whole)),
        "generation_config.json": _json(_generation(config)),
        TOKENIZER: store.read(anchor.tokenizer_digest),
        "tokenizer_config.json": tokenizer.config_json(config["max_position_embeddings"]),
    }
    files = [*weights, *(write_file(folder / name, text) for name, text in small.items())]
    _sync(folder)
    return tuple(sorted(files, key=lambda file: file.name))


def _config(config: dict[str, Any], whole: MergePlan) -> dict[str, Any]:
    return config | {
        "architectures": ["FlexOlmoForCausalLM"],
        "num_experts": len(whole.experts) + 1,
        "num_experts_per_tok": whole.experts_per_token,
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
    }


def _generation(config: dict[str, Any]) -> dict[str, Any]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"_from_model_config": True} | {name: config.get(name) for name in names}


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"


def _own(folder: Path, manifest: BuildManifest) -> None:
    if _manifest_in(folder) != manifest.to_json():
        raise MergeError(
            f"expected {folder.name!r} to be free or to hold this very build, found something "
            "else there; move it away or export under another name"
        )


def _manifest_in(folder: Path) -> bytes:
    try:
        return (folder / BUILD).read_bytes()
    except OSError:
        return b""


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Hold the unfinished folder for oneself; the kernel lets go when a holder dies."""
    partial.mkdir(parents=True, exist_ok=True)
    fd = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it before may have finished: then our folder already has its final name.
            is_ours = partial.stat().st_ino == os.fstat(fd).st_ino
        except OSError:
            is_ours = False
        if not is_ours:
            raise MergeError(
                f"expected nobody else to write {partial.name!r}, found an export under way; "
                "repeat when it has ended, or choose another folder"
            )
        yield
    finally:
        os.close(fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
