"""Attention of one layer, with stock weights and arithmetic and a third of stock's operations.

Letters: B rows of a step, S tokens of each, H heads, G key-value heads, W head width, P positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.flex_olmo.modeling_flex_olmo import FlexOlmoAttention

from modelops.engine.kv import StepKV
from modelops.engine.linear import FusedNorm, Layout, steady_linear
from modelops.errors import EngineError, RoutingGuardError

Turns = tuple[torch.Tensor, torch.Tensor]


class SteadyAttention(nn.Module):
    """Takes the place of a stock layer's `self_attn`: queries, keys and values from one product,
    keys and values in the arena, scores in the arena's precision.

    Raises:
        EngineError: the layer has biases, which no released FlexOlmo has.
    """

    def __init__(self, stock: FlexOlmoAttention, layout: Layout) -> None:
        super().__init__()
        if stock.q_proj.bias is not None:
            raise EngineError("expected attention without biases, found some; use another anchor")
        weights = [stock.q_proj.weight, stock.k_proj.weight, stock.v_proj.weight]
        self._widths: list[int] = [len(weight) for weight in weights]
        self._inward: nn.Module = steady_linear(torch.cat(weights), layout)
        self._outward: nn.Module = steady_linear(stock.o_proj.weight, layout)
        self._norm_query: nn.Module = FusedNorm(stock.q_norm.weight, stock.q_norm.variance_epsilon)
        self._norm_key: nn.Module = FusedNorm(stock.k_norm.weight, stock.k_norm.variance_epsilon)
        self._layer: int = stock.layer_idx
        self._W: int = stock.head_dim
        self._scale: float = stock.scaling
        self._heads: list[int] = [width // self._W for width in self._widths[:2]]

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: Turns,
        attention_mask: torch.Tensor,
        past_key_values: StepKV | None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        """As stock's, but `position_embeddings` are what `turns` returns.

        Raises:
            RoutingGuardError: the model was called outside of a step.
        """
        if not isinstance(past_key_values, StepKV):
            raise RoutingGuardError(
                "expected the rows of a step, found none; call the model through the engine"
            )
        B, S, _D = hidden_states.shape
        query, key, value = self._inward(hidden_states).split(self._widths, dim=-1)
        normed = torch.cat([self._norm_query(query), self._norm_key(key)], dim=-1)
        both = _turned(normed.view(B, S, -1, self._W), position_embeddings)
        both = both.to(past_key_values.dtype)
        query_BSHW, key_BSGW = both.split(self._heads, dim=2)
        keys_BGPW, values_BGPW = past_key_values.update(
            key_BSGW, value.view(B, S, -1, self._W), self._layer
        )
        found_BHSW = functional.scaled_dot_product_attention(
            query_BSHW.transpose(1, 2),
            keys_BGPW,
            values_BGPW,
            attn_mask=attention_mask,
            scale=self._scale,
            enable_gqa=self._heads[0] != self._heads[1],
        )
        found = found_BHSW.transpose(1, 2).reshape(B, S, -1).to(hidden_states.dtype)
        return self._outward(found), None


def turns(cos_BSW: torch.Tensor, sin_BSW: torch.Tensor) -> Turns:
    """A step's rotary table [B, S, 1, W] made ready for all layers: the first half of the sines
    is negated here, once, instead of half of every query and key."""
    lower, upper = sin_BSW.chunk(2, dim=-1)
    return cos_BSW.unsqueeze(2), torch.cat((-lower, upper), dim=-1).unsqueeze(2)


def _turned(x_BSHW: torch.Tensor, by: Turns) -> torch.Tensor:
    cos, signed_sin = by
    swapped = x_BSHW.roll(x_BSHW.shape[-1] // 2, -1)
    return (x_BSHW * cos).add_(swapped * signed_sin)
