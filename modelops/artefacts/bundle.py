"""Writing the bundle folder in which an anchor or an expert travels.

A bundle holds `weights.safetensors` and `manifest.json`; an anchor's also `config.json` and
`tokenizer.json`. The manifest is written last: a folder without one is unfinished.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelops.artefacts import tensors as tensor_files
from modelops.artefacts.manifest import AnchorManifest, ExpertManifest, Manifest
from modelops.artefacts.store import CONFIG, MANIFEST, TOKENIZER, WEIGHTS

if TYPE_CHECKING:
    import torch


def write_anchor(
    folder: Path, tensors: Mapping[str, torch.Tensor], config: bytes, tokenizer: bytes
) -> AnchorManifest:
    """Write an anchor's bundle; `config` and `tokenizer` are the bytes of their JSON files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_bytes(config)
    (folder / TOKENIZER).write_bytes(tokenizer)
    manifest = AnchorManifest(
        config_digest=hashlib.sha256(config).hexdigest(),
        tokenizer_digest=hashlib.sha256(tokenizer).hexdigest(),
        weights_digest=_write_weights(folder, tensors),
        tensors=tensor_files.entries(tensors),
    )
    _write_manifest(folder, manifest)
    return manifest


def write_expert(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    anchor_digest: str,
    shared: Mapping[str, str],
    recipe: Mapping[str, Any],
    corpus_root: str = "",
) -> ExpertManifest:
    """Write an expert's bundle.

    `shared` must be the digests of the anchor's tensors as the trainer holds them *after*
    training: copying them from the anchor's manifest would prove nothing about the freezing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = ExpertManifest(
        anchor_digest=anchor_digest,
        weights_digest=_write_weights(folder, tensors),
        tensors=tensor_files.entries(tensors),
        shared=dict(shared),
        recipe=dict(recipe),
        corpus_root=corpus_root,
    )
    _write_manifest(folder, manifest)
    return manifest


def _write_weights(folder: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    tensor_files.save(folder / WEIGHTS, tensors)
    with (folder / WEIGHTS).open("rb") as written:
        os.fsync(written.fileno())
        return hashlib.file_digest(written, "sha256").hexdigest()


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    temporary = folder / f"{MANIFEST}.part"
    with temporary.open("wb") as target:
        target.write(manifest.to_json())
        target.flush()
        os.fsync(target.fileno())
    temporary.replace(folder / MANIFEST)
