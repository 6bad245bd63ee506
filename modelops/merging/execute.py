"""Carrying out a merge plan: bytes are copied, never recomputed; no torch here.

One file a layer. Each source tensor is hashed while it is copied and must have the digest its
manifest gives, so a build cannot contain what nobody examined. A file appears under its name only
whole and synced; a file found under its name is verified tensor by tensor and kept, which makes a
run that was killed cheap to repeat. Memory: a few buffers, however large the build.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from itertools import cycle
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from modelops.artefacts.header import ITEM_BYTES, StoredTensor, read_header, write_header
from modelops.artefacts.names import digest_seed
from modelops.artefacts.scan import chunks
from modelops.artefacts.store import Store
from modelops.errors import HostileFile, ManifestMismatch
from modelops.merging.plan import Copy, MergePlan, Shard, Target

if TYPE_CHECKING:
    from hashlib import _Hash as Sha256

INDEX = "model.safetensors.index.json"
BUFFER_BYTES = 4 << 20

Report = Callable[[int, int, str], None]
"""Called as `report(done, total, note)`, counted in bytes of the checkpoint."""


@dataclass(frozen=True)
class WrittenFile:
    """A file of a checkpoint; `was_kept` says that an earlier run had written it whole.

    `digest` is the SHA-256 of the bytes, or for a weights file what `shard_digest` gives.
    """

    name: str
    digest: str
    size_bytes: int
    was_kept: bool = False


def execute(
    plan: MergePlan, store: Store, folder: Path, report: Report | None = None
) -> tuple[WrittenFile, ...]:
    """Write the checkpoint's weights and their index into `folder`, which may hold earlier work.

    Files there that are not of this plan are left alone: give each plan a folder of its own.

    Raises:
        MissingArtefact: the store lacks the weights of an expert or of the anchor.
        ManifestMismatch: a source tensor is not what its manifest says; nothing of it is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = plan.shards()
    sizes = {shard.file_name: _data_bytes(shard) for shard in shards}
    written: list[WrittenFile] = []

    def settled(file: WrittenFile) -> None:
        written.append(file)
        if report:
            done = sum(sizes[one.name] for one in written)
            note = f"{file.name} {'kept' if file.was_kept else 'written'}"
            report(done, sum(sizes.values()), note)

    with _Copier(store, folder, settled) as copier:
        for shard in shards:
            kept = _kept(shard, folder / shard.file_name)
            if kept:
                settled(kept)
            else:
                copier.write(shard)
        copier.settle()
    written.sort(key=attrgetter("name"))  # a shard that was kept is settled before its elders
    return (*written, write_file(folder / INDEX, _index(shards, sum(sizes.values()))))


def write_file(path: Path, content: bytes) -> WrittenFile:
    """Write a small file so that it appears whole or not at all."""
    _unfinished(path).write_bytes(content)
    _settle(_unfinished(path), path)
    return WrittenFile(path.name, hashlib.sha256(content).hexdigest(), len(content))


class _Sources:
    """The weights files a merge reads from, each opened once and its header read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, tuple[BufferedReader, Mapping[str, StoredTensor]]] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def find(self, copy: Copy) -> tuple[BufferedReader, StoredTensor]:
        """The open file and where in it the copy's tensor lies, of the form the manifest says."""
        if copy.weights_digest not in self._open:
            path = self._store.path(copy.weights_digest)
            try:
                header = read_header(path)
            except HostileFile as error:
                raise _differs(copy, "a file that is no sound safetensors file") from error
            file = self._closing.enter_context(path.open("rb"))
            self._open[copy.weights_digest] = (file, {t.name: t for t in header.tensors})
        file, tensors = self._open[copy.weights_digest]
        tensor = tensors.get(copy.entry.name)
        if tensor is None or (tensor.dtype, tensor.shape) != (copy.entry.dtype, copy.entry.shape):
            raise _differs(copy, "none of this name, dtype and shape")
        return file, tensor


