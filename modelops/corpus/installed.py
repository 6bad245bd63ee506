"""Real text that every installation already has, as a public set and three closed ones.

The demo needs owners with data of their own and may not download any. Python and the packages this
project depends on carry documentation and source under free licences; nothing of it is imported
or run, only read. Each set names the licence of each document. The owners in the demo are
invented: the texts belong to the projects named in `source`.

- `public`: Python's help topics, docstrings of PyTorch, transformers, NumPy, SciPy and NetworkX,
  and a little source code and a few translations from other packages than the closed sets use, so
  that the anchor is a prior for everything and knows no closed document.
- `code`: source of the Python standard library.
- `math`: docstrings and worked examples of SymPy.
- `languages`: Django's own translations into six languages.

The same installation gives the same bytes; another Python or other versions give others.
"""

from __future__ import annotations

import ast
import gettext
import hashlib
import importlib.util
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from modelops.corpus import split, writer
from modelops.corpus.dedup import unseen
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError

PUBLIC_SET = "public"
CLOSED_SETS = ("code", "languages", "math")
LANGUAGES = ("de", "es", "fr", "it", "nl", "pt_BR")

_SPLIT_KEY = b"reclaim installed corpora"
_SMALLEST_DOCUMENT_BYTES = 200
_LARGEST_SOURCE_BYTES = 40_000
_MESSAGES_A_DOCUMENT = 24
_NOT_LIBRARY = (
    "test",
    "tests",
    "testing",
    "idlelib",
    "lib2to3",
    "encodings",
    "site-packages",
    "pydoc_data",
)


@dataclass(frozen=True)
class Source:
    """Where documents come from: a package, its licence (SPDX), and how much to take."""

    package: str
    licence: str
    limit_bytes: int
    extract: Callable[[Path], Iterator[tuple[str, str]]]


def write_all(folder: Path) -> dict[str, Path]:
    """Write `NAME/train.jsonl.xz` and `NAME/heldout.jsonl.xz` for all four sets.

    Returns the set folders by name. No text is in two sets, or on both sides of a split.

    Raises:
        CorpusError: this installation carries too little text for a set.
    """
    seen: set[bytes] = set()
    folders: dict[str, Path] = {}
    for name in (*CLOSED_SETS, PUBLIC_SET):  # closed first: what is closed is never public
        documents = list(unseen(_documents(name), seen))
        size_bytes = sum(len(document.text.encode()) for document in documents)
        if size_bytes < _LEAST_BYTES[name]:
            raise CorpusError(
                f"expected at least {_LEAST_BYTES[name]} bytes of installed text for the set "
                f"{name!r}, found {size_bytes}; install the packages "
                f"{', '.join(source.package for source in _SOURCES[name])} with their files, or "
                "bring corpora of your own"
            )
        parts = split.split(documents, _SPLIT_KEY, _HELDOUT_SHARE[name])
        writer.write(folder / name / "train.jsonl.xz", parts.train)
        writer.write(folder / name / "heldout.jsonl.xz", parts.heldout)
        folders[name] = folder / name
    return folders


def _documents(name: str) -> Iterator[Document]:
    for source in _SOURCES[name]:
        yield from _limited(source)


def _limited(source: Source) -> Iterator[Document]:
    taken = 0
    root = _root(source.package)
    if root is None:
        return
    for place, text in source.extract(root):
        size_bytes = len(text.encode("utf-8", "replace"))
        if size_bytes < _SMALLEST_DOCUMENT_BYTES:
            continue
        if taken + size_bytes > source.limit_bytes:
            return
        taken += size_bytes
        yield Document(
            text=text,
            id=f"{source.package}/{place}",
            source=f"{source.package} (installed package)",
            licence=source.licence,
        )


def _root(package: str) -> Path | None:
    if package == "python":
        return Path(sysconfig.get_path("stdlib"))
    found = importlib.util.find_spec(package)  # locates a package without running it
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]) if places else None


