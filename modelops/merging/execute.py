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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import BinaryIO, Self

from modelops.artefacts.header import ITEM_BYTES, StoredTensor, read_header, write_header
from modelops.artefacts.names import digest_seed
from modelops.artefacts.store import Store
from modelops.errors import HostileFile, ManifestMismatch
from modelops.merging.plan import Copy, MergePlan, Shard

INDEX = "model.safetensors.index.json"
BUFFER_BYTES = 4 << 20

Report = Callable[[int, int, str], None]
"""Called as `report(done, total, note)`, counted in bytes of the checkpoint."""


@dataclass(frozen=True)
class WrittenFile:
    """A file of a checkpoint; `was_kept` says that an earlier run had written it whole."""

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
    total = sum(_data_bytes(shard) for shard in shards)
    written: list[WrittenFile] = []
    done = 0
    with _Sources(store) as sources:
        for shard in shards:
            kept = _kept(shard, folder / shard.file_name)
            written.append(kept or _write_shard(shard, folder, sources))
            done += _data_bytes(shard)
            if report:
                report(done, total, f"{shard.file_name} {'kept' if kept else 'written'}")
    return (*written, write_file(folder / INDEX, _index(shards, total)))


def write_file(path: Path, content: bytes) -> WrittenFile:
    """Write a small file so that it appears whole or not at all."""
    with _appearing(path) as target:
        target.write(content)
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


class _Hashing:
    """SHA-256 of a stream, computed on a thread while the stream is written elsewhere."""

    def __init__(self, pool: ThreadPoolExecutor, seed: bytes = b"") -> None:
        self._pool = pool
        self._sha = hashlib.sha256(seed)
        self._last: Future[None] | None = None

    def update(self, piece: memoryview) -> Future[None]:
        """Hash `piece`, which must not change before the returned future is done."""
        # One worker a pool keeps pieces in order.
        self._last = self._pool.submit(self._sha.update, piece)
        return self._last

    def digest(self) -> str:
        """The digest so far, once all pieces are through."""
        if self._last:
            self._last.result()
        return self._sha.hexdigest()


def _write_shard(shard: Shard, folder: Path, sources: _Sources) -> WrittenFile:
    header = write_header({t.name: (t.dtype, t.shape) for t in shard.targets})
    path = folder / shard.file_name
    with (
        ThreadPoolExecutor(1) as whole_pool,
        ThreadPoolExecutor(1) as tensor_pool,
        _appearing(path) as target,
    ):
        whole = _Hashing(whole_pool)
        whole.update(memoryview(header))
        target.write(header)
        for copy in (copy for tensor in shard.targets for copy in tensor.copies):
            _copy(copy, sources, target, whole, tensor_pool)
        digest = whole.digest()
    return WrittenFile(path.name, digest, len(header) + _data_bytes(shard))


def _copy(
    copy: Copy,
    sources: _Sources,
    target: BinaryIO,
    whole: _Hashing,
    tensor_pool: ThreadPoolExecutor,
) -> None:
    file, tensor = sources.find(copy)
    own = _Hashing(tensor_pool, digest_seed(tensor.dtype, tensor.shape))
    buffers = [memoryview(bytearray(min(BUFFER_BYTES, tensor.end - tensor.begin))) for _ in "ab"]
    waiting: list[tuple[Future[None], ...]] = [(), ()]
    file.seek(tensor.begin)
    left, turn = tensor.end - tensor.begin, 0
    while left > 0:
        for future in waiting[turn]:  # whoever still reads this buffer comes first
            future.result()
        piece = buffers[turn][: file.readinto(buffers[turn][: min(BUFFER_BYTES, left)])]
        if not piece:
            raise _differs(copy, "a file that ends early")
        waiting[turn] = (own.update(piece), whole.update(piece))
        target.write(piece)
        left -= len(piece)
        turn = 1 - turn
    for future in (*waiting[0], *waiting[1]):
        future.result()
    if own.digest() != copy.entry.digest:
        raise _differs(copy, f"bytes of digest {own.digest()}")


def _differs(copy: Copy, found: str) -> ManifestMismatch:
    return ManifestMismatch(
        f"expected tensor {copy.entry.name!r} of {copy.expert!r} with digest {copy.entry.digest} "
        f"as its manifest says, found {found}; put the bundle into the store again"
    )


def _kept(shard: Shard, path: Path) -> WrittenFile | None:
    """The file of an earlier run, if every byte of it is the plan's; otherwise None."""
    header = write_header({t.name: (t.dtype, t.shape) for t in shard.targets})
    size_bytes = len(header) + _data_bytes(shard)
    if not path.is_file() or path.is_symlink() or path.stat().st_size != size_bytes:
        return None
    with path.open("rb") as file:
        found = file.read(len(header))
        whole = hashlib.sha256(found)
        if found != header:
            return None
        for copy in (copy for tensor in shard.targets for copy in tensor.copies):
            own = hashlib.sha256(digest_seed(copy.entry.dtype, copy.entry.shape))
            for piece in _pieces(file, prod(copy.entry.shape) * ITEM_BYTES[copy.entry.dtype]):
                own.update(piece)
                whole.update(piece)
            if own.hexdigest() != copy.entry.digest:
                return None
    return WrittenFile(path.name, whole.hexdigest(), size_bytes, was_kept=True)


def _pieces(file: BinaryIO, left: int) -> Iterator[bytes]:
    while left > 0 and (piece := file.read(min(left, BUFFER_BYTES))):
        left -= len(piece)
        yield piece


def _data_bytes(shard: Shard) -> int:
    return sum(prod(t.shape) * ITEM_BYTES[t.dtype] for t in shard.targets)


def _index(shards: tuple[Shard, ...], total: int) -> bytes:
    where = {target.name: shard.file_name for shard in shards for target in shard.targets}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    return json.dumps(index, indent=2).encode() + b"\n"


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to write: it takes its name when the block ends well, and is gone otherwise."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
