"""What an anchor, an expert and a build are made of, as canonical bytes; no torch here.

A manifest names every tensor with its digest and binds the weights file as a whole. Its own
SHA-256 is the identity of the thing: `anchor_digest`, `expert_digest`, `build_digest`.
Canonical bytes: one JSON object, keys sorted, no spaces, UTF-8. New fields come last, with
defaults, and are written only when they differ from the default, so that old digests stay true.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from modelops.contract import PUBLIC, ExpertRef
from modelops.errors import ManifestMismatch

_HEX64 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class TensorEntry:
    """One tensor: its name, safetensors dtype code (`F32`, `BF16`), shape and canonical digest."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class AnchorManifest:
    """The public model every expert is trained beside: configuration, tokenizer, weights."""

    config_digest: str
    tokenizer_digest: str
    weights_digest: str
    tensors: tuple[TensorEntry, ...]

    def to_json(self) -> bytes:
        """Canonical bytes; their SHA-256 is the anchor digest."""
        return _canonical(
            {
                "config_digest": self.config_digest,
                "kind": "anchor",
                "tensors": _rows(self.tensors),
                "tokenizer_digest": self.tokenizer_digest,
                "weights_digest": self.weights_digest,
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> AnchorManifest:
        """The manifest these bytes spell.

        Raises:
            ManifestMismatch: not an anchor manifest, or a field is missing, unknown or malformed.
        """
        fields = _fields(
            text, "anchor", {"config_digest", "tokenizer_digest", "weights_digest", "tensors"}
        )
        return cls(
            config_digest=_digest_in(fields, "config_digest"),
            tokenizer_digest=_digest_in(fields, "tokenizer_digest"),
            weights_digest=_digest_in(fields, "weights_digest"),
            tensors=_entries(fields["tensors"]),
        )


@dataclass(frozen=True)
class ExpertManifest:
    """One owner's expert: its own tensors, and what it was trained beside.

    `shared` gives the digest of every anchor tensor as the trainer held it, frozen; it must equal
    the anchor's. `recipe` is the training recipe as plain JSON values. `corpus_root` is the Merkle
    root of the corpus, empty if the owner commits to none.
    """

    anchor_digest: str
    weights_digest: str
    tensors: tuple[TensorEntry, ...]
    shared: Mapping[str, str]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    corpus_root: str = ""

    def to_json(self) -> bytes:
        """Canonical bytes; their SHA-256 is the expert digest."""
        return _canonical(
            {
                "anchor_digest": self.anchor_digest,
                "corpus_root": self.corpus_root,
                "kind": "expert",
                "recipe": dict(self.recipe),
                "shared": dict(self.shared),
                "tensors": _rows(self.tensors),
                "weights_digest": self.weights_digest,
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> ExpertManifest:
        """The manifest these bytes spell.

        Raises:
            ManifestMismatch: not an expert manifest, or a field is missing, unknown or malformed.
        """
        names = {"anchor_digest", "weights_digest", "tensors", "shared", "recipe", "corpus_root"}
        fields = _fields(text, "expert", names)
        if not isinstance(fields["recipe"], dict) or not isinstance(fields["corpus_root"], str):
            _refuse("recipe as an object and corpus_root as a string", "another type")
        return cls(
            anchor_digest=_digest_in(fields, "anchor_digest"),
            weights_digest=_digest_in(fields, "weights_digest"),
            tensors=_entries(fields["tensors"]),
            shared=_shared(fields["shared"]),
            recipe=fields["recipe"],
            corpus_root=fields["corpus_root"],
        )


@dataclass(frozen=True)
class BuildManifest:
    """Which experts stand beside the anchor, and how many of them each token is sent to.

    `experts` is kept in the order of names, whatever order it is given in; the public expert is
    implied and never listed.

    Raises:
        ManifestMismatch: a name twice, empty or `public`, or `top_k` below 1.
    """

    anchor_digest: str
    experts: tuple[ExpertRef, ...]
    top_k: int

    def __post_init__(self) -> None:
        names = [ref.name for ref in self.experts]
        odd = sorted({n for n in names if names.count(n) > 1 or n in ("", PUBLIC)})
        if odd:
            _refuse("each licensed expert once, by its own name", f"{odd}")
        if self.top_k < 1:
            _refuse("top_k of at least 1", f"{self.top_k}")
        object.__setattr__(self, "experts", tuple(sorted(self.experts)))

    def to_json(self) -> bytes:
        """Canonical bytes; their SHA-256 is the build digest."""
        return _canonical(
            {
                "anchor_digest": self.anchor_digest,
                "experts": [{"digest": ref.digest, "name": ref.name} for ref in self.experts],
                "kind": "build",
                "top_k": self.top_k,
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> BuildManifest:
        """The manifest these bytes spell.

        Raises:
            ManifestMismatch: not a build manifest, or a field is missing, unknown or malformed.
        """
        fields = _fields(text, "build", {"anchor_digest", "experts", "top_k"})
        rows = fields["experts"]
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and set(row) == {"name", "digest"} for row in rows
        ):
            _refuse("experts as a list of objects with name and digest", f"{rows!r:.80}")
        if type(fields["top_k"]) is not int:
            _refuse("top_k as a whole number", f"{fields['top_k']!r:.80}")
        refs = tuple(ExpertRef(str(row["name"]), _digest_in(row, "digest")) for row in rows)
        return cls(_digest_in(fields, "anchor_digest"), refs, fields["top_k"])


Manifest = AnchorManifest | ExpertManifest | BuildManifest


def digest(manifest: Manifest) -> str:
    """The identity of what `manifest` describes: SHA-256 of its canonical bytes, as hex."""
    return hashlib.sha256(manifest.to_json()).hexdigest()


def shared_digests(anchor: AnchorManifest) -> dict[str, str]:
    """What an expert trained beside `anchor` must state as `shared`: every tensor, by name."""
    return {entry.name: entry.digest for entry in anchor.tensors}


def _canonical(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(
        fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _rows(entries: tuple[TensorEntry, ...]) -> list[dict[str, Any]]:
    return [
        {"digest": e.digest, "dtype": e.dtype, "name": e.name, "shape": list(e.shape)}
        for e in sorted(entries)
    ]


def _fields(text: bytes, kind: str, names: set[str]) -> dict[str, Any]:
    try:
        fields = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestMismatch(
            f"expected a manifest as one JSON object, found bytes that are none ({error}); "
            "write the manifest again"
        ) from error
    if not isinstance(fields, dict) or fields.pop("kind", None) != kind:
        _refuse(f'a JSON object with "kind": "{kind}"', f"{text[:60]!r}")
    if set(fields) != names:
        missing, unknown = sorted(names - set(fields)), sorted(set(fields) - names)
        _refuse(f"the fields {sorted(names)}", f"missing {missing}, unknown {unknown}")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return fields


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _entries(rows: Any) -> tuple[TensorEntry, ...]:
    if not isinstance(rows, list):
        _refuse("tensors as a list", f"{rows!r:.80}")
    entries = tuple(sorted(_entry(row) for row in rows))
    if len({entry.name for entry in entries}) != len(entries):
        _refuse("each tensor once", "a tensor name twice")
    return entries


def _entry(row: Any) -> TensorEntry:
    if not isinstance(row, dict) or set(row) != {"name", "dtype", "shape", "digest"}:
        _refuse("a tensor as an object with name, dtype, shape and digest", f"{row!r:.80}")
    shape = row["shape"]
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        _refuse("a shape of whole numbers", f"{shape!r:.80}")
    if not isinstance(row["name"], str) or not isinstance(row["dtype"], str):
        _refuse("name and dtype as strings", f"{row!r:.80}")
    return TensorEntry(row["name"], row["dtype"], tuple(shape), _digest_in(row, "digest"))


def _shared(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        _refuse("shared as an object of digests by tensor name", f"{value!r:.80}")
    return {name: _digest_in(value, name) for name in value}


def _digest_in(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not _HEX64.fullmatch(value):
        _refuse(f"{name} as 64 lowercase hex digits", f"{value!r:.80}")
    return value


def _refuse(expected: str, found: str) -> NoReturn:
    raise ManifestMismatch(
        f"expected {expected}, found {found}; write the manifest with this version of the kit"
    )