class _Copier:
    """Writes shards: copying, hashing and syncing the file before go on side by side."""

    def __init__(
        self, store: Store, folder: Path, on_settled: Callable[[WrittenFile], None]
    ) -> None:
        self._folder = folder
        self._on_settled = on_settled
        self._closing = ExitStack()
        self._sources = self._closing.enter_context(_Sources(store))
        # One worker each: a tensor's pieces are hashed in order, shards appear in theirs.
        threads = [self._closing.enter_context(ThreadPoolExecutor(1)) for _ in range(3)]
        self._syncing, *hashing = threads
        self._hashing = cycle(hashing)
        self._buffers = [memoryview(bytearray(BUFFER_BYTES)) for _ in range(4)]
        self._hashed: list[Future[None] | None] = [None for _ in self._buffers]
        self._turn = 0
        self._settling: tuple[WrittenFile, Future[None]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def write(self, shard: Shard) -> None:
        """Copy one shard; it takes its name once it is synced, which `settle` waits for."""
        path = self._folder / shard.file_name
        temporary = _unfinished(path)
        header = _header(shard)
        with ExitStack() as undo:
            undo.callback(temporary.unlink, missing_ok=True)
            with temporary.open("wb") as target:
                target.write(header)
                digests = [self._target(one, target) for one in shard.targets]
            for one, shas in zip(shard.targets, digests, strict=True):
                self._check(one, shas)
            found = [shas[-1].hexdigest() for shas in digests]
            written = WrittenFile(path.name, _bound(header, found), _size_bytes(shard))
            self.settle()
            undo.pop_all()
        self._settling = (written, self._syncing.submit(_settle, temporary, path))

    def settle(self) -> None:
        """Wait until the last shard written has its name."""
        if self._settling:
            written, synced = self._settling
            self._settling = None
            synced.result()
            self._on_settled(written)

    def _target(self, one: Target, target: BinaryIO) -> list[Sha256]:
        """Copy what a tensor consists of; the hashes of each copy, and of the tensor last."""
        shas = [hashlib.sha256(digest_seed(c.entry.dtype, c.entry.shape)) for c in one.copies]
        whole = shas[0] if _is_single(one) else hashlib.sha256(digest_seed(one.dtype, one.shape))
        thread = next(self._hashing)
        for copy, own in zip(one.copies, shas, strict=True):
            self._copy(copy, target, thread, [own] if own is whole else [own, whole])
        return [*shas, whole]

    def _copy(
        self, copy: Copy, target: BinaryIO, thread: ThreadPoolExecutor, shas: Sequence[Sha256]
    ) -> None:
        file, tensor = self._sources.find(copy)
        file.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left > 0:
            buffer = self._free_buffer()
            piece = buffer[: file.readinto(buffer[: min(BUFFER_BYTES, left)])]
            if not piece:
                raise _differs(copy, "a file that ends early")
            self._hashed[self._turn] = thread.submit(_update, shas, piece)
            target.write(piece)
            left -= len(piece)

    def _free_buffer(self) -> memoryview:
        self._turn = (self._turn + 1) % len(self._buffers)
        if hashed := self._hashed[self._turn]:
            hashed.result()
        return self._buffers[self._turn]

    def _check(self, one: Target, shas: Sequence[Sha256]) -> None:
        for hashed in filter(None, self._hashed):
            hashed.result()
        for copy, own in zip(one.copies, shas, strict=False):
            if own.hexdigest() != copy.entry.digest:
                raise _differs(copy, f"bytes of digest {own.hexdigest()}")


def _update(shas: Sequence[Sha256], piece: memoryview) -> None:
    for sha in shas:
        sha.update(piece)


def _is_single(one: Target) -> bool:
    return len(one.copies) == 1 and one.shape == one.copies[0].entry.shape


def shard_digest(path: Path) -> str:
    """The digest of a weights file: SHA-256 over its header and its tensors' digests in order.

    It binds every byte, and costs a merge no second pass over what it has just verified.

    Raises:
        HostileFile: no sound safetensors file.
    """
    header = read_header(path)
    with path.open("rb") as file:
        text = file.read(header.data_begin)
        found = []
        for tensor in header.tensors:
            sha = hashlib.sha256(digest_seed(tensor.dtype, tensor.shape))
            for piece in chunks(tensor, file):
                sha.update(piece)
            found.append(sha.hexdigest())
    return _bound(text, found)


def _bound(header: bytes, digests: Iterable[str]) -> str:
    return hashlib.sha256(header + "".join(digests).encode()).hexdigest()


def _differs(copy: Copy, found: str) -> ManifestMismatch:
    return ManifestMismatch(
        f"expected tensor {copy.entry.name!r} of {copy.expert!r} with digest {copy.entry.digest} "
        f"as its manifest says, found {found}; put the bundle into the store again"
    )


def _kept(shard: Shard, path: Path) -> WrittenFile | None:
    """The file of an earlier run, if every byte of it is the plan's; otherwise None."""
    header = _header(shard)
    size_bytes = _size_bytes(shard)
    if not path.is_file() or path.is_symlink() or path.stat().st_size != size_bytes:
        return None
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            return None
        found = [_kept_digest(one, file) for one in shard.targets]
    whole = [digest for digest in found if digest]
    if len(whole) < len(found):
        return None
    return WrittenFile(path.name, _bound(header, whole), size_bytes, was_kept=True)


def _kept_digest(one: Target, file: BinaryIO) -> str:
    """Digest of the tensor that follows in `file`, empty if it is not the plan's."""
    whole = hashlib.sha256(digest_seed(one.dtype, one.shape))
    for copy in one.copies:
        own = hashlib.sha256(digest_seed(copy.entry.dtype, copy.entry.shape))
        left = prod(copy.entry.shape) * ITEM_BYTES[copy.entry.dtype]
        while left > 0 and (piece := file.read(min(left, BUFFER_BYTES))):
            _update([own, whole], memoryview(piece))
            left -= len(piece)
        if own.hexdigest() != copy.entry.digest:
            return ""
    return whole.hexdigest()


def _header(shard: Shard) -> bytes:
    return write_header({one.name: (one.dtype, one.shape) for one in shard.targets})


def _size_bytes(shard: Shard) -> int:
    return len(_header(shard)) + _data_bytes(shard)


def _data_bytes(shard: Shard) -> int:
    return sum(prod(t.shape) * ITEM_BYTES[t.dtype] for t in shard.targets)


def _index(shards: tuple[Shard, ...], total: int) -> bytes:
    where = {target.name: shard.file_name for shard in shards for target in shard.targets}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    return json.dumps(index, indent=2).encode() + b"\n"


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _settle(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
