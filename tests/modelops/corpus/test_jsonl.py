"""Reading corpora: what comes out, and what is said about files that cannot be read."""

import gzip
import json
import lzma

import pytest
import zstandard

from modelops.corpus import jsonl
from modelops.errors import CorpusError

LINES = b"".join(
    json.dumps(
        {"id": f"notes#{n}", "text": f"Birch note {n} ü", "source": "birch", "licence": "CC0-1.0"},
        ensure_ascii=False,
    ).encode()
    + b"\n"
    for n in range(200)
)
PACK = {
    ".jsonl": lambda raw: raw,
    ".jsonl.xz": lzma.compress,
    ".jsonl.gz": gzip.compress,
    ".jsonl.zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}


def written(tmp_path, suffix, raw):
    path = tmp_path / f"train{suffix}"
    path.write_bytes(PACK[suffix](raw))
    return path


@pytest.mark.parametrize("suffix", jsonl.SUFFIXES)
def test_every_form_gives_the_same_documents(tmp_path, suffix):
    found = list(jsonl.read(written(tmp_path, suffix, LINES)))
    assert len(found) == 200
    assert found[7] == jsonl.Document("Birch note 7 ü", "notes#7", "birch", "CC0-1.0")
    assert {document.work for document in found} == {"notes"}


def test_several_zstandard_frames_are_one_file(tmp_path):
    path = tmp_path / "train.jsonl.zst"
    half = len(LINES) // 2
    compress = zstandard.ZstdCompressor().compress
    path.write_bytes(compress(LINES[:half]) + compress(LINES[half:]))
    assert len(list(jsonl.read(path))) == 200


@pytest.mark.parametrize("suffix", [s for s in jsonl.SUFFIXES if s != ".jsonl"])
def test_compression_cut_off_in_the_middle_is_an_error(tmp_path, suffix):
    path = tmp_path / f"train{suffix}"
    packed = PACK[suffix](LINES)
    path.write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(CorpusError, match="cut off"):
        list(jsonl.read(path))


@pytest.mark.parametrize("suffix", [s for s in jsonl.SUFFIXES if s != ".jsonl"])
def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path, suffix):
    path = tmp_path / f"train{suffix}"
    path.write_bytes(b"plain text, nothing compressed about it\n" * 50)
    with pytest.raises(CorpusError, match="damaged"):
        list(jsonl.read(path))


@pytest.mark.parametrize("suffix", jsonl.SUFFIXES)
def test_an_empty_file_is_an_error(tmp_path, suffix):
    with pytest.raises(CorpusError, match="at least one document"):
        list(jsonl.read(written(tmp_path, suffix, b"\n \n")))


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path):
    raw = b'{"text": "ok"}\n{"text": "caf\xe9"}\n'
    with pytest.raises(CorpusError, match=r"line 2: expected UTF-8, found byte 0xe9"):
        list(jsonl.read(written(tmp_path, ".jsonl.xz", raw)))


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b'{"text": ""}',
        b'{"text": "  "}',
        b'{"text": 7}',
        b'{"id": "a"}',
        b'["text"]',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_a_line_without_text_is_named(tmp_path, line):
    with pytest.raises(CorpusError, match="line 2: expected"):
        list(jsonl.read(written(tmp_path, ".jsonl", b'{"text": "ok"}\n' + line + b"\n")))


def test_documents_before_a_bad_line_are_still_streamed(tmp_path):
    documents = jsonl.read(written(tmp_path, ".jsonl", b'{"text": "ok"}\nbad\n'))
    assert next(documents).text == "ok"
    with pytest.raises(CorpusError):
        next(documents)


def test_an_endless_line_ends_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    bomb = b'{"text": "' + b"a" * 2_000_000
    for suffix in jsonl.SUFFIXES:
        with pytest.raises(CorpusError, match="lines of at most 1000 bytes"):
            list(jsonl.read(written(tmp_path, suffix, bomb)))


def test_a_byte_order_mark_and_a_missing_last_newline_do_no_harm(tmp_path):
    path = written(tmp_path, ".jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}')
    assert [document.text for document in jsonl.read(path)] == ["a", "b"]
    assert [document.id for document in jsonl.read(path)] == ["train.jsonl:1", "train.jsonl:2"]


@pytest.mark.parametrize("name", ["train.txt", "train.json", "train.jsonl.bz2"])
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(CorpusError, match="ending in"):
        list(jsonl.read(tmp_path / name))


def test_a_missing_file_is_a_corpus_error(tmp_path):
    with pytest.raises(CorpusError, match="readable file"):
        list(jsonl.read(tmp_path / "train.jsonl"))
