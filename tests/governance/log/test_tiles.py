"""Tiles: paths and contents of C2SP tlog-tiles, growth in steps, and healing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.errors import LogIntegrityError
from governance.log import checkpoint
from governance.log.checkpoint import Checkpoint
from governance.log.tiles import TileFolder, bundled, tile_path, unbundled
from governance.log.tree import Frontier, LeafNodes, inclusion_proof, leaf_hash
from tests.governance.log.conftest import signer_of

ENTRIES = [number.to_bytes(3, "big") for number in range(70_000)]
HASHES = [leaf_hash(entry) for entry in ENTRIES]


def publish(tiles: TileFolder, size: int, entries=ENTRIES) -> None:
    head = Checkpoint("l", size, Frontier().extended(map(leaf_hash, entries[:size])).root())
    tiles.publish(checkpoint.sign(head, signer_of(1)), lambda begin, end: entries[begin:end])


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        ("entries", 5, 17, "tile/entries/005.p/17"),
        (63, 1000, 255, "tile/63/x001/000.p/255"),
    ],
)
def test_paths_are_those_of_the_specification(level, index, width, path):
    assert tile_path(level, index, width) == path


def test_a_tree_of_70000_has_the_tiles_the_specification_counts(tmp_path):
    tiles = TileFolder(tmp_path)
    publish(tiles, 70_000)
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    level_0 = [file for file in files if file.startswith("tile/0/")]
    assert len([file for file in level_0 if ".p/" not in file]) == 273
    assert [file for file in level_0 if ".p/" in file] == ["tile/0/273.p/112"]
    assert sorted(file for file in files if file.startswith(("tile/1/", "tile/2/"))) == [
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert Frontier.of(tiles, 70_000) == Frontier().extended(HASHES)
    proof = inclusion_proof(tiles, 65_535, 70_000)
    assert proof == inclusion_proof(LeafNodes(HASHES), 65_535, 70_000)


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_growing_in_steps_ends_in_the_same_full_tiles(steps, tmp_path_factory):
    grown = TileFolder(tmp_path_factory.mktemp("grown"))
    at_once = TileFolder(tmp_path_factory.mktemp("at_once"))
    size = 0
    for step in steps:
        size += step
        publish(grown, size)
        assert Frontier.of(grown, size) == Frontier().extended(HASHES[:size])
    publish(at_once, size)
    for file in (file for file in at_once.path.rglob("*") if file.is_file()):
        assert (grown.path / file.relative_to(at_once.path)).read_bytes() == file.read_bytes()


def test_a_partial_tile_goes_when_the_full_one_is_there(tmp_path):
    tiles = TileFolder(tmp_path)
    publish(tiles, 100)
    assert (tmp_path / "tile/0/000.p/100").exists()
    publish(tiles, 256)
    assert not (tmp_path / "tile/0/000.p").exists()


def test_a_smaller_checkpoint_never_replaces_a_larger_one(tmp_path):
    tiles = TileFolder(tmp_path)
    publish(tiles, 20)
    publish(tiles, 10)
    assert tiles.size() == 20


def test_what_a_dead_writer_left_out_is_filled_in(tmp_path):
    tiles = TileFolder(tmp_path)
    publish(tiles, 300)
    (tmp_path / "tile/1/000.p/1").unlink()
    (tmp_path / "tile/0/001.p/44").unlink()
    publish(tiles, 310)
    assert Frontier.of(tiles, 310) == Frontier().extended(HASHES[:310])


def test_a_published_tile_is_never_rewritten(tmp_path):
    tiles = TileFolder(tmp_path)
    publish(tiles, 300)
    (tmp_path / "tile/1/000.p/1").unlink()
    other = [b"other", *ENTRIES[1:]]
    with pytest.raises(LogIntegrityError, match="what was published"):
        publish(tiles, 310, other)
    assert tiles.size() == 300


def test_a_tile_cut_short_is_refused(tmp_path):
    tiles = TileFolder(tmp_path)
    publish(tiles, 10)
    (tmp_path / "tile/0/000.p/10").write_bytes(b"\0" * 300)
    with pytest.raises(LogIntegrityError, match="found 300 bytes"):
        tiles.hashes(0, 0, 10)
    with pytest.raises(LogIntegrityError, match="found none"):
        tiles.hashes(0, 1, 10)
    with pytest.raises(LogIntegrityError, match="expected 16 hashes"):
        tiles.node(4, 0)


@given(st.lists(st.binary(max_size=300)))
def test_bundles_open_to_what_was_put_in(entries):
    assert unbundled(bundled(entries)) == entries


@pytest.mark.parametrize("bundle", [b"\0", b"\0\5abc", b"\0\1a\0"])
def test_a_bundle_cut_short_is_refused(bundle):
    with pytest.raises(LogIntegrityError, match="found fewer"):
        unbundled(bundle)
