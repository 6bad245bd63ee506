"""Reading tensors' raw bytes in bounded pieces, straight from an open file; no torch here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from modelops.artefacts.header import StoredTensor

SCAN_BYTES = 8 << 20

Values = np.ndarray[Any, np.dtype[np.float64]]


def chunks(tensor: StoredTensor, file: BinaryIO) -> Iterator[bytes]:
    """The tensor's bytes in order; fewer than its header says if the file was cut off meanwhile."""
    file.seek(tensor.begin)
    left = tensor.end - tensor.begin
    while left > 0:
        chunk = file.read(min(left, SCAN_BYTES))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk


def values(chunk: bytes, dtype: str) -> Values:
    """The elements that lie whole in `chunk`, as float64."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is found later, not warned about here
        if dtype == "BF16":  # bfloat16 is the upper half of a float32
            words = np.frombuffer(chunk, dtype="<u2", count=len(chunk) // 2).astype("<u4") << 16
            return words.view("<f4").astype(np.float64)
        code, size = {"F32": ("<f4", 4), "F16": ("<f2", 2)}[dtype]
        return np.frombuffer(chunk, dtype=code, count=len(chunk) // size).astype(np.float64)
