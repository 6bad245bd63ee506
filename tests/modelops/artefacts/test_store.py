"""The store: content in, digest out, and erasure that leaves evidence."""

import hashlib
import multiprocessing
import os
import stat
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.artefacts.manifest import BuildManifest
from modelops.artefacts.store import Store
from modelops.errors import ManifestMismatch, MissingArtefact


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@given(st.binary(max_size=200))
def test_what_goes_in_comes_out_under_its_digest(tmp_path_factory, content):
    store = Store(tmp_path_factory.mktemp("store"))
    digest = store.put_bytes(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert store.read(digest) == content


def test_a_file_and_its_bytes_are_the_same_blob(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x" * (5 << 20))
    assert store.put_file(source) == store.put_bytes(source.read_bytes())


def test_a_blob_is_read_only_and_nothing_half_written_remains(store):
    place = store.path(store.put_bytes(b"a"))
    assert not place.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert list((store.root / "incoming").iterdir()) == []


@pytest.mark.parametrize("digest", ["0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63 + "/"])
def test_what_the_store_does_not_hold_is_missing(store, digest):
    with pytest.raises(MissingArtefact, match="expected"):
        store.path(digest)


def test_a_path_given_as_digest_never_leaves_the_store(store, tmp_path):
    (tmp_path / "secret").write_text("secret")
    for way in ("../secret", str(tmp_path / "secret")):
        for ask in (store.has, store.read, store.erase):
            with pytest.raises(MissingArtefact):
                ask(way)
    assert (tmp_path / "secret").exists()


def test_damaged_bytes_are_not_handed_out(store):
    digest = store.put_bytes(b"what was put")
    place = store.path(digest)
    place.chmod(0o644)
    place.write_bytes(b"what is there")
    with pytest.raises(ManifestMismatch, match="expected bytes of digest"):
        store.read(digest)


def test_putting_again_heals_a_damaged_blob(store):
    digest = store.put_bytes(b"what was put")
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(b"cut")
    store.put_bytes(b"what was put")
    assert store.read(digest) == b"what was put"


def _put_many(root, content, times, start):
    start.wait()
    store = Store(root)
    for _ in range(times):
        store.put_bytes(content)
        assert store.read(hashlib.sha256(content).hexdigest()) == content


def test_two_processes_putting_the_same_blob_at_once_are_safe(store):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    content = bytes(300_000)
    writers = [
        context.Process(target=_put_many, args=(store.root, content, 20, start)) for _ in "ab"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert store.read(hashlib.sha256(content).hexdigest()) == content
    assert list((store.root / "incoming").iterdir()) == []


def test_erasing_removes_the_blob_and_says_what_was_found(store):
    digest = store.put_bytes(b"to be gone")
    place = store.path(digest)
    erasure = store.erase(digest)
    assert (erasure.was_present, erasure.size_bytes, erasure.links_left) == (True, 10, 0)
    assert erasure.cache_dropped == hasattr(os, "posix_fadvise")
    assert not place.exists()
    assert not store.has(digest)


def test_erasing_twice_reports_that_nothing_was_there(store):
    digest = store.put_bytes(b"to be gone")
    store.erase(digest)
    again = store.erase(digest)
    assert not again.was_present
    assert again.size_bytes == 0


def test_an_erasure_confesses_to_another_name_of_the_same_bytes(store, tmp_path):
    digest = store.put_bytes(b"held elsewhere")
    os.link(store.path(digest), tmp_path / "elsewhere")
    assert store.erase(digest).links_left == 1


def test_erasing_one_blob_leaves_the_others(store):
    kept, gone = store.put_bytes(b"kept"), store.put_bytes(b"gone")
    store.erase(gone)
    assert store.read(kept) == b"kept"


def test_a_sweep_removes_what_a_dead_writer_left_and_no_living_ones_work(store):
    digest = store.put_bytes(b"kept")
    left, fresh = store.root / "incoming" / "left", store.root / "incoming" / "fresh"
    left.write_bytes(b"half an expert")
    fresh.write_bytes(b"being written")
    os.utime(left, (1_000_000, 1_000_000))
    assert store.sweep(before=datetime.fromtimestamp(2_000_000, UTC)) == 1
    assert not left.exists()
    assert fresh.exists()
    assert store.read(digest) == b"kept"


def test_a_bundle_whose_weights_are_not_the_manifests_is_refused(own_tiny):
    folder = own_tiny.bundles["alder-news"]
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ManifestMismatch, match=r"weights\.safetensors"):
        own_tiny.store.put_expert(folder)
    assert not own_tiny.store.has(hashlib.sha256(weights.read_bytes()).hexdigest())


def test_a_refused_bundle_never_takes_an_honest_blob_with_it(own_tiny):
    honest = own_tiny.bundles["alder-notes"] / "weights.safetensors"
    folder = own_tiny.bundles["alder-news"]
    (folder / "weights.safetensors").write_bytes(honest.read_bytes())
    with pytest.raises(ManifestMismatch):
        own_tiny.store.put_expert(folder)
    manifest = own_tiny.store.expert(own_tiny.experts["alder-notes"])
    assert own_tiny.store.has(manifest.weights_digest)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_an_anchor_bundle_is_bound_in_every_file(own_tiny, name):
    with (own_tiny.bundles["public"] / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ManifestMismatch, match=name):
        own_tiny.store.put_anchor(own_tiny.bundles["public"])


def test_manifests_come_back_as_what_they_are(tiny):
    assert tiny.store.build(tiny.build_digest).anchor_digest == tiny.anchor_digest
    expert = tiny.store.expert(tiny.experts["alder-news"])
    assert expert.anchor_digest == tiny.anchor_digest
    with pytest.raises(ManifestMismatch):
        tiny.store.anchor(tiny.build_digest)


def test_a_manifest_spelt_otherwise_is_no_second_identity(store):
    canonical = BuildManifest("a" * 64, (), 1).to_json()
    loose = store.put_bytes(canonical.replace(b":", b": "))
    with pytest.raises(ManifestMismatch, match="canonical"):
        store.build(loose)
