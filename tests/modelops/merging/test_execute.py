"""Carrying out a plan: copies bit by bit, verified, resumable, and nothing half done."""

import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch

from modelops.artefacts import bundle, tensors
from modelops.artefacts.header import read_header
from modelops.artefacts.manifest import BuildManifest, shared_digests
from modelops.artefacts.store import Store
from modelops.contract import ExpertRef
from modelops.errors import ManifestMismatch, MissingArtefact
from modelops.merging import execute as executing
from modelops.merging.execute import execute, shard_digest
from modelops.merging.export import export, plan_of
from modelops.model import flexolmo
from tests.modelops import worlds


def plan_for(world):
    return plan_of(world.store, world.store.build(world.build_digest))


def read_all(folder):
    held = {}
    for path in sorted(folder.glob("*.safetensors")):
        held |= tensors.load(path)
    return held


def damage(world, name, offset=-4):
    """Flip a byte of an expert's stored weights behind the store's back."""
    place = world.store.path(world.store.expert(world.experts[name]).weights_digest)
    raw = bytearray(place.read_bytes())
    raw[offset] ^= 1
    place.chmod(0o644)
    place.write_bytes(raw)


def test_every_tensor_written_is_its_source_bit_for_bit(tiny, tmp_path):
    execute(plan_for(tiny), tiny.store, tmp_path)
    held = read_all(tmp_path)
    anchor = tensors.load(tiny.bundles["public"] / "weights.safetensors")
    for name, tensor in anchor.items():
        if not name.endswith("gate.weight"):
            assert torch.equal(held.pop(name), tensor)
    for index, expert in enumerate(sorted(tiny.experts), start=1):
        own = tensors.load(tiny.bundles[expert] / "weights.safetensors")
        for layer in range(2):
            row = held[f"model.layers.{layer}.mlp.gate.weight"][index]
            assert torch.equal(row, own.pop(f"model.layers.{layer}.mlp.router_row"))
        for name, tensor in own.items():
            assert torch.equal(held.pop(name.replace(".expert.", f".experts.{index}.")), tensor)
    assert sorted(held) == [f"model.layers.{layer}.mlp.gate.weight" for layer in range(2)]
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.gate.weight"
        assert torch.equal(held[name][:1], anchor[name])


def test_the_digests_reported_are_those_of_the_files(tiny, tmp_path):
    written = execute(plan_for(tiny), tiny.store, tmp_path)
    assert {file.name for file in written} == {path.name for path in tmp_path.iterdir()}
    for file in written:
        assert file.size_bytes == (tmp_path / file.name).stat().st_size
        if file.name.endswith(".safetensors"):
            assert shard_digest(tmp_path / file.name) == file.digest


def test_a_shard_digest_moves_with_any_byte(tiny, tmp_path):
    file = execute(plan_for(tiny), tiny.store, tmp_path)[0]
    path = tmp_path / file.name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert shard_digest(path) != file.digest


