"""A writer of safetensors files that will write anything, for what Mallory sends."""

from __future__ import annotations

import json
from pathlib import Path

Fields = list[tuple[str, dict]]


def opened(path: Path) -> tuple[Fields, bytes]:
    """Header fields in their order, and the data, of an honest file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    fields = json.loads(raw[8 : 8 + length])
    return list(fields.items()), raw[8 + length :]


def spelt(fields: Fields) -> bytes:
    """The header text of `fields`, doubled keys and all."""
    return ("{" + ",".join(f"{_compact(k)}:{_compact(v)}" for k, v in fields) + "}").encode()


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def write(path: Path, text: bytes, body: bytes, length: int | None = None) -> None:
    """A file of this header text, padded as it should be, and this data."""
    text += b" " * (-len(text) % 8)
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + body)
