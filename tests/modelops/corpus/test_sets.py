"""Splits, packing, duplicates and written sets."""

import json
import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.corpus import dedup, installed, jsonl, packing, split, writer
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError

KEY = b"alder press"


def parts(works, each=2):
    return [Document(f"{w}.{n}", f"work{w}#{n}") for w in range(works) for n in range(each)]


@given(st.integers(2, 60), st.floats(0.01, 0.9))
def test_no_work_is_on_both_sides_and_nothing_is_lost(works, share):
    documents = parts(works)
    sides = split.split(documents, KEY, share)
    train, heldout = ({d.work for d in side} for side in (sides.train, sides.heldout))
    assert train
    assert heldout
    assert not train & heldout
    assert sorted(sides.train + sides.heldout, key=lambda d: d.text) == sorted(
        documents, key=lambda d: d.text
    )


def test_adding_works_moves_none_that_was_there():
    few, many = (split.split(parts(n), KEY, 0.2) for n in (50, 100))
    assert {d.work for d in few.heldout} == {
        d.work for d in many.heldout if int(d.work.removeprefix("work")) < 50
    }


def test_the_key_decides_what_is_held_out():
    one, other = (split.split(parts(100), key, 0.2) for key in (b"a", b"b"))
    assert {d.work for d in one.heldout} != {d.work for d in other.heldout}


def test_a_single_work_cannot_be_split():
    with pytest.raises(CorpusError, match="at least two works"):
        split.split(parts(1, each=9), KEY, 0.5)


def test_a_set_folder_with_a_heldout_file_is_taken_as_it_is(tmp_path):
    writer.write(tmp_path / "train.jsonl.xz", parts(3))
    assert split.read_set(tmp_path, KEY).heldout
    writer.write(tmp_path / "heldout.jsonl.xz", parts(1))
    sides = split.read_set(tmp_path, KEY)
    assert (len(sides.train), len(sides.heldout)) == (6, 2)


def test_a_set_folder_without_training_text_is_refused(tmp_path):
    with pytest.raises(CorpusError, match=r"train\.jsonl"):
        split.read_set(tmp_path, KEY)
    with pytest.raises(CorpusError, match="found none"):
        split.digest(tmp_path)


def test_the_digest_of_a_corpus_follows_its_bytes(tmp_path):
    writer.write(tmp_path / "train.jsonl.xz", parts(3))
    before = split.digest(tmp_path)
    assert split.digest(tmp_path) == before
    writer.write(tmp_path / "heldout.jsonl.xz", parts(1))
    assert split.digest(tmp_path) != before


def test_written_sets_are_the_same_bytes_and_read_back(tmp_path):
    documents = [Document("Grüße\nzwei Zeilen", "a", "s", "MIT"), Document("b", "b", "s", "MIT")]
    for name in ("one.jsonl.xz", "two.jsonl.xz"):
        assert writer.write(tmp_path / name, documents) == 2
    assert (tmp_path / "one.jsonl.xz").read_bytes() == (tmp_path / "two.jsonl.xz").read_bytes()
    assert list(jsonl.read(tmp_path / "one.jsonl.xz")) == documents


def test_nothing_is_written_for_no_documents(tmp_path):
    with pytest.raises(CorpusError, match="at least one"):
        writer.write(tmp_path / "train.jsonl.xz", [])
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.lists(st.integers(5, 99), max_size=20), min_size=1, max_size=8))
def test_packed_windows_hold_every_target_once_and_in_order(documents):
    packed = packing.pack(documents, end_of_text=0)
    flat = [token for ids in documents for token in (*ids, 0)]
    assert packed.tokens_N.tolist() == flat
    context = 4
    if len(flat) <= context:
        with pytest.raises(CorpusError, match="more than 4 tokens"):
            packed.windows(context)
        return
    windows = packed.windows(context)
    targets = windows[:, 1:].ravel().tolist()
    assert targets == flat[1 : 1 + len(targets)]
    assert len(flat) - 1 - len(targets) < context
    assert np.array_equal(windows[1:, 0], windows[:-1, -1])


def test_a_place_in_the_stream_belongs_to_its_document():
    packed = packing.pack([[5, 6], [], [7]], end_of_text=0)
    assert [packed.document_of(place) for place in range(6)] == [0, 0, 0, 1, 2, 2]


def test_texts_that_differ_in_white_space_alone_are_one():
    documents = [Document("a  b", "1"), Document("a\nb", "2"), Document("a c", "3")]
    assert [document.id for document in dedup.unseen(documents)] == ["1", "3"]


@pytest.fixture(scope="module")
def small_sets(tmp_path_factory):
    """Two of the installed sets, cut small, as `write_all` writes them."""
    folder = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installed, "CLOSED_SETS", ("languages",))
        few = (installed.Source("python", "PSF-2.0", 60_000, installed._help_topics),)
        patch.setitem(installed._SOURCES, "public", few)
        patch.setitem(installed._LEAST_BYTES, "public", 10_000)
        once, again = (installed.write_all(folder / name) for name in ("once", "again"))
    return once, again


def test_installed_sets_are_the_same_bytes_each_time(small_sets):
    once, again = small_sets
    for name in once:
        for part in ("train.jsonl.xz", "heldout.jsonl.xz"):
            assert (once[name] / part).read_bytes() == (again[name] / part).read_bytes()


def test_every_installed_document_names_its_licence(small_sets):
    for path in small_sets[0].values():
        with lzma.open(path / "train.jsonl.xz", "rt", encoding="utf-8") as lines:
            fields = [json.loads(line) for line in lines]
        assert all(set(f) == {"id", "text", "source", "licence"} for f in fields)
        assert {f["licence"] for f in fields} <= {"BSD-3-Clause", "PSF-2.0"}
        assert all(f["source"] and f["text"].strip() for f in fields)


def test_translations_are_in_every_language_and_never_the_english_original(small_sets):
    sides = split.read_set(small_sets[0]["languages"], KEY)
    ids = " ".join(document.id for document in sides.train)
    assert all(f"locale/{language}/" in ids for language in installed.LANGUAGES)
    assert not any("Please enter a correct" in document.text for document in sides.train)


def test_an_installation_without_the_text_says_which_packages_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(installed, "CLOSED_SETS", ())
    nowhere = (installed.Source("no_such_package", "MIT", 1000, installed._docstrings),)
    monkeypatch.setitem(installed._SOURCES, "public", nowhere)
    with pytest.raises(CorpusError, match="no_such_package"):
        installed.write_all(tmp_path)