def _files(root: Path, pattern: str) -> list[Path]:
    """Files in an order that mixes a package's parts and does not depend on the file system."""
    files = (
        path
        for path in root.rglob(pattern)
        if not any(part in _NOT_LIBRARY for part in path.relative_to(root).parts)
    )
    return sorted(
        files, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest()
    )


def _sources(root: Path) -> Iterator[tuple[str, str]]:
    for path in _files(root, "*.py"):
        text = _text(path)
        if text is not None and len(text) <= _LARGEST_SOURCE_BYTES:
            yield path.relative_to(root).as_posix(), text


def _docstrings(root: Path) -> Iterator[tuple[str, str]]:
    for path in _files(root, "*.py"):
        try:
            tree = ast.parse(_text(path) or "")
        except (SyntaxError, ValueError, RecursionError):
            continue  # templates of code and the like are not documentation
        for number, text in enumerate(filter(None, map(_docstring, ast.walk(tree))), start=1):
            yield f"{path.relative_to(root).as_posix()}#{number}", text


def _docstring(node: ast.AST) -> str | None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return ast.get_docstring(node)
    return None


def _help_topics(root: Path) -> Iterator[tuple[str, str]]:
    """Python's help texts, read as data out of `pydoc_data/topics.py`."""
    text = _text(root / "pydoc_data" / "topics.py")
    for node in ast.walk(ast.parse(text or "")):
        if isinstance(node, ast.Dict):
            topics = ast.literal_eval(node)
            for name in sorted(topics):
                yield f"topics/{name}", str(topics[name]).strip()


def _translations(root: Path) -> Iterator[tuple[str, str]]:
    for language in LANGUAGES:
        said: set[str] = set()
        for path in sorted(root.rglob(f"locale/{language}/LC_MESSAGES/*.mo")):
            fresh = (text for text in _messages(path) if text not in said)
            place = path.relative_to(root).parent.as_posix()
            for number, lines in enumerate(_batches(fresh), start=1):
                said.update(lines)
                yield f"{place}/{path.stem}/{number}", "\n".join(lines)


def _messages(path: Path) -> Iterator[str]:
    """The translated texts of a compiled catalogue, in the order of their originals.

    `gettext` keeps the catalogue in a private attribute and has no public way to list it.
    """
    with path.open("rb") as file:
        catalogue: dict[Any, str] = getattr(gettext.GNUTranslations(file), "_catalog", {})
    for original in sorted(catalogue, key=str):
        if original and catalogue[original]:
            yield catalogue[original].strip()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(texts)
    while batch := list(islice(remaining, _MESSAGES_A_DOCUMENT)):
        yield batch


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None  # a file in another encoding is left out, not guessed at


_SOURCES: dict[str, tuple[Source, ...]] = {
    "code": (Source("python", "PSF-2.0", 1_600_000, _sources),),
    "languages": (Source("django", "BSD-3-Clause", 1_000_000, _translations),),
    "math": (Source("sympy", "BSD-3-Clause", 1_600_000, _docstrings),),
    PUBLIC_SET: (
        Source("python", "PSF-2.0", 600_000, _help_topics),
        Source("torch", "BSD-3-Clause", 1_000_000, _docstrings),
        Source("transformers", "Apache-2.0", 800_000, _docstrings),
        Source("numpy", "BSD-3-Clause", 800_000, _docstrings),
        Source("scipy", "BSD-3-Clause", 800_000, _docstrings),
        Source("networkx", "BSD-3-Clause", 800_000, _docstrings),
        Source("celery", "BSD-3-Clause", 220_000, _sources),
        Source("kombu", "BSD-3-Clause", 80_000, _sources),
        Source("mpmath", "BSD-3-Clause", 100_000, _docstrings),
        Source("rest_framework", "BSD-3-Clause", 100_000, _translations),
        Source("allauth", "MIT", 300_000, _translations),
        Source("django_filters", "BSD-3-Clause", 50_000, _translations),
    ),
}
_LEAST_BYTES = {"code": 500_000, "languages": 60_000, "math": 500_000, PUBLIC_SET: 1_000_000}
_HELDOUT_SHARE = {"code": 0.08, "languages": 0.12, "math": 0.06, PUBLIC_SET: 0.04}
