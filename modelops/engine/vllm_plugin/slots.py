"""Experts in and out of a running model's slots, in the order its kernels read. Imports vLLM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from modelops.errors import EngineError

Packing = Callable[[torch.Tensor], torch.Tensor]


class Slots:
    """The slots of every layer of a governed model; slot 0 is the public expert's.

    Raises:
        EngineError: the kernel keeps its weights in an order that one expert cannot be written in.
    """

    def __init__(self, blocks: Sequence[Any]) -> None:
        self._gates = [block.gate.weight for block in blocks]
        self._layers = [block.experts.routed_experts for block in blocks]
        self._packing = _packing_of(self._layers[0])

    def fill(
        self,
        slot: int,
        rows: Sequence[torch.Tensor],
        parts: Sequence[Mapping[str, torch.Tensor]],
    ) -> None:
        """Write an expert: its router row [D] and its three parts, layer by layer."""
        for gate, layer, row_D, part in zip(self._gates, self._layers, rows, parts, strict=True):
            F = layer.w2_weight.shape[2]  # as wide as the kernel wants it, filled up with zeros
            spare = F - part["gate_proj"].shape[0]
            inward = [functional.pad(part[p], (0, 0, 0, spare)) for p in ("gate_proj", "up_proj")]
            self._write(layer.w13_weight, slot, torch.cat(inward))
            self._write(layer.w2_weight, slot, functional.pad(part["down_proj"], (0, spare)))
            gate.data[slot].copy_(row_D)

    def clear(self, slot: int) -> int:
        """Overwrite a slot with zeros in every layer; the bytes that were wiped."""
        wiped = 0
        for gate, layer in zip(self._gates, self._layers, strict=True):
            for weight in (gate, layer.w13_weight, layer.w2_weight):
                wiped += weight.data[slot].zero_().nbytes
        if self._gates[0].is_cuda:
            torch.cuda.synchronize()  # zeros only asked for are no evidence
        return wiped

    def _write(self, weight: torch.Tensor, slot: int, part: torch.Tensor) -> None:
        kept = part.to(weight.dtype).unsqueeze(0).contiguous()
        weight.data[slot].copy_(self._packing(kept)[0].view_as(weight.data[slot]))


def _packing_of(layer: Any) -> Packing:
    """How this layer's kernel wants one expert's matrix [1, N, D] to lie."""
    method = layer.quant_method
    backend = getattr(getattr(method, "unquantized_backend", None), "name", "")
    if backend == "TRITON":
        return lambda weight: weight
    kernel = method.moe_kernel.fused_experts if backend == "CPU" else None
    if kernel is not None and not getattr(kernel, "_use_zentorch", True):
        from vllm._custom_ops import cpu_prepack_moe_weight

        isa = kernel.isa
        return lambda weight: cpu_prepack_moe_weight(weight, isa)
    raise EngineError(
        f"expected vLLM's Triton or CPU kernel for experts, found {backend or method}; choose it "
        "with --moe-backend"
    )
