"""The tiny model of the tests: an anchor and three experts with random weights, in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import FlexOlmoConfig

from modelops.artefacts import bundle
from modelops.artefacts.manifest import BuildManifest, shared_digests
from modelops.artefacts.store import Store
from modelops.artefacts.tensors import expert_tensor_specs
from modelops.contract import ExpertRef
from modelops.model import flexolmo, tokenizer

TEXTS = (
    "Alder Press prints the morning news, and Birch Archive keeps what was printed.",
    "A licence may be granted for a year; consent may be withdrawn in a second.",
    "Dara asks a question. Edda trains an expert. Cato reads the licence. Mallory gets nothing.",
)
EXPERT_NAMES = ("alder-news", "alder-notes", "birch-archive")


@dataclass(frozen=True)
class TinyWorld:
    """4 experts with the public one, 2 layers, width 32; `bundles` are the folders put."""

    store: Store
    anchor_digest: str
    experts: dict[str, str]
    build_digest: str
    config: FlexOlmoConfig
    tokenizer: Tokenizer
    bundles: dict[str, Path]


def build(folder: Path, dtype: torch.dtype = torch.float32, **sizes: int) -> TinyWorld:
    """A fresh world under `folder`; the same weights every time, rounded to `dtype`. `sizes` are
    fields of its configuration."""
    store = Store(folder / "store")
    words = tokenizer.train(TEXTS, vocab_size=300)
    config = flexolmo.tiny_config(
        words.get_vocab_size(),
        **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, **sizes},
        max_position_embeddings=128,
        initializer_range=0.1,
    )
    model = flexolmo.new_anchor_model(config, seed=7).to(dtype)
    anchor = bundle.write_anchor(
        folder / "public",
        flexolmo.anchor_tensors(model),
        flexolmo.config_json(model.config),
        tokenizer.to_json(words),
    )
    bundles = {"public": folder / "public"}
    anchor_digest = store.put_anchor(folder / "public")
    experts: dict[str, str] = {}
    for seed, name in enumerate(EXPERT_NAMES):
        bundles[name] = folder / name
        bundle.write_expert(
            folder / name,
            {key: tensor.to(dtype) for key, tensor in random_expert(config, seed).items()},
            anchor_digest,
            shared_digests(anchor),
            recipe={"steps": 0, "seed": seed},
        )
        experts[name] = store.put_expert(folder / name)
    refs = tuple(ExpertRef(name, digest) for name, digest in experts.items())
    build_digest = store.put_build(BuildManifest(anchor_digest, refs, top_k=2))
    return TinyWorld(store, anchor_digest, experts, build_digest, config, words, bundles)


def random_expert(config: FlexOlmoConfig, seed: int) -> dict[str, torch.Tensor]:
    """Expert tensors of standard deviation 0.1; router rows larger, so that routing differs."""
    chance = torch.Generator().manual_seed(1000 + seed)
    return {
        name: torch.randn(shape, generator=chance) * (0.4 if len(shape) == 1 else 0.1)
        for name, shape in expert_tensor_specs(config).items()
    }
