"""Manifests: one spelling, one digest, nothing lost and nothing let in."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.artefacts.manifest import (
    AnchorManifest,
    BuildManifest,
    ExpertManifest,
    TensorEntry,
    digest,
    shared_digests,
)
from modelops.contract import ExpertRef
from modelops.errors import ManifestMismatch

HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.text(string.ascii_lowercase + "-éø", min_size=1, max_size=12).filter(
    lambda name: name != "public"
)
ENTRIES = st.builds(
    TensorEntry,
    NAMES,
    st.sampled_from(["F32", "BF16"]),
    st.lists(st.integers(0, 99), max_size=3).map(tuple),
    HEX,
)
TENSORS = st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.name).map(tuple)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)  # fmt: skip
ANCHORS = st.builds(AnchorManifest, HEX, HEX, HEX, TENSORS)
EXPERTS = st.builds(
    ExpertManifest,
    HEX,
    HEX,
    TENSORS,
    st.dictionaries(NAMES, HEX, max_size=3),
    st.dictionaries(st.text(), PLAIN, max_size=3),
    st.text(max_size=8),
)
BUILDS = st.builds(
    BuildManifest,
    HEX,
    st.lists(st.builds(ExpertRef, NAMES, HEX), max_size=4, unique_by=lambda r: r.name).map(tuple),
    st.integers(1, 9),
)


@given(ANCHORS | EXPERTS | BUILDS)
def test_a_manifest_read_back_has_the_same_digest(manifest):
    again = type(manifest).from_json(manifest.to_json())
    assert again.to_json() == manifest.to_json()
    assert digest(again) == digest(manifest)


@given(ANCHORS)
def test_the_order_tensors_are_given_in_does_not_matter(manifest):
    turned = AnchorManifest(
        manifest.config_digest,
        manifest.tokenizer_digest,
        manifest.weights_digest,
        tuple(reversed(manifest.tensors)),
    )
    assert digest(turned) == digest(manifest)


@given(BUILDS)
def test_the_order_experts_are_given_in_does_not_matter(build):
    turned = BuildManifest(build.anchor_digest, tuple(reversed(build.experts)), build.top_k)
    assert digest(turned) == digest(build)


def test_canonical_bytes_are_these_and_stay_so():
    build = BuildManifest("a" * 64, (ExpertRef("né", "b" * 64),), 2)
    assert build.to_json() == (
        '{"anchor_digest":"' + "a" * 64 + '","experts":[{"digest":"' + "b" * 64
        + '","name":"né"}],"kind":"build","top_k":2}'
    ).encode()  # fmt: skip


@given(EXPERTS, st.sampled_from(["anchor_digest", "weights_digest", "shared", "recipe"]))
def test_every_field_moves_the_expert_digest(manifest, name):
    fields = json.loads(manifest.to_json())
    changed = {"shared": {"x": "0" * 64}, "recipe": {"x": 1}}.get(name, "0" * 64)
    if fields[name] == changed:
        return
    fields[name] = changed
    again = ExpertManifest.from_json(json.dumps(fields).encode())
    assert digest(again) != digest(manifest)


EXPERT = ExpertManifest("a" * 64, "b" * 64, (TensorEntry("t", "F32", (2,), "c" * 64),), {})
ENTRY = {"name": "t", "dtype": "F32", "shape": [2], "digest": "c" * 64}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "anchor"},
        {"surprise": 1},
        {"weights_digest": "b" * 63},
        {"weights_digest": "B" * 64},
        {"weights_digest": None},
        {"tensors": {}},
        {"tensors": [ENTRY, ENTRY]},
        {"tensors": [{**ENTRY, "shape": [-1]}]},
        {"tensors": [{**ENTRY, "shape": [True]}]},
        {"tensors": [{**ENTRY, "shape": 2}]},
        {"tensors": [{**ENTRY, "name": 7}]},
        {"tensors": [{**ENTRY, "more": 7}]},
        {"shared": []},
        {"shared": {"x": "no digest"}},
        {"recipe": []},
        {"corpus_root": None},
    ],
)
def test_a_malformed_expert_manifest_is_refused(change):
    fields = json.loads(EXPERT.to_json()) | change
    with pytest.raises(ManifestMismatch, match="expected"):
        ExpertManifest.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"kind":"expert"}',
        EXPERT.to_json().replace(b'"recipe":{}', b'"recipe":{"a":1,"a":2}'),
        EXPERT.to_json().replace(b'"recipe":{}', b'"recipe":{"a":NaN}'),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(text):
    with pytest.raises(ManifestMismatch):
        ExpertManifest.from_json(text)


@pytest.mark.parametrize("names", [("news", "news"), ("public",), ("",)])
def test_a_build_refuses_names_that_are_doubled_or_reserved(names):
    refs = tuple(ExpertRef(name, str(at) * 64) for at, name in enumerate(names))
    with pytest.raises(ManifestMismatch, match="once"):
        BuildManifest("a" * 64, refs, 1)


@pytest.mark.parametrize(
    "change", [{"top_k": 0}, {"top_k": "2"}, {"top_k": True}, {"experts": [{"name": "x"}]}]
)
def test_a_malformed_build_manifest_is_refused(change):
    fields = json.loads(BuildManifest("a" * 64, (), 1).to_json()) | change
    with pytest.raises(ManifestMismatch):
        BuildManifest.from_json(json.dumps(fields).encode())


def test_shared_digests_are_all_of_the_anchors_tensors():
    anchor = AnchorManifest("a" * 64, "b" * 64, "c" * 64, EXPERT.tensors)
    assert shared_digests(anchor) == {"t": "c" * 64}
