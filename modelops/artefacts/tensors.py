"""Which tensors an anchor and an expert consist of, and the one digest a tensor has.

Sizes of a configuration: L layers, D hidden width, F expert width, V vocabulary.
Names follow transformers' flex_olmo checkpoints on disk; an expert's own file drops the index,
because an expert has a name and a digest, and a position only inside a build.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelops.artefacts.manifest import TensorEntry

if TYPE_CHECKING:
    import torch

PARTS = ("gate_proj", "up_proj", "down_proj")
ROUTER_ROW = "router_row"

DTYPES: dict[str, str] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Dtypes a weights file may hold: safetensors code to torch name."""

Shape = tuple[int, ...]


class Sizes(Protocol):
    """What the specs need of a configuration; `FlexOlmoConfig` has it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: Any


def expert_part(layer: int, part: str) -> str:
    """Name of one projection in an expert's own file."""
    return f"model.layers.{layer}.mlp.expert.{part}.weight"


def router_row(layer: int) -> str:
    """Name of the router row of one layer in an expert's own file."""
    return f"model.layers.{layer}.mlp.{ROUTER_ROW}"


def build_part(layer: int, index: int, part: str) -> str:
    """Name of one projection of the expert at `index` in a checkpoint on disk."""
    return f"model.layers.{layer}.mlp.experts.{index}.{part}.weight"


def build_gate(layer: int) -> str:
    """Name of the router of one layer, [experts, D], in a checkpoint on disk."""
    return f"model.layers.{layer}.mlp.gate.weight"


def expert_tensor_specs(config: Sizes) -> dict[str, Shape]:
    """Name → shape of every tensor of an expert's file, and of nothing else."""
    D, F = config.hidden_size, config.intermediate_size
    specs: dict[str, Shape] = {}
    for layer in range(config.num_hidden_layers):
        specs[expert_part(layer, "gate_proj")] = (F, D)
        specs[expert_part(layer, "up_proj")] = (F, D)
        specs[expert_part(layer, "down_proj")] = (D, F)
        specs[router_row(layer)] = (D,)
    return specs


def anchor_tensor_specs(config: Sizes) -> dict[str, Shape]:
    """Name → shape of every tensor of an anchor: the shared ones, expert 0 and router row 0."""
    V, D, F = config.vocab_size, config.hidden_size, config.intermediate_size
    head_dim = getattr(config, "head_dim", None) or D // config.num_attention_heads
    Q = config.num_attention_heads * head_dim
    KV = (config.num_key_value_heads or config.num_attention_heads) * head_dim
    specs: dict[str, Shape] = {
        "model.embed_tokens.weight": (V, D),
        "model.norm.weight": (D,),
        "lm_head.weight": (V, D),
    }
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}"
        specs |= {
            f"{at}.self_attn.q_proj.weight": (Q, D),
            f"{at}.self_attn.k_proj.weight": (KV, D),
            f"{at}.self_attn.v_proj.weight": (KV, D),
            f"{at}.self_attn.o_proj.weight": (D, Q),
            f"{at}.self_attn.q_norm.weight": (Q,),
            f"{at}.self_attn.k_norm.weight": (KV,),
            f"{at}.post_attention_layernorm.weight": (D,),
            f"{at}.post_feedforward_layernorm.weight": (D,),
            build_gate(layer): (1, D),
            build_part(layer, 0, "gate_proj"): (F, D),
            build_part(layer, 0, "up_proj"): (F, D),
            build_part(layer, 0, "down_proj"): (D, F),
        }
    return specs


def digest_seed(dtype: str, shape: Shape) -> bytes:
    """What precedes a tensor's bytes in its digest, so that equal bytes of other form differ."""
    return f"{dtype}:{'x'.join(map(str, shape))}\n".encode()


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
