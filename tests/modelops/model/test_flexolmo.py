"""Models: what goes in as tensors comes out as tensors, and a build is its parts."""

import dataclasses

import pytest
import torch

from modelops.artefacts import bundle, tensors
from modelops.artefacts.manifest import shared_digests
from modelops.errors import AnchorMismatch, ManifestMismatch, MergeError, MissingArtefact
from modelops.model import flexolmo
from tests.modelops import worlds

IDS = torch.tensor([[5, 17, 200, 33, 8, 90]])


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_a_new_anchor_is_the_same_for_the_same_seed_and_leaves_chance_alone():
    config = flexolmo.tiny_config(300, hidden_size=32, num_hidden_layers=1)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (flexolmo.new_anchor_model(config, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(logits(first), logits(again))
    assert not torch.equal(logits(first), logits(other))


def test_the_configuration_takes_its_token_ids_from_the_tokenizer(tiny):
    config = flexolmo.load_config(tiny.store, tiny.anchor_digest)
    assert config.pad_token_id == tiny.tokenizer.token_to_id("<|pad|>")
    assert config.eos_token_id == config.bos_token_id == tiny.tokenizer.token_to_id("<|endoftext|>")
    assert config.norm_topk_prob is False
    assert config.tie_word_embeddings is False
    assert config.num_experts == 1
    assert flexolmo.config_json(config) == tiny.store.read(
        tiny.store.anchor(tiny.anchor_digest).config_digest
    )


def test_every_tensor_of_a_build_is_its_sources(tiny):
    model = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts)
    anchor = tensors.load(tiny.bundles["public"] / "weights.safetensors")
    held = flexolmo.anchor_tensors(model)
    assert held.keys() == anchor.keys()
    assert all(torch.equal(held[name], anchor[name]) for name in anchor)
    for index, name in enumerate(sorted(tiny.experts), start=1):
        own = tensors.load(tiny.bundles[name] / "weights.safetensors")
        held = flexolmo.expert_tensors(model, index)
        assert held.keys() == own.keys()
        assert all(torch.equal(held[one], own[one]) for one in own)


def test_the_order_experts_are_named_in_does_not_matter(tiny):
    turned = dict(reversed(tiny.experts.items()))
    first = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, 2)
    second = flexolmo.assemble(tiny.store, tiny.anchor_digest, turned, 2)
    assert torch.equal(logits(first), logits(second))


def test_a_build_without_experts_is_the_anchor(tiny):
    alone = flexolmo.assemble(tiny.store, tiny.anchor_digest, {})
    assert torch.equal(logits(alone), logits(flexolmo.new_anchor_model(tiny.config, seed=7)))


def test_an_expert_changes_what_is_said(tiny):
    one = {"alder-news": tiny.experts["alder-news"]}
    alone, both = (flexolmo.assemble(tiny.store, tiny.anchor_digest, e) for e in ({}, one))
    assert (logits(alone) - logits(both)).abs().max() > 1e-3


@pytest.mark.parametrize(("top_k", "expected"), [(None, 4), (1, 1), (3, 3), (9, 4)])
def test_top_k_is_clamped_to_the_experts_there_are(tiny, top_k, expected):
    model = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, top_k)
    assert model.config.num_experts == 4
    assert model.config.num_experts_per_tok == expected
    assert model.model.layers[0].mlp.gate.top_k == expected


def test_a_build_is_ready_to_generate(tiny):
    model = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, 2)
    assert not model.training
    assert all(not tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    mask = torch.ones_like(IDS)
    ids = model.generate(IDS, attention_mask=mask, max_new_tokens=4, do_sample=False)
    assert ids.shape[1] > IDS.shape[1]


def test_training_a_build_leaves_the_store_as_it_was(tiny):
    model = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    again = flexolmo.assemble(tiny.store, tiny.anchor_digest, tiny.experts, 2)
    assert not (flexolmo.expert_tensors(again, 1)["model.layers.0.mlp.router_row"] == 0.5).all()


def test_the_public_expert_is_never_named_as_licensed(tiny):
    with pytest.raises(MergeError, match="licensed"):
        flexolmo.assemble(tiny.store, tiny.anchor_digest, {"public": tiny.experts["alder-news"]})


def test_an_expert_of_another_anchor_is_refused(own_tiny, tmp_path):
    other = flexolmo.new_anchor_model(own_tiny.config, seed=8)
    manifest = bundle.write_anchor(
        tmp_path / "other",
        flexolmo.anchor_tensors(other),
        flexolmo.config_json(other.config),
        b"{}",
    )
    stranger = own_tiny.store.put_anchor(tmp_path / "other")
    bundle.write_expert(
        tmp_path / "expert",
        worlds.random_expert(own_tiny.config, 3),
        stranger,
        shared_digests(manifest),
        {},
    )
    digest = own_tiny.store.put_expert(tmp_path / "expert")
    with pytest.raises(AnchorMismatch, match="train it again"):
        flexolmo.assemble(own_tiny.store, own_tiny.anchor_digest, {"stranger": digest})


def test_an_erased_expert_cannot_be_assembled(own_tiny):
    manifest = own_tiny.store.expert(own_tiny.experts["alder-news"])
    own_tiny.store.erase(manifest.weights_digest)
    with pytest.raises(MissingArtefact):
        flexolmo.assemble(own_tiny.store, own_tiny.anchor_digest, own_tiny.experts)


def test_weights_that_do_not_hold_what_the_manifest_lists_are_refused(own_tiny, tmp_path):
    named = worlds.random_expert(own_tiny.config, 3)
    named.pop("model.layers.0.mlp.router_row")
    bundle.write_expert(tmp_path / "e", named, own_tiny.anchor_digest, {}, {})
    other = worlds.random_expert(own_tiny.config, 3)
    short = own_tiny.store.expert(own_tiny.store.put_expert(tmp_path / "e"))
    false = dataclasses.replace(short, tensors=tensors.entries(other))
    digest = own_tiny.store.put_bytes(false.to_json())
    with pytest.raises(ManifestMismatch, match="router_row"):
        flexolmo.assemble(own_tiny.store, own_tiny.anchor_digest, {"short": digest})
