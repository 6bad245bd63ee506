"""Tensors in and out of weights files, and the one digest a tensor has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modelops.artefacts.manifest import TensorEntry
from modelops.artefacts.names import (
    PARTS,
    ROUTER_ROW,
    Shape,
    Sizes,
    anchor_tensor_specs,
    build_gate,
    build_part,
    digest_seed,
    expert_part,
    expert_tensor_specs,
    router_row,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "DTYPES",
    "PARTS",
    "ROUTER_ROW",
    "Shape",
    "Sizes",
    "anchor_tensor_specs",
    "build_gate",
    "build_part",
    "digest_seed",
    "dtype_code",
    "entries",
    "expert_part",
    "expert_tensor_specs",
    "little_endian",
    "load",
    "router_row",
    "save",
    "tensor_digest",
]

DTYPES: dict[str, str] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Dtypes a weights file may hold: safetensors code to torch name."""


def tensor_digest(tensor: torch.Tensor) -> str:
    """SHA-256 (hex) over dtype, shape and the elements' little-endian bytes in row-major order.

    A view, a transposed or a strided tensor has the digest of its contiguous copy.
    """
    sha = hashlib.sha256(digest_seed(dtype_code(tensor), tuple(tensor.shape)))
    sha.update(little_endian(tensor))
    return sha.hexdigest()


def dtype_code(tensor: torch.Tensor) -> str:
    """The safetensors code of a tensor's dtype.

    Raises:
        ValueError: a dtype weights are not stored in.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    for code, torch_name in DTYPES.items():
        if torch_name == name:
            return code
    raise ValueError(f"expected a dtype of {sorted(DTYPES.values())}, found {name}; cast it first")


def little_endian(tensor: torch.Tensor) -> memoryview:
    """The elements' bytes, row-major and little-endian, without a copy where there need be none."""
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    words = flat.view(torch.int32 if flat.element_size() == 4 else torch.int16).numpy()
    return words.astype(words.dtype.newbyteorder("<"), copy=False).data.cast("B")


def entries(tensors: Mapping[str, torch.Tensor]) -> tuple[TensorEntry, ...]:
    """A manifest's rows for `tensors`, in the order of names."""
    return tuple(
        TensorEntry(name, dtype_code(tensor), tuple(tensor.shape), tensor_digest(tensor))
        for name, tensor in sorted(tensors.items())
    )


def save(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write `tensors` as one safetensors file; the metadata only says that torch wrote it."""
    from safetensors.torch import save_file

    whole = {name: t.detach().to("cpu").contiguous().clone() for name, t in tensors.items()}
    save_file(whole, path, metadata={"format": "pt"})


def load(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file, mapped from disk where the platform can."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors
