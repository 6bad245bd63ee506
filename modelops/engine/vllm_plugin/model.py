"""FlexOlmo for vLLM with a bias on its router. Imports vLLM; has never been run (docs/vllm.md)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn
from vllm.model_executor.models.flex_olmo import (
    FlexOlmoDecoderLayer,
    FlexOlmoForCausalLM,
    FlexOlmoMoE,
)
from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from modelops.contract import PUBLIC
from modelops.engine.vllm_plugin.rights import RightsTable
from modelops.errors import EngineError, UnknownExpert

log = logging.getLogger(__name__)


class GovernedMoE(FlexOlmoMoE):
    """As vLLM's own, with the step's bias on the router's logits."""

    bias_TE: torch.Tensor  # the buffer of the rights table, the same for all layers

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        shape = hidden_states.shape
        x_TD = hidden_states.view(-1, shape[-1])
        logits_TE = self.gate(x_TD).float() + self.bias_TE[: x_TD.shape[0]]
        # vLLM's experts write into what they are given.
        answer_TD = self.experts(hidden_states=x_TD.detach().clone(), router_logits=logits_TE)
        found: torch.Tensor = answer_TD.view(shape)
        return found


class GovernedDecoderLayer(FlexOlmoDecoderLayer):
    """As vLLM's own, with `GovernedMoE`."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.mlp.__class__ = GovernedMoE  # the same parts; a second one would take memory twice


class GovernedFlexOlmoForCausalLM(FlexOlmoForCausalLM):
    """The model; `rights` is the table its layers read and its state writes."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=GovernedDecoderLayer)
        config, limits = vllm_config.model_config.hf_config, vllm_config.scheduler_config
        names = [PUBLIC, *config.reclaim_experts]
        if len(names) != config.num_experts:
            raise EngineError(
                f"expected {config.num_experts - 1} names in reclaim_experts, found {names[1:]}; "
                "write the build's experts into the folder's config.json, in their order"
            )
        self.rights = RightsTable(
            names,
            limits.max_num_seqs,
            limits.max_num_batched_tokens,
            torch.get_default_device(),
        )
        for module in self.modules():
            if isinstance(module, GovernedMoE):
                module.bias_TE = self.rights.bias_TE

    @staticmethod
    def get_model_state_cls() -> type[GovernedModelState]:
        return GovernedModelState

    def withdraw(self, name: str) -> list[str]:
        """Take an expert from all rows and zero its weights here; the requests to be ended."""
        hit, column = self.rights.withdraw(name), self.rights.column(name)
        for module in self.modules():
            if isinstance(module, GovernedMoE):
                _zero_expert(module.experts, column)
        return hit


class GovernedModelState(DefaultModelState):
    """Reads a request's experts when it comes, and writes the buffer before each step."""

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        super().add_request(req_index, new_req_data)
        params = new_req_data.sampling_params
        extra_args = params.extra_args if params is not None else None
        try:
            self.model.rights.admit(new_req_data.req_id, req_index, extra_args)
        except UnknownExpert as error:
            # Its row is closed. An error here would end the worker and every other answer with it.
            log.warning("%s is served by the public expert alone: %s", new_req_data.req_id, error)

    def remove_request(self, req_id: str) -> None:
        super().remove_request(req_id)
        self.model.rights.release(req_id)

    def prepare_inputs(self, input_batch: Any, req_states: Any) -> dict[str, Any]:
        self.model.rights.fill(
            input_batch.idx_mapping,
            input_batch.query_start_loc[: input_batch.num_reqs + 1],
            input_batch.num_tokens_after_padding,
        )
        found: dict[str, Any] = super().prepare_inputs(input_batch, req_states)
        return found


def _zero_expert(experts: nn.Module, column: int) -> None:
    with torch.no_grad():
        for name, weight in experts.named_parameters():
            if name.endswith(("w13_weight", "w2_weight")):
                weight[column].zero_()
