"""Documents into a `.jsonl.xz` file, the same bytes for the same documents."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from pathlib import Path

from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError


def write(path: Path, documents: Iterable[Document]) -> int:
    """Write `documents` and return their number; the file appears only when it is complete.

    Raises:
        CorpusError: there is no document, or the name does not end in `.jsonl.xz`.
    """
    if not path.name.endswith(".jsonl.xz"):
        raise CorpusError(f"expected a name ending in .jsonl.xz, found {path.name}; rename it")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    count = 0
    with lzma.open(part, "wb", preset=3) as file:
        for document in documents:
            file.write(_line(document))
            count += 1
    if not count:
        part.unlink()
        raise CorpusError(f"{path.name}: expected at least one document to write, found none")
    part.replace(path)
    return count


def _line(document: Document) -> bytes:
    fields = {
        "id": document.id,
        "text": document.text,
        "source": document.source,
        "licence": document.licence,
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
