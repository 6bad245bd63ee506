"""An expert in training beside the frozen public one, in place of each mixture-of-experts block.

transformers keeps all experts of a layer in one tensor, so that freezing half of it means zeroing
gradients after the fact, and an optimiser with decay would still move it. Here the frozen half is
no parameter at all: it gets no gradient and no optimiser ever sees it. The arithmetic is that of
the stock block with two experts, both chosen (paper §3.3.1, top 2 of 2).

T tokens, D hidden width, F expert width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from modelops.artefacts import names

Tensors = dict[str, torch.Tensor]


class Beside(nn.Module):
    """The public expert and router row as buffers, the owner's as parameters."""

    public_gate_up: torch.Tensor
    public_down: torch.Tensor
    public_row: torch.Tensor

    def __init__(self, block: Any) -> None:
        super().__init__()
        for name, frozen in (
            ("public_gate_up", block.experts.gate_up_proj[0]),
            ("public_down", block.experts.down_proj[0]),
            ("public_row", block.gate.weight[0]),
        ):
            self.register_buffer(name, frozen.detach().clone())
        self.gate_up = nn.Parameter(block.experts.gate_up_proj[0].detach().clone())
        self.down = nn.Parameter(block.experts.down_proj[0].detach().clone())
        self.row = nn.Parameter(block.gate.weight[0].detach().clone())
        self.logits: torch.Tensor | None = None
        """Of the last forward pass, [B, T, 2]: public, own."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The mixture's output for hidden states [B, T, D]."""
        rows = torch.stack((self.public_row, self.row))
        self.logits = functional.linear(hidden, rows)
        weights = self.logits.float().softmax(-1).to(hidden.dtype)
        public = feed_forward(hidden, self.public_gate_up, self.public_down)
        own = feed_forward(hidden, self.gate_up, self.down)
        return public * weights[..., :1] + own * weights[..., 1:]


class Alone(nn.Module):
    """The stock block of a one-expert model without its routing: weight 1, every token."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The public expert's output for hidden states [B, T, D]."""
        experts = self.block.experts
        return feed_forward(hidden, experts.gate_up_proj[0], experts.down_proj[0])


def feed_forward(hidden: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """SwiGLU: `gate_up` [2F, D] with the gate rows first, `down` [D, F]."""
    gate, up = functional.linear(hidden, gate_up).chunk(2, dim=-1)
    return functional.linear(functional.silu(gate) * up, down)


def place_beside(model: Any) -> list[Beside]:
    """Freeze a public-only model, put a `Beside` into each layer, and return them in order."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    blocks = []
    for layer in model.model.layers:
        layer.mlp = Beside(layer.mlp)
        blocks.append(layer.mlp)
    return blocks


def frozen_tensors(model: Any) -> Tensors:
    """What must equal the anchor after training, under the anchor's names on disk."""
    found: Tensors = {
        name: tensor for name, tensor in model.state_dict().items() if ".mlp." not in name
    }
    for layer, block in enumerate(_blocks(model)):
        gate, up = block.public_gate_up.chunk(2, dim=0)
        found[names.build_gate(layer)] = block.public_row[None]
        for part, tensor in zip(names.PARTS, (gate, up, block.public_down), strict=True):
            found[names.build_part(layer, 0, part)] = tensor
    return found


def own_tensors(model: Any) -> Tensors:
    """The owner's expert, under the names of an expert's file."""
    found: Tensors = {}
    for layer, block in enumerate(_blocks(model)):
        gate, up = block.gate_up.detach().chunk(2, dim=0)
        found[names.router_row(layer)] = block.row.detach()
        for part, tensor in zip(names.PARTS, (gate, up, block.down.detach()), strict=True):
            found[names.expert_part(layer, part)] = tensor
    return found


def _blocks(model: Any) -> list[Beside]:
    return [layer.mlp for layer in model.model.layers]
