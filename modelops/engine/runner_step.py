"""One forward: tensors for a plan, the stock layers around our feed-forward part, its outcome.

Letters: B rows, S tokens of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from transformers import FlexOlmoConfig, FlexOlmoForCausalLM
from transformers.models.flex_olmo.modeling_flex_olmo import FlexOlmoRMSNorm

from modelops.artefacts.store import Store
from modelops.engine import sampling
from modelops.engine.attention import SteadyAttention, turns
from modelops.engine.bank import ExpertBank
from modelops.engine.kv import KVArena, StepKV
from modelops.engine.linear import FusedNorm, Layout, steady_linear
from modelops.engine.routing import GovernedMoE, RowUse, StepDesk, StepRouting
from modelops.engine.scheduler import StepPlan
from modelops.engine.weights import load_verified


@dataclass(frozen=True)
class Outcome:
    """What one step computed, not yet released: per sequence of the plan.

    `token_ids[i]` is the next token; None where the logits were not finite, or where nobody wants
    one yet (a chunk before the prompt's last). `scores[i]` are the log-probabilities of the prompt
    tokens from `start + 1` on, `likelihoods[i]` that of the next token, for who asked for them.
    """

    token_ids: tuple[int | None, ...]
    uses: tuple[RowUse, ...]
    scores: tuple[tuple[float, ...], ...] = ()
    likelihoods: tuple[sampling.Likelihood | None, ...] = ()


def governed_model(
    store: Store, anchor_digest: str, config: FlexOlmoConfig, bank: ExpertBank, desk: StepDesk,
    layout: Layout, device: torch.device,
) -> FlexOlmoForCausalLM:  # fmt: skip
    """transformers' own model of the anchor, with `GovernedMoE` for every feed-forward block.

    It is built without memory and takes the shared tensors as they lie in the anchor's file.

    Raises:
        MissingArtefact: the store lacks the anchor.
        ManifestMismatch: its weights are damaged.
    """
    with torch.device("meta"):
        model = FlexOlmoForCausalLM._from_config(config, attn_implementation="sdpa")  # noqa: SLF001
    for index, layer in enumerate(model.model.layers):
        layer.mlp = GovernedMoE(index, bank, desk)
    tensors = load_verified(store, store.anchor(anchor_digest).weights_digest)
    shared = {name: tensor for name, tensor in tensors.items() if ".mlp." not in name}
    model.load_state_dict(shared, strict=True, assign=True)
    # The rotary table is no parameter, so it stayed on meta; the library computes it again.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.to(device)
    for layer in model.model.layers:
        layer.self_attn = SteadyAttention(layer.self_attn, layout)
    model.lm_head = steady_linear(model.lm_head.weight, layout)
    _fuse_norms(model)
    return model.eval().requires_grad_(False)


class Forward:
    """Runs plans over one model, one arena and one bank."""

    def __init__(
        self,
        model: FlexOlmoForCausalLM,
        arena: KVArena,
        bank: ExpertBank,
        desk: StepDesk,
        device: torch.device,
    ) -> None:
        self._model, self._arena, self._bank, self._desk = model, arena, bank, desk
        self._layers, self._device = list(model.model.layers), device

    @torch.inference_mode()
    def run(self, plan: StepPlan, is_interrupted: Callable[[], bool]) -> Outcome:
        """Compute `plan` without changing any sequence; only arena positions not yet computed
        are written, so running it again is harmless.

        Raises:
            StepAbandoned: `is_interrupted` said yes at some layer.
            RoutingGuardError: the allowed sets did not cover exactly the step's tokens.
        """
        # The step's small tensors are made where the model is; sampling is the CPU's business.
        with nullcontext() if self._device.type == "cpu" else self._device:
            hidden_BSD, uses = self._through_the_layers(plan, is_interrupted)
        if not plan.is_prefill:
            return self._outcome(plan, hidden_BSD[:, -1], uses, ())
        return self._prompt_outcome(plan, hidden_BSD, uses)

    def _through_the_layers(
        self, plan: StepPlan, is_interrupted: Callable[[], bool]
    ) -> tuple[torch.Tensor, tuple[RowUse, ...]]:
        rows = plan.sequences
        ids, starts = _inputs(plan)
        S = len(ids[0])
        cache = StepKV(self._arena, [s.row for s in rows], starts, S)
        step = StepRouting(
            [s.lanes for s in rows],
            [s.top_k() for s in rows],
            S,
            len(self._bank.names()),
            is_interrupted,
        )
        with self._desk.open(step):
            hidden_BSD = self._hidden(torch.tensor(ids), cache)
        return hidden_BSD, tuple(step.use(len(self._layers)))

    def _hidden(self, ids_BS: torch.Tensor, cache: StepKV) -> torch.Tensor:
        inner = self._model.model
        hidden_BSD = inner.embed_tokens(ids_BS)
        rotary = turns(*inner.rotary_emb(hidden_BSD, cache.positions_BS))
        for layer in self._layers:
            hidden_BSD = layer(
                hidden_BSD,
                attention_mask=cache.mask_B1SP,
                position_ids=cache.positions_BS,
                past_key_values=cache,
                position_embeddings=rotary,
            )
        normed_BSD: torch.Tensor = inner.norm(hidden_BSD)
        return normed_BSD

    def _prompt_outcome(
        self, plan: StepPlan, hidden_BSD: torch.Tensor, uses: tuple[RowUse, ...]
    ) -> Outcome:
        scores = []
        for sequence, hidden_SD in zip(plan.sequences, hidden_BSD, strict=True):
            following = sequence.context_ids[plan.start + 1 : plan.end + 1]
            wanted = sequence.order.score_prompt
            logits_SV = self._logits(hidden_SD) if wanted else None
            found = () if logits_SV is None else sampling.log_shares(logits_SV, following)
            scores.append(tuple(found))
        if plan.end < len(plan.sequences[0].context_ids):
            return Outcome((None,) * len(uses), uses, tuple(scores))
        return self._outcome(plan, hidden_BSD[:, -1], uses, tuple(scores))

    def _outcome(
        self,
        plan: StepPlan,
        last_BD: torch.Tensor,
        uses: tuple[RowUse, ...],
        scores: tuple[tuple[float, ...], ...],
    ) -> Outcome:
        logits_BV = self._logits(last_BD)
        settings = [s.order.sampling for s in plan.sequences]
        pasts = [sampling.Past(s.prompt_ids, s.output_ids) for s in plan.sequences]
        token_ids = sampling.choose(logits_BV, settings, pasts)
        found = sampling.likelihoods(logits_BV, token_ids, settings)
        return Outcome(tuple(token_ids), uses, scores, tuple(found))

    def _logits(self, last_BD: torch.Tensor) -> torch.Tensor:
        logits_BV: torch.Tensor = self._model.lm_head(last_BD).cpu().float()
        return logits_BV


def _inputs(plan: StepPlan) -> tuple[list[list[int]], list[int]]:
    if plan.is_prefill:
        spans = [list(s.context_ids[plan.start : plan.end]) for s in plan.sequences]
        return spans, [plan.start] * len(spans)
    return [[s.next_input] for s in plan.sequences], [s.computed for s in plan.sequences]


def _fuse_norms(model: nn.Module) -> None:
    for owner in list(model.modules()):
        for name, stock in list(owner.named_children()):
            if isinstance(stock, FlexOlmoRMSNorm):
                setattr(owner, name, FusedNorm(stock.weight, stock.variance_epsilon))
