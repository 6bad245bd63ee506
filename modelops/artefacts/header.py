"""Reading the header of a safetensors file as if a stranger had written it; no torch here.

The format: 8 bytes little-endian length N, N bytes of JSON (padded with spaces), then the data.
The reference reader takes the last of two equal keys, any amount of padding and any metadata;
each is a place to hide something, so here the header must be the compact spelling of itself.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from modelops.artefacts.refusals import Refusal, RefusalCode, quoted
from modelops.errors import HostileFile

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1 << 20
ALIGNMENT = 8
MAX_DIMENSIONS = 8
METADATA = {"format": "pt"}
ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2}

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_REWRITE = "write the file again with safetensors' own save_file"


@dataclass(frozen=True)
class StoredTensor:
    """Where one tensor lies: `begin` and `end` count bytes from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """A header without fault; `tensors` in the order of their data, which tiles the file."""

    tensors: tuple[StoredTensor, ...]
    data_begin: int
    size_bytes: int


class _Fault(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


def examine_header(file: BinaryIO, most_bytes: int = MAX_HEADER_BYTES) -> Header | Refusal:
    """The header of an open file, or the first reason to open it no further.

    Reads at most `most_bytes` and allocates no tensor.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    try:
        text = _header_text(file, size_bytes, most_bytes)
        fields = _parsed(text)
        begin = LENGTH_BYTES + len(text)
        tensors = sorted(
            (_stored(*item, begin) for item in fields.items()),
            key=attrgetter("begin", "end", "name"),
        )
        _tile(tensors, begin, size_bytes)
    except _Fault as fault:
        return fault.refusal
    return Header(tuple(tensors), begin, size_bytes)


def read_header(path: Path) -> Header:
    """The header of a file that is expected to be in order.

    Raises:
        HostileFile: it is not.
    """
    with path.open("rb") as file:
        header = examine_header(file)
    if isinstance(header, Refusal):
        raise HostileFile(
            f"expected {header.expected} in {path.name}, found {header.found} "
            f"({header.code}); {header.remedy}"
        )
    return header


def write_header(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The canonical header bytes, length included, of a file with these tensors in this order."""
    fields: dict[str, Any] = {"__metadata__": METADATA}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        end = offset + prod(shape) * ITEM_BYTES[dtype]
        fields[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def _fault(
    code: RefusalCode, expected: str, found: str, tensor: str = "", remedy: str = _REWRITE
) -> NoReturn:
    raise _Fault(Refusal(code, quoted(tensor), expected, found, remedy))


def _header_text(file: BinaryIO, size_bytes: int, most_bytes: int) -> bytes:
    file.seek(0)
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if size_bytes < LENGTH_BYTES + 2 or length < 2:
        _fault(RefusalCode.NOT_SAFETENSORS, "a safetensors file", f"{size_bytes} bytes without one")
    start = file.read(1)
    if start != b"{":
        _fault(
            RefusalCode.NOT_SAFETENSORS,
            "a length and a JSON header that begins with {",
            f"{start!r} where the header should begin",
            remedy="send weights.safetensors; no other format is opened",
        )
    if length > most_bytes:
        _fault(RefusalCode.HEADER_TOO_LARGE, f"a header of at most {most_bytes} bytes", f"{length}")
    if LENGTH_BYTES + length > size_bytes:
        _fault(
            RefusalCode.NOT_SAFETENSORS,
            f"a header within the file's {size_bytes} bytes",
            f"one that says it has {length}",
        )
    return start + file.read(length - 1)


def _parsed(text: bytes) -> dict[str, Any]:
    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            names = [name for name, _ in pairs]
            twin = next(name for name in names if names.count(name) > 1)
            _fault(RefusalCode.DUPLICATE_TENSOR, "each key once", "a key twice", tensor=twin)
        return fields

    try:
        fields = json.loads(text.decode(), object_pairs_hook=no_twins, parse_constant=_constant)
    except (ValueError, RecursionError):
        _fault(RefusalCode.NOT_SAFETENSORS, "a header of JSON", "bytes that are no JSON")
    padding = len(text) - len(text.rstrip(b" "))
    if padding >= ALIGNMENT:
        _fault(RefusalCode.HEADER_PADDED, f"less than {ALIGNMENT} spaces of padding", f"{padding}")
    if _compact(fields) != text.rstrip(b" "):
        _fault(
            RefusalCode.HEADER_NOT_CANONICAL, "compact JSON", "another spelling of the same header"
        )
    metadata = fields.pop("__metadata__", METADATA)
    if metadata != METADATA:
        _fault(
            RefusalCode.METADATA,
            f"no metadata but {METADATA}",
            quoted(json.dumps(metadata)),
            remedy="save without metadata; what is to be said about an expert is in its manifest",
        )
    return fields


def _constant(text: str) -> NoReturn:
    raise ValueError(text)


def _compact(fields: Any) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode(
        errors="surrogatepass"
    )


def _stored(name: str, entry: Any, data_begin: int) -> StoredTensor:
    if not _NAME.fullmatch(name) or len(name) > 200:
        _fault(
            RefusalCode.UNSAFE_NAME,
            "a tensor name of letters, digits and underscores joined by dots",
            quoted(name),
            tensor=name,
        )
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _fault(RefusalCode.NOT_SAFETENSORS, "dtype, shape and data_offsets", "other fields", name)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not _is_whole(shape) or not _is_whole(offsets) or len(offsets) != 2:
        _fault(RefusalCode.LAYOUT, "shape and offsets of whole numbers", "something else", name)
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _fault(
            RefusalCode.WRONG_DTYPE,
            f"a dtype of {sorted(ITEM_BYTES)}",
            quoted(str(dtype)),
            name,
            "cast the weights to the anchor's dtype before saving",
        )
    begin, end = offsets
    # A huge number times zero is zero: a shape is only as honest as each of its dimensions.
    if end - begin != prod(shape) * ITEM_BYTES[dtype] or 0 in shape:
        _fault(
            RefusalCode.LAYOUT,
            "as many bytes as dtype and shape need, and no empty dimension",
            f"{end - begin} bytes for {dtype} of shape {quoted(str(shape))}",
            name,
        )
    return StoredTensor(name, dtype, tuple(shape), data_begin + begin, data_begin + end)


def _is_whole(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_DIMENSIONS
        and all(type(n) is int and 0 <= n < 2**63 for n in value)
    )


def _tile(tensors: list[StoredTensor], data_begin: int, size_bytes: int) -> None:
    at = data_begin
    for tensor in tensors:
        if tensor.begin != at:
            _fault(
                RefusalCode.LAYOUT,
                f"tensors that follow each other without gap or overlap (byte {at})",
                f"one at byte {tensor.begin}",
                tensor.name,
            )
        at = tensor.end
    if at > size_bytes:
        _fault(RefusalCode.LAYOUT, f"{at} bytes in the file", f"{size_bytes}: it was cut off")
    if at < size_bytes:
        _fault(
            RefusalCode.TRAILING_BYTES,
            "no bytes after the last tensor",
            f"{size_bytes - at} of them",
        )
