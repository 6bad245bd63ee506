"""FlexOlmo for vLLM: the stock transformers layers, with a router that obeys the rights table.

vLLM 0.32 has no FlexOlmo class and runs transformers' on its own attention, products and fused
experts. Imports vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.nn import functional
from transformers.models.flex_olmo.modeling_flex_olmo import (
    FlexOlmoSparseMoeBlock,
    FlexOlmoTopKRouter,
)
from vllm.model_executor.models.transformers import TransformersMoEForCausalLM
from vllm.model_executor.models.transformers.moe import TransformersMoERunner

from modelops.engine.vllm_plugin.rights import RightsTable
from modelops.errors import EngineError

ARCHITECTURE = "GovernedFlexOlmoForCausalLM"
GATE = ".mlp.gate.weight"


class GovernedRouter(FlexOlmoTopKRouter):
    """As the stock router, with the step's rights before its choice."""

    rights: RightsTable

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x_TD = hidden_states.reshape(-1, self.hidden_dim)
        logits_TE = functional.linear(x_TD, self.weight)
        return (logits_TE, *self.rights.route(logits_TE))


class GovernedFlexOlmoForCausalLM(TransformersMoEForCausalLM):
    """The anchor with room for more experts. `choose` turns a step's logits [B, V] into logits
    that leave vLLM's sampler one token a row; None leaves them as they are.

    Raises:
        EngineError: vLLM put its own routing in the place of the governed one.
    """

    choose: Callable[[torch.Tensor], torch.Tensor] | None = None

    def _decorate_for_torch_compile(self) -> None:
        """Nothing: it would change transformers' own class for the whole process."""

    def recursive_replace(self) -> None:
        config, limits = self.config, self.vllm_config.scheduler_config
        self.rights = RightsTable(
            config.num_experts,
            config.num_experts_per_tok,
            limits.max_num_batched_tokens,
            self.device_config.device,
        )
        blocks: list[Any] = [
            m for m in self.model.modules() if isinstance(m, FlexOlmoSparseMoeBlock)
        ]
        for block in blocks:
            # The same weights: a second router would take the checkpoint's name twice.
            block.gate.__class__ = GovernedRouter
            block.gate.rights = self.rights
        super().recursive_replace()
        self.governed = blocks
        for block in blocks:
            if type(block.gate) is not GovernedRouter or not isinstance(
                block.experts, TransformersMoERunner
            ):
                raise EngineError(
                    f"expected the governed router in front of every expert, found "
                    f"{type(block.gate).__name__} and {type(block.experts).__name__}; use the "
                    "vLLM this was written for"
                )

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Take the anchor's file: the public expert into its slot, nothing into the others."""
        for block in self.governed:
            for weight in block.experts.parameters():
                weight.data.zero_()
        found: set[str] = super().load_weights(self._widened(weights))
        return found

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        logits_BV = super().compute_logits(hidden_states)
        return logits_BV if self.choose is None else self.choose(logits_BV)

    def _widened(self, weights: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        for name, weight in weights:
            rows = self.rights.slots - weight.shape[0] if name.endswith(GATE) else 0
            yield name, functional.pad(weight, (0, 0, 0, rows)) if rows else weight
