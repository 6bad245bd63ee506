"""FlexOlmo models: new ones, their tensors under names on disk, and builds put together.

The classes are transformers' own. On disk every expert has its own tensors; in memory
transformers stacks them: `gate_up_proj` [E, 2F, D] with the gate rows first, `down_proj` [E, D, F].
E experts (0 is the public one), D hidden width, F expert width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import FlexOlmoConfig, FlexOlmoForCausalLM

from modelops.artefacts import names, tensors
from modelops.artefacts.store import Store
from modelops.contract import PUBLIC
from modelops.errors import AnchorMismatch, ManifestMismatch, MergeError
from modelops.model import tokenizer

Tensors = Mapping[str, torch.Tensor]


def tiny_config(vocab_size: int, **sizes: Any) -> FlexOlmoConfig:
    """A small anchor's configuration; `sizes` are fields of `FlexOlmoConfig`.

    Special token ids follow `modelops.model.tokenizer`, whatever `sizes` says of the rest.
    """
    fields: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "num_experts": 1,
        "num_experts_per_tok": 1,
    }
    fields |= sizes
    return FlexOlmoConfig(
        **fields,
        vocab_size=vocab_size,
        pad_token_id=tokenizer.PAD_ID,
        bos_token_id=tokenizer.END_ID,
        eos_token_id=tokenizer.END_ID,
        norm_topk_prob=False,
        tie_word_embeddings=False,
    )


def new_anchor_model(config: FlexOlmoConfig, seed: int) -> FlexOlmoForCausalLM:
    """An untrained fp32 model with the public expert only, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FlexOlmoForCausalLM(_with_experts(config, n=1, top_k=1)).float()


def config_json(config: FlexOlmoConfig) -> bytes:
    """The bytes of `config.json`, as an anchor's manifest binds them."""
    return str(config.to_json_string(use_diff=False)).encode()


def load_config(store: Store, anchor_digest: str) -> FlexOlmoConfig:
    """The anchor's own configuration (one expert).

    Raises:
        MissingArtefact: the store lacks the anchor or its configuration.
    """
    fields = json.loads(store.read(store.anchor(anchor_digest).config_digest))
    return FlexOlmoConfig.from_dict(fields)


def anchor_tensors(model: FlexOlmoForCausalLM) -> dict[str, torch.Tensor]:
    """The anchor inside any model, under the names an anchor's file has.

    That is every shared tensor, expert 0 and router row 0: what training must leave as it was.
    """
    state = model.state_dict()
    found = {name: state[name] for name in state if ".mlp." not in name}
    for layer, block in enumerate(model.model.layers):
        found[names.build_gate(layer)] = block.mlp.gate.weight.detach()[0:1]
        for part, tensor in _parts(block.mlp, 0).items():
            found[names.build_part(layer, 0, part)] = tensor
    return found


def expert_tensors(model: FlexOlmoForCausalLM, index: int) -> dict[str, torch.Tensor]:
    """The expert at `index` of a model in memory, under the names an expert's file has."""
    found: dict[str, torch.Tensor] = {}
    for layer, block in enumerate(model.model.layers):
        found[names.router_row(layer)] = block.mlp.gate.weight.detach()[index]
        for part, tensor in _parts(block.mlp, index).items():
            found[names.expert_part(layer, part)] = tensor
    return found


def compose(
    config: FlexOlmoConfig, anchor: Tensors, experts: Sequence[Tensors], top_k: int | None = None
) -> FlexOlmoForCausalLM:
    """A model in evaluation mode from the anchor's tensors and, in this order, the experts'.

    `top_k` is clamped to the number of experts; None means all of them, as in the released
    checkpoints. Nothing is added, averaged or tuned: every tensor is a copy of its source.
    """
    n = len(experts) + 1
    whole = _with_experts(config, n, n if top_k is None else top_k)
    with torch.device("meta"):
        model = FlexOlmoForCausalLM(whole)
    state = {name: t.clone() for name, t in anchor.items() if ".mlp." not in name}
    for layer in range(config.num_hidden_layers):
        state |= _stacked(layer, anchor, experts)
    model.load_state_dict(state, strict=True, assign=True)
    # The rotary table is no parameter, so it stayed on meta; the library computes it again.
    model.model.rotary_emb = type(model.model.rotary_emb)(whole)
    return model.eval()


