"""Which tensors an anchor, an expert and a build consist of: names and shapes; no torch here.

Sizes of a configuration: L layers, D hidden width, F expert width, V vocabulary.
Names follow transformers' flex_olmo checkpoints on disk; an expert's own file drops the index,
because an expert has a name and a digest, and a position only inside a build.
"""

from __future__ import annotations

from typing import Any, Protocol

PARTS = ("gate_proj", "up_proj", "down_proj")
ROUTER_ROW = "router_row"

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
