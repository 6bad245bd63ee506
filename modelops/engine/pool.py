"""Memory for experts that is taken once: an expert is copied into a slot and zeroed out of it.

Addresses and shapes never change, which is what a GPU wants; the next expert finds the room of
the last one. Letters: L layers, F expert width, D hidden width.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import torch
from transformers import FlexOlmoConfig

from modelops.errors import EngineError


class Pool:
    """`slots` places for an expert in every layer, on one device."""

    def __init__(
        self, config: FlexOlmoConfig, slots: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        L, F, D = config.num_hidden_layers, config.intermediate_size, config.hidden_size
        self._inward = torch.zeros(slots, L, 2 * F, D, dtype=dtype, device=device)
        self._down = torch.zeros(slots, L, D, F, dtype=dtype, device=device)
        self._free = list(reversed(range(slots)))
        self._lock = threading.Lock()

    def fill(
        self, parts: Sequence[Mapping[str, torch.Tensor]]
    ) -> tuple[int, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Copy an expert's layers into a free slot; the slot, and gate-up [2F, D] with down [D, F]
        of each layer as they lie there. From any thread.

        Raises:
            EngineError: no slot is free.
        """
        with self._lock:
            if not self._free:
                raise EngineError(
                    f"expected a free slot, found all {len(self._inward)} taken; unload an expert "
                    "or start the engine with more slots"
                )
            slot = self._free.pop()
        for layer, part in enumerate(parts):
            gate_up_FD = torch.cat([part["gate_proj"], part["up_proj"]])
            self._inward[slot, layer].copy_(gate_up_FD)
            self._down[slot, layer].copy_(part["down_proj"])
        return slot, list(zip(self._inward[slot].unbind(), self._down[slot].unbind(), strict=True))

    def clear(self, slot: int) -> None:
        """Overwrite a slot with zeros and give it to whoever comes next."""
        self._inward[slot].zero_()
        self._down[slot].zero_()
        with self._lock:
            self._free.append(slot)