def assemble(
    store: Store, anchor_digest: str, experts: Mapping[str, str], top_k: int | None = None
) -> FlexOlmoForCausalLM:
    """The build of the anchor and `experts` (name → expert digest), ready to run.

    The public expert stands first, the others follow in the order of their names.

    Raises:
        MissingArtefact: the store lacks one of the digests.
        AnchorMismatch: an expert was trained beside another anchor.
        MergeError: an expert is called `public`.
        ManifestMismatch: a weights file does not hold the tensors of its manifest.
    """
    if PUBLIC in experts:
        raise MergeError(
            f"expected licensed experts only, found {PUBLIC!r} among them; "
            "leave it out, the anchor brings it"
        )
    loaded = [_expert(store, anchor_digest, name, experts[name]) for name in sorted(experts)]
    manifest = store.anchor(anchor_digest)
    anchor = tensors.load(store.path(manifest.weights_digest))
    _same_names(PUBLIC, anchor, [entry.name for entry in manifest.tensors])
    return compose(load_config(store, anchor_digest), anchor, loaded, top_k)


def _expert(store: Store, anchor_digest: str, name: str, digest: str) -> Tensors:
    manifest = store.expert(digest)
    if manifest.anchor_digest != anchor_digest:
        raise AnchorMismatch(
            f"expected expert {name!r} beside anchor {anchor_digest}, found "
            f"{manifest.anchor_digest}; train it again beside this anchor"
        )
    loaded = tensors.load(store.path(manifest.weights_digest))
    _same_names(name, loaded, [entry.name for entry in manifest.tensors])
    return loaded


def _same_names(owner: str, loaded: Tensors, listed: list[str]) -> None:
    odd = sorted(set(loaded) ^ set(listed))
    if odd:
        raise ManifestMismatch(
            f"expected the weights of {owner!r} to hold what the manifest lists, "
            f"found a difference in {odd[:4]}; put the bundle again"
        )


def _with_experts(config: FlexOlmoConfig, n: int, top_k: int) -> FlexOlmoConfig:
    fields = config.to_dict()
    fields |= {
        "num_experts": n,
        "num_experts_per_tok": min(top_k, n),
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
        "architectures": ["FlexOlmoForCausalLM"],
    }
    return FlexOlmoConfig.from_dict(fields)


def _parts(block: Any, index: int) -> dict[str, torch.Tensor]:
    gate, up = block.experts.gate_up_proj.detach()[index].chunk(2, dim=0)
    return {"gate_proj": gate, "up_proj": up, "down_proj": block.experts.down_proj.detach()[index]}


def _stacked(layer: int, anchor: Tensors, experts: Sequence[Tensors]) -> dict[str, torch.Tensor]:
    def all_of(part: str) -> list[torch.Tensor]:
        own = [expert[names.expert_part(layer, part)] for expert in experts]
        return [anchor[names.build_part(layer, 0, part)], *own]

    pairs = zip(all_of("gate_proj"), all_of("up_proj"), strict=True)
    rows = [expert[names.router_row(layer)].unsqueeze(0) for expert in experts]
    at = f"model.layers.{layer}.mlp"
    return {
        f"{at}.experts.gate_up_proj": torch.stack([torch.cat(pair) for pair in pairs]),
        f"{at}.experts.down_proj": torch.stack(all_of("down_proj")),
        f"{at}.gate.weight": torch.cat([anchor[names.build_gate(layer)], *rows]),
    }
