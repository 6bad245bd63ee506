"""Documents out of JSON-lines files, plain or compressed, one at a time.

A line is an object with `text` and, where known, `id`, `source` and `licence`; further fields are
ignored. Nothing is ever unpacked as a whole: memory stays near one line, whatever the file claims
to be, so a compression bomb ends at the line limit.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modelops.errors import CorpusError

SUFFIXES = (".jsonl", ".jsonl.xz", ".jsonl.zst", ".jsonl.gz")
MAX_LINE_BYTES = 64 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CHUNK_BYTES = 1 << 18
_ZSTD_INPUT_BYTES = 1 << 10  # one KiB of Zstandard can stand for 32 MiB, no more
_XZ_MEMORY_BYTES = 256 << 20


@dataclass(frozen=True)
class Document:
    """One text of a corpus. An `id` ending in `#n` is part n of the work before the `#`."""

    text: str
    id: str
    source: str = ""
    licence: str = ""

    @property
    def work(self) -> str:
        """The work this text is part of: parts of one work never straddle a split."""
        return self.id.rsplit("#", 1)[0]


def read(path: Path) -> Iterator[Document]:
    """Every document of the file, in order, read as it goes.

    Raises:
        CorpusError: the name ends in none of `SUFFIXES`; the file is missing or holds no document;
            its compression is damaged or cut off; a line is not UTF-8, not a JSON object, too
            long, or has no text. Lines are counted from 1.
    """
    if not path.name.endswith(SUFFIXES):
        raise CorpusError(
            f"expected a file ending in one of {', '.join(SUFFIXES)}, found {path.name}; "
            "rename it, or write one JSON object a line with a field 'text'"
        )
    found = 0
    for number, line in enumerate(_lines(path), start=1):
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901  some editors put one
        if line.strip():
            found += 1
            yield _document(path, number, line)
    if not found:
        raise CorpusError(
            f"{path.name}: expected at least one document, found an empty file; "
            "check that the export finished"
        )


def _document(path: Path, number: int, line: bytes) -> Document:
    where = f"{path.name}, line {number}"
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: expected UTF-8, found byte 0x{line[error.start]:02x} at column "
            f"{error.start + 1}; re-encode the file as UTF-8"
        ) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise CorpusError(
            f"{where}: expected one JSON object, found {_excerpt(line)} ({error}); "
            "write each document on a line of its own"
        ) from error
    text = fields.get("text") if isinstance(fields, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(
            f"{where}: expected a JSON object with a non-empty string 'text', found "
            f"{_excerpt(line)}; leave documents without text out"
        )
    return Document(
        text=_encodable(where, text),
        id=str(fields.get("id") or f"{path.name}:{number}"),
        source=str(fields.get("source") or ""),
        licence=str(fields.get("licence") or ""),
    )


def _encodable(where: str, text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{where}: expected text that UTF-8 can hold, found the lone surrogate "
            f"U+{ord(text[error.start]):04X}; repair the escape sequence at its source"
        ) from error
    return text


def _excerpt(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace")) + ("…" if len(line) > 60 else "")


def _lines(path: Path) -> Iterator[bytes]:
    rest = b""
    for chunk in _chunks(path):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > MAX_LINE_BYTES:
            raise CorpusError(
                f"{path.name}: expected lines of at most {MAX_LINE_BYTES} bytes, found a longer "
                "one; split the document into parts (id 'work#1', 'work#2', …)"
            )
    if rest:
        yield rest


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            if path.suffix == ".zst":
                yield from _zstd_chunks(file)
            else:
                yield from iter(partial(_decoder(path, file).read, _CHUNK_BYTES), b"")
    except EOFError as error:
        raise CorpusError(
            f"{path.name}: expected the end of the compressed stream, found the file cut off "
            "before it; copy or compress the file again"
        ) from error
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, _zstd_error()) as error:
        raise CorpusError(
            f"{path.name}: expected {path.suffix} compression, found damaged bytes ({error}); "
            "copy or compress the file again"
        ) from error
    except OSError as error:
        raise CorpusError(
            f"{path}: expected a readable file, found: {error.strerror}; check the path"
        ) from error


def _decoder(path: Path, file: io.BufferedReader) -> Any:
    if path.suffix == ".xz":
        return lzma.LZMAFile(file)
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    return file


def _zstd_error() -> type[Exception]:
    from zstandard import ZstdError

    return ZstdError


def _zstd_chunks(file: io.BufferedReader) -> Iterator[bytes]:
    """Frames one after another; the library's own reader takes a cut-off frame for its end."""
    from zstandard import ZstdDecompressor

    frame = None
    while block := file.read(_ZSTD_INPUT_BYTES):
        while block:
            if frame is None:
                frame = ZstdDecompressor(max_window_size=_XZ_MEMORY_BYTES).decompressobj()
            if text := frame.decompress(block):
                yield text
            block = frame.unused_data if frame.eof else b""
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError
