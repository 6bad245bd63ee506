"""What a build consists of, tensor by tensor, before a byte is copied; pure, no torch.

A copy says whose tensor it is by name and digest. The index an expert has in a checkpoint is
looked up in the plan when a name on disk is needed, so removing an expert removes its copies and
changes no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from modelops.artefacts.manifest import (
    AnchorManifest,
    BuildManifest,
    ExpertManifest,
    TensorEntry,
    digest,
    shared_digests,
)
from modelops.artefacts.names import (
    PARTS,
    Shape,
    build_gate,
    build_part,
    expert_part,
    router_row,
)
from modelops.contract import PUBLIC, ExpertRef
from modelops.errors import AnchorMismatch, ManifestMismatch, MergeError

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
REST = "rest"


@dataclass(frozen=True)
class Copy:
    """One tensor to be copied unchanged: `source` in the weights of `expert` (or the anchor).

    `weights_digest` names the file, `entry` what must be found there. `place` is the tensor's
    name in the build with `{}` where the expert's index goes; router rows of one layer share a
    place and are stacked in the order of experts.
    """

    expert: str
    weights_digest: str
    entry: TensorEntry
    place: str


@dataclass(frozen=True)
class Target:
    """One tensor of the checkpoint: the copies whose bytes, one after the other, it consists of."""

    name: str
    dtype: str
    shape: Shape
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class Shard:
    """One file of the checkpoint, with its tensors in the order of their names."""

    file_name: str
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class MergePlan:
    """A build's copies. `experts` are the licensed ones in the order of names; `public` precedes.

    `top_k` is as asked for; `experts_per_token` is what the checkpoint will say.
    """

    anchor_digest: str
    experts: tuple[ExpertRef, ...]
    top_k: int
    copies: tuple[Copy, ...]

    @property
    def expert_names(self) -> tuple[str, ...]:
        """Every expert, the public one first: an expert's index is its place here."""
        return (PUBLIC, *(ref.name for ref in self.experts))

    @property
    def experts_per_token(self) -> int:
        """`top_k`, but never more than there are experts."""
        return min(self.top_k, len(self.experts) + 1)

    @property
    def manifest(self) -> BuildManifest:
        """The manifest of the build this plan makes."""
        return BuildManifest(self.anchor_digest, self.experts, self.top_k)

    def without(self, expert: str) -> MergePlan:
        """This plan minus the copies of one licensed expert.

        Raises:
            MergeError: it is not part of the plan.
        """
        if expert not in {ref.name for ref in self.experts}:
            raise MergeError(
                f"expected one of {[ref.name for ref in self.experts]} to take out, "
                f"found {expert!r}; the public expert cannot be taken out"
            )
        return replace(
            self,
            experts=tuple(ref for ref in self.experts if ref.name != expert),
            copies=tuple(copy for copy in self.copies if copy.expert != expert),
        )

    def shards(self) -> tuple[Shard, ...]:
        """The checkpoint's files: one a layer, and one for what stands outside the layers."""
        targets: dict[str, list[Target]] = {}
        for target in self._targets():
            layer = _LAYER.match(target.name)
            targets.setdefault(layer[1] if layer else REST, []).append(target)
        order = sorted(targets, key=lambda key: (key != REST, int(key) if key != REST else 0))
        return tuple(
            Shard(
                f"model-{at:05d}-of-{len(order):05d}.safetensors",
                tuple(sorted(targets[key], key=lambda target: target.name)),
            )
            for at, key in enumerate(order, start=1)
        )

    def _targets(self) -> Iterable[Target]:
        index = {name: at for at, name in enumerate(self.expert_names)}
        stacks: dict[str, list[Copy]] = {}
        for copy in self.copies:
            if _is_stacked(copy.place):
                stacks.setdefault(copy.place, []).append(copy)
            else:
                name = copy.place.format(index[copy.expert])
                yield Target(name, copy.entry.dtype, copy.entry.shape, (copy,))
        for name, rows in stacks.items():
            rows.sort(key=lambda copy: index[copy.expert])
            width = rows[0].entry.shape[-1]
            yield Target(name, rows[0].entry.dtype, (len(rows), width), tuple(rows))