def test_headers_are_what_our_own_strict_reader_takes(tiny, tmp_path):
    execute(plan_for(tiny), tiny.store, tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        assert read_header(path).tensors


def test_a_second_run_keeps_every_whole_shard(tiny, tmp_path):
    first = execute(plan_for(tiny), tiny.store, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    again = execute(plan_for(tiny), tiny.store, tmp_path)
    assert [f.was_kept for f in again] == [True, True, True, False]
    assert [f.digest for f in again] == [f.digest for f in first]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())


@pytest.mark.parametrize("harm", ["flip", "cut", "link", "header"])
def test_a_shard_that_was_harmed_is_written_again(tiny, tmp_path, harm):
    first = execute(plan_for(tiny), tiny.store, tmp_path / "out")
    path = tmp_path / "out" / first[1].name
    raw = bytearray(path.read_bytes())
    if harm == "link":
        (tmp_path / "elsewhere").write_bytes(raw)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        raw[{"flip": -1, "cut": -2, "header": 20}[harm]] ^= 1
        path.write_bytes(raw[:-1] if harm == "cut" else raw)
    again = execute(plan_for(tiny), tiny.store, tmp_path / "out")
    assert [f.was_kept for f in again[:3]] == [True, False, True]
    assert [f.digest for f in again] == [f.digest for f in first]
    assert not path.is_symlink()


@pytest.mark.parametrize("offset", [-1, 2000, 12])
def test_a_source_that_is_not_what_its_manifest_says_stops_the_merge(own_tiny, tmp_path, offset):
    damage(own_tiny, "alder-news", offset)
    with pytest.raises(ManifestMismatch, match="alder-news"):
        execute(plan_for(own_tiny), own_tiny.store, tmp_path)
    assert not (tmp_path / executing.INDEX).exists()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_missing_source_stops_the_merge(own_tiny, tmp_path):
    whole = plan_for(own_tiny)
    own_tiny.store.erase(own_tiny.store.expert(own_tiny.experts["alder-news"]).weights_digest)
    with pytest.raises(MissingArtefact):
        execute(whole, own_tiny.store, tmp_path)


def test_a_build_without_an_expert_needs_nothing_of_it(own_tiny, tmp_path):
    whole = plan_for(own_tiny)
    own_tiny.store.erase(own_tiny.store.expert(own_tiny.experts["alder-news"]).weights_digest)
    execute(whole.without("alder-news"), own_tiny.store, tmp_path)
    gone = tensors.load(own_tiny.bundles["alder-news"] / "weights.safetensors")
    digests = {tensors.tensor_digest(tensor) for tensor in gone.values()}
    held = read_all(tmp_path)
    assert not digests & {tensors.tensor_digest(tensor) for tensor in held.values()}
    for layer in range(2):
        rows = held[f"model.layers.{layer}.mlp.gate.weight"]
        assert len(rows) == 3
        assert not digests & {tensors.tensor_digest(row) for row in rows}


def test_progress_counts_every_byte_to_the_end(tiny, tmp_path):
    seen = []
    execute(plan_for(tiny), tiny.store, tmp_path, lambda *report: seen.append(report))
    dones, totals, notes = zip(*seen, strict=True)
    assert list(dones) == sorted(dones)
    assert set(totals) == {dones[-1]}
    assert all("written" in note for note in notes)


def large_world(folder, n=3, layers=4):
    """Experts large enough to notice if a whole layer were held in memory."""
    store = Store(folder / "store")
    config = flexolmo.tiny_config(
        300, hidden_size=256, intermediate_size=2048, num_hidden_layers=layers
    )
    model = flexolmo.new_anchor_model(config, seed=1)
    manifest = bundle.write_anchor(
        folder / "public",
        flexolmo.anchor_tensors(model),
        flexolmo.config_json(model.config),
        b"{}",
    )
    anchor_digest = store.put_anchor(folder / "public")
    refs = []
    for at in range(n):
        named = worlds.random_expert(config, at)
        bundle.write_expert(folder / "e", named, anchor_digest, shared_digests(manifest), {})
        refs.append(ExpertRef(f"expert-{at}", store.put_expert(folder / "e")))
    return store, BuildManifest(anchor_digest, tuple(refs), 2)


def test_memory_stays_far_below_the_size_of_a_build(tmp_path):
    store, manifest = large_world(tmp_path)
    whole = plan_of(store, manifest)
    tracemalloc.start()
    try:
        written = execute(whole, store, tmp_path / "out")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    total = sum(file.size_bytes for file in written)
    assert total > 90 << 20
    assert peak_bytes < total / 4


KILLED = """
import sys, time
from pathlib import Path
from modelops.artefacts.store import Store
from modelops.merging import execute as executing
from modelops.merging.export import export

store, build_digest, folder = Store(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])

def report(done, total, note):
    print(note, flush=True)
    time.sleep(0.2)

export(store, build_digest, folder, report)
"""


@pytest.mark.faults
def test_an_export_that_was_killed_goes_on_where_it_was(tiny, tmp_path):
    folder = tmp_path / "out"
    arguments = [str(tiny.store.root), tiny.build_digest, str(folder)]
    root = Path(executing.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *arguments], stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        assert child.stdout
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not folder.exists()
    partial = tmp_path / "out.partial"
    assert list(partial.glob("model-00001-*"))
    report = export(tiny.store, tiny.build_digest, folder)
    assert report.files[3].was_kept
    assert folder.exists()
    assert not partial.exists()
    whole = export(tiny.store, tiny.build_digest, tmp_path / "fresh")
    assert [f.digest for f in whole.files] == [f.digest for f in report.files]
