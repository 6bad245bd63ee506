"""Plans: names and digests, never positions; a plan without X is the plan minus X's copies."""

import dataclasses
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.artefacts.manifest import (
    AnchorManifest,
    ExpertManifest,
    TensorEntry,
    digest,
    shared_digests,
)
from modelops.artefacts.names import anchor_tensor_specs, expert_tensor_specs
from modelops.errors import AnchorMismatch, ManifestMismatch, MergeError
from modelops.merging.plan import plan
from modelops.model import flexolmo

CONFIG = flexolmo.tiny_config(300, hidden_size=8, intermediate_size=12, num_hidden_layers=2)
NAMES = st.sets(st.text(string.ascii_lowercase + "-", min_size=1, max_size=6), max_size=5).filter(
    lambda names: "public" not in names
)


def entries(specs, salt):
    return tuple(
        TensorEntry(name, "F32", shape, f"{salt:032x}{at:032x}")
        for at, (name, shape) in enumerate(specs.items())
    )


ANCHOR = AnchorManifest("1" * 64, "2" * 64, "3" * 64, entries(anchor_tensor_specs(CONFIG), 0))


def expert(salt, **changes):
    manifest = ExpertManifest(
        digest(ANCHOR),
        f"{salt + 10:064x}",
        entries(expert_tensor_specs(CONFIG), salt + 1),
        shared_digests(ANCHOR),
    )
    return dataclasses.replace(manifest, **changes)


def unique(names):
    """Experts of these names, each with weights of its own."""
    return {
        name: (digest(manifest), manifest)
        for at, name in enumerate(sorted(names))
        for manifest in [expert(at)]
    }


def planned(named, top_k=2):
    return plan(digest(ANCHOR), ANCHOR, named, top_k)


@given(NAMES, st.data(), st.integers(1, 7))
def test_a_plan_without_an_expert_is_the_plan_minus_its_copies(names, data, top_k):
    named = unique(names)
    if not named:
        return
    gone = data.draw(st.sampled_from(sorted(named)))
    rest = {name: pair for name, pair in named.items() if name != gone}
    whole = planned(named, top_k)
    fewer = planned(rest, top_k)
    assert fewer == whole.without(gone)
    assert set(fewer.copies) == {copy for copy in whole.copies if copy.expert != gone}
    assert digest(fewer.manifest) == digest(whole.without(gone).manifest)


@given(NAMES, st.randoms())
def test_the_order_experts_are_given_in_does_not_matter(names, chance):
    named = unique(names)
    turned = list(named.items())
    chance.shuffle(turned)
    assert planned(dict(turned)) == planned(named)
    assert planned(dict(turned)).shards() == planned(named).shards()


@given(NAMES, st.integers(1, 9))
def test_the_checkpoint_has_every_stock_name_once_and_nothing_else(names, top_k):
    whole = planned(unique(names), top_k)
    n = len(whole.expert_names)
    held = [target for shard in whole.shards() for target in shard.targets]
    expected = {
        name.replace(".experts.0.", f".experts.{index}."): shape
        for name, shape in anchor_tensor_specs(CONFIG).items()
        for index in (range(n) if ".experts.0." in name else [0])
    }
    expected |= {f"model.layers.{at}.mlp.gate.weight": (n, 8) for at in range(2)}
    assert len(held) == len(expected)
    assert {target.name: target.shape for target in held} == expected
    assert whole.experts_per_token == min(top_k, n)


@given(NAMES)
def test_each_index_and_router_row_belongs_to_the_expert_of_that_name(names):
    whole = planned(unique(names))
    targets = {t.name: t for shard in whole.shards() for t in shard.targets}
    for index, name in enumerate(whole.expert_names):
        part = targets[f"model.layers.1.mlp.experts.{index}.up_proj.weight"]
        assert [copy.expert for copy in part.copies] == [name]
    gate = targets["model.layers.1.mlp.gate.weight"]
    assert [copy.expert for copy in gate.copies] == list(whole.expert_names)


def test_shards_are_one_a_layer_and_one_for_the_rest():
    shards = planned(unique({"a", "b"})).shards()
    assert [shard.file_name for shard in shards] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    ]
    assert not any(".layers." in target.name for target in shards[0].targets)
    for layer, shard in enumerate(shards[1:]):
        assert all(f".layers.{layer}." in target.name for target in shard.targets)


def test_layers_are_ordered_by_number_not_by_spelling():
    deep = flexolmo.tiny_config(300, hidden_size=8, intermediate_size=12, num_hidden_layers=11)
    anchor = dataclasses.replace(ANCHOR, tensors=entries(anchor_tensor_specs(deep), 0))
    shards = plan(digest(anchor), anchor, {}, 1).shards()
    assert ".layers.2." in shards[3].targets[0].name
    assert ".layers.10." in shards[11].targets[0].name


def test_the_same_weights_under_two_names_are_an_error():
    manifest = expert(1)
    named = {"a": (digest(manifest), manifest), "b": (digest(manifest), manifest)}
    with pytest.raises(MergeError, match="expected each expert once"):
        planned(named)


def test_the_same_weights_under_two_manifests_are_an_error_too():
    first = expert(1)
    second = expert(1, corpus_root="9" * 64)
    named = {"a": (digest(first), first), "b": (digest(second), second)}
    with pytest.raises(MergeError, match="expected each expert once"):
        planned(named)


@pytest.mark.parametrize("name", ["public", ""])
def test_reserved_names_are_an_error(name):
    manifest = expert(1)
    with pytest.raises(MergeError, match="licensed"):
        planned({name: (digest(manifest), manifest)})


def test_a_top_k_below_one_is_an_error():
    with pytest.raises(MergeError, match="top_k"):
        planned({}, top_k=0)


def test_an_expert_of_another_anchor_is_an_error():
    manifest = expert(1, anchor_digest="0" * 64)
    with pytest.raises(AnchorMismatch, match="beside anchor"):
        planned({"a": (digest(manifest), manifest)})


@pytest.mark.parametrize("way", ["changed", "left out", "added"])
def test_an_expert_that_changed_a_shared_tensor_is_an_error(way):
    shared = shared_digests(ANCHOR)
    if way == "changed":
        shared["model.norm.weight"] = "0" * 64
    elif way == "left out":
        del shared["model.norm.weight"]
    else:
        shared["model.more"] = "0" * 64
    manifest = expert(1, shared=shared)
    with pytest.raises(AnchorMismatch, match="1 that differ"):
        planned({"a": (digest(manifest), manifest)})


def test_a_manifest_under_a_digest_that_is_not_its_own_is_an_error():
    with pytest.raises(ManifestMismatch, match="expert 'a'"):
        planned({"a": ("0" * 64, expert(1))})
    with pytest.raises(ManifestMismatch, match="anchor"):
        plan("0" * 64, ANCHOR, {}, 1)


def test_tensors_that_do_not_fit_the_anchors_are_an_error():
    first, *rest = expert(1).tensors
    for odd in (
        (*rest,),
        (dataclasses.replace(first, dtype="BF16"), *rest),
        (dataclasses.replace(first, shape=(1, *first.shape)), *rest),
        (first, *rest, TensorEntry("model.layers.0.mlp.more", "F32", (1,), "0" * 64)),
    ):
        manifest = expert(1, tensors=odd)
        with pytest.raises(MergeError, match="expected"):
            planned({"a": (digest(manifest), manifest)})


@pytest.mark.parametrize("name", ["public", "stranger"])
def test_only_a_licensed_expert_of_the_plan_can_be_taken_out(name):
    with pytest.raises(MergeError, match="take out"):
        planned(unique({"a"})).without(name)