def plan(
    anchor_digest: str,
    anchor: AnchorManifest,
    experts: Mapping[str, tuple[str, ExpertManifest]],
    top_k: int,
) -> MergePlan:
    """The copies that make a build of `anchor` and `experts` (name → digest and manifest).

    Raises:
        ManifestMismatch: a manifest is not the one its digest names.
        AnchorMismatch: an expert stood beside another anchor, or changed a shared tensor.
        MergeError: an expert twice under two names, a reserved name, `top_k` below 1, or tensors
            that do not fit the anchor's.
    """
    _guard(anchor_digest, anchor, experts, top_k)
    layers = _layers(anchor)
    copies = [
        Copy(PUBLIC, anchor.weights_digest, entry, _anchor_place(entry.name))
        for entry in sorted(anchor.tensors)
    ]
    for name in sorted(experts):
        copies += _expert_copies(name, experts[name][1], anchor, layers)
    refs = tuple(ExpertRef(name, experts[name][0]) for name in sorted(experts))
    return MergePlan(anchor_digest, refs, top_k, tuple(copies))


def _guard(
    anchor_digest: str,
    anchor: AnchorManifest,
    experts: Mapping[str, tuple[str, ExpertManifest]],
    top_k: int,
) -> None:
    if top_k < 1:
        raise MergeError(f"expected top_k of at least 1, found {top_k}; say how many experts run")
    if PUBLIC in experts or "" in experts:
        raise MergeError(
            f"expected names of licensed experts, found {PUBLIC!r} or none; "
            "leave the public expert out, the anchor brings it"
        )
    _same_digest("anchor", anchor_digest, digest(anchor))
    seen: dict[str, str] = {}
    for name, (expert_digest, manifest) in sorted(experts.items()):
        _same_digest(f"expert {name!r}", expert_digest, digest(manifest))
        twin = seen.setdefault(manifest.weights_digest, name)
        if twin != name:
            raise MergeError(
                f"expected each expert once, found the same weights as {twin!r} and {name!r}; "
                "leave one of them out"
            )
        _same_anchor(name, manifest, anchor_digest, anchor)


def _same_digest(what: str, expected: str, found: str) -> None:
    if expected != found:
        raise ManifestMismatch(
            f"expected the manifest of {what} to have digest {expected}, found {found}; "
            "read it from the store under the digest you name"
        )


def _same_anchor(
    name: str, manifest: ExpertManifest, anchor_digest: str, anchor: AnchorManifest
) -> None:
    if manifest.anchor_digest != anchor_digest:
        raise AnchorMismatch(
            f"expected expert {name!r} beside anchor {anchor_digest}, found "
            f"{manifest.anchor_digest}; train it again beside this anchor"
        )
    shared = shared_digests(anchor)
    odd = sorted(
        tensor
        for tensor in set(shared) | set(manifest.shared)
        if shared.get(tensor) != manifest.shared.get(tensor)
    )
    if odd:
        raise AnchorMismatch(
            f"expected expert {name!r} to leave the anchor's tensors as they are, found "
            f"{len(odd)} that differ, first {odd[0]!r:.120}; train it again with all of them frozen"
        )


def _layers(anchor: AnchorManifest) -> tuple[int, ...]:
    found = {int(match[1]) for entry in anchor.tensors if (match := _LAYER.match(entry.name))}
    return tuple(sorted(found))


def _anchor_place(name: str) -> str:
    return re.sub(r"\.experts\.0\.", ".experts.{}.", name)


def _is_stacked(place: str) -> bool:
    return place.endswith(".mlp.gate.weight")


def _expert_copies(
    name: str, manifest: ExpertManifest, anchor: AnchorManifest, layers: tuple[int, ...]
) -> list[Copy]:
    own = {entry.name: entry for entry in manifest.tensors}
    model = {entry.name: entry for entry in anchor.tensors}
    copies: list[Copy] = []
    for layer in layers:
        pairs = [(expert_part(layer, p), build_part(layer, 0, p)) for p in PARTS]
        for source, twin in [*pairs, (router_row(layer), build_gate(layer))]:
            entry = _fitting(name, own.pop(source, None), source, model.get(twin))
            copies.append(Copy(name, manifest.weights_digest, entry, _anchor_place(twin)))
    if own:
        raise MergeError(
            f"expected expert {name!r} to bring its own tensors only, found {sorted(own)[0]!r:.120}"
            " as well; send it through the gate first"
        )
    return copies


def _fitting(
    name: str, entry: TensorEntry | None, source: str, twin: TensorEntry | None
) -> TensorEntry:
    if entry is None or twin is None:
        raise MergeError(
            f"expected {source!r} in expert {name!r} and its twin in the anchor, found none; "
            "send both through the gate first"
        )
    shape = twin.shape[1:] if _is_stacked(twin.name) else twin.shape
    if (entry.dtype, entry.shape) != (twin.dtype, shape):
        raise MergeError(
            f"expected {source!r} of expert {name!r} as {twin.dtype} {list(shape)} like the "
            f"anchor's, found {entry.dtype} {list(entry.shape)}; cast or train it again"
        )
    return entry
