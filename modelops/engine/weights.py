"""Weights out of the store, checked against their digests before anything computes with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from transformers import FlexOlmoConfig

from modelops.artefacts import tensors as names
from modelops.artefacts.store import Store
from modelops.contract import ExpertRef
from modelops.errors import AnchorMismatch, ManifestMismatch

Tensors = dict[str, torch.Tensor]


def read_expert(
    store: Store, anchor_digest: str, config: FlexOlmoConfig, ref: ExpertRef
) -> tuple[list[torch.Tensor], list[Tensors]]:
    """An expert's router row [D] and its parts by name (`names.PARTS`), layer by layer, mapped.

    Raises:
        MissingArtefact: the store lacks the expert.
        AnchorMismatch: it was trained beside another anchor.
        ManifestMismatch: its file is not the one the manifest binds, or holds other tensors.
    """
    manifest = store.expert(ref.digest)
    if manifest.anchor_digest != anchor_digest:
        raise AnchorMismatch(
            f"expected expert {ref.name!r} beside anchor {anchor_digest}, found "
            f"{manifest.anchor_digest}; train it again beside this anchor"
        )
    tensors = load_verified(store, manifest.weights_digest)
    wanted = names.expert_tensor_specs(config)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != wanted:
        odd = sorted(set(found.items()) ^ set(wanted.items()))[:2]
        raise ManifestMismatch(
            f"expected the tensors of one expert of this anchor in {ref.name!r}, found a "
            f"difference at {odd}; examine the bundle and put it again"
        )
    layers = range(config.num_hidden_layers)
    rows = [tensors[names.router_row(layer)] for layer in layers]
    parts = [{p: tensors[names.expert_part(layer, p)] for p in names.PARTS} for layer in layers]
    return rows, parts


def load_verified(store: Store, weights_digest: str) -> Tensors:
    """The tensors of a weights file, mapped, after its bytes were checked against the digest.

    Raises:
        MissingArtefact: the store does not hold it.
        ManifestMismatch: the bytes on disk are no longer those that were put.
    """
    path: Path = store.path(weights_digest)
    with path.open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != weights_digest:
        raise ManifestMismatch(
            f"expected weights of digest {weights_digest}, found {found}; "
            "restore this blob from its source before loading it"
        )
    return names.load(path)
