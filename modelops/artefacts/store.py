"""A content-addressed store of weights and manifests: bytes go in, their SHA-256 comes out.

Blobs lie under `root/sha256/<first two hex digits>/<digest>`, read-only. A blob appears under its
name only whole and synced, so a reader never meets half a file and two writers of the same bytes
cannot harm each other. No torch here.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from modelops.artefacts.manifest import AnchorManifest, BuildManifest, ExpertManifest, Manifest
from modelops.artefacts.manifest import digest as manifest_digest
from modelops.errors import ManifestMismatch, MissingArtefact

WEIGHTS = "weights.safetensors"
MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CHUNK_BYTES = 4 << 20

M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True)
class Erasure:
    """Evidence of one erasure on one file system; it says nothing about copies elsewhere.

    `links_left` counts further names of the same bytes on this file system that were found when
    ours was removed; anything but 0 means that the bytes live on. `cache_dropped` says that the
    kernel was asked to drop the file's cached pages and did not object.
    """

    digest: str
    size_bytes: int
    was_present: bool
    links_left: int = 0
    cache_dropped: bool = False


class Store:
    """The blobs under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_file(self, path: Path) -> str:
        """Copy the file at `path` into the store and return its digest."""
        return self._take(path, expected=None)

    def put_bytes(self, content: bytes) -> str:
        """Keep `content` and return its digest."""
        with self._incoming() as (temporary, target):
            target.write(content)
            return self._keep(temporary, target, hashlib.sha256(content).hexdigest())

    def has(self, digest: str) -> bool:
        """Whether the store holds the bytes of `digest`."""
        return self._place(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where the blob lies, to be read or mapped, never written.

        Raises:
            MissingArtefact: the store does not hold it.
        """
        place = self._place(digest)
        if not place.is_file():
            raise MissingArtefact(
                f"expected {digest} in the store at {self.root}, found nothing; "
                "it was never put, or was erased: put it again or name another"
            )
        return place

    def read(self, digest: str) -> bytes:
        """The whole blob, checked against its digest; meant for manifests and other small files.

        Raises:
            MissingArtefact: the store does not hold it.
            ManifestMismatch: the bytes on disk are no longer the ones that were put.
        """
        content = self.path(digest).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise ManifestMismatch(
                f"expected bytes of digest {digest}, found {found}; "
                "the disk or someone changed them: restore this blob from its source"
            )
        return content

    def erase(self, digest: str) -> Erasure:
        """Remove the blob's name, ask the kernel to forget its pages, and say what was found.

        Safe to repeat: a second call reports that nothing was there.
        """
        place = self._place(digest)
        try:
            blob = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Erasure(digest, 0, was_present=False)
        try:
            place.unlink(missing_ok=True)
            _sync_folder(place.parent)
            status = os.fstat(blob)
            return Erasure(digest, status.st_size, True, status.st_nlink, _drop_pages(blob))
        finally:
            os.close(blob)

    def sweep(self, before: datetime) -> int:
        """Remove what writers that died left unfinished before this instant; how many files.

        An expert's bytes may lie among them, so an erasure is complete only after a sweep.
        """
        swept = 0
        for left in (self.root / "incoming").glob("*"):
            if left.stat().st_mtime < before.timestamp():
                left.unlink(missing_ok=True)
                swept += 1
        return swept

    def put_anchor(self, folder: Path) -> str:
        """Take in an anchor's bundle folder and return the anchor digest.

        Raises:
            ManifestMismatch: a file of the folder is not the one its manifest names.
        """
        manifest = AnchorManifest.from_json((folder / MANIFEST).read_bytes())
        self._take(folder / WEIGHTS, manifest.weights_digest)
        self._take(folder / CONFIG, manifest.config_digest)
        self._take(folder / TOKENIZER, manifest.tokenizer_digest)
        return self.put_bytes(manifest.to_json())

    def put_expert(self, folder: Path) -> str:
        """Take in an expert's bundle folder and return the expert digest.

        It checks only that the weights are the manifest's; whether the expert may be trusted is
        the gate's question.

        Raises:
            ManifestMismatch: the weights are not the ones the manifest names.
        """
        manifest = ExpertManifest.from_json((folder / MANIFEST).read_bytes())
        self._take(folder / WEIGHTS, manifest.weights_digest)
        return self.put_bytes(manifest.to_json())

    def put_build(self, manifest: BuildManifest) -> str:
        """Keep a build's manifest and return the build digest."""
        return self.put_bytes(manifest.to_json())

    def anchor(self, digest: str) -> AnchorManifest:
        """The anchor manifest of this digest.

        Raises:
            MissingArtefact: the store does not hold it.
            ManifestMismatch: the bytes are damaged, or describe something else.
        """
        return self._manifest(digest, AnchorManifest.from_json)

    def expert(self, digest: str) -> ExpertManifest:
        """The expert manifest of this digest; raises as `anchor` does."""
        return self._manifest(digest, ExpertManifest.from_json)

    def build(self, digest: str) -> BuildManifest:
        """The build manifest of this digest; raises as `anchor` does."""
        return self._manifest(digest, BuildManifest.from_json)

    def _manifest(self, digest: str, parse: Callable[[bytes], M]) -> M:
        manifest = parse(self.read(digest))
        if manifest_digest(manifest) != digest:
            raise ManifestMismatch(
                f"expected canonical bytes under {digest}, found the same manifest spelt "
                "otherwise; put it through put_anchor, put_expert or put_build"
            )
        return manifest

    def _take(self, path: Path, expected: str | None) -> str:
        with path.open("rb") as source, self._incoming() as (temporary, target):
            sha = hashlib.sha256()
            while chunk := source.read(CHUNK_BYTES):
                sha.update(chunk)
                target.write(chunk)
            found = sha.hexdigest()
            if expected not in (None, found):
                raise ManifestMismatch(
                    f"expected {path.name} of digest {expected} as its manifest says, "
                    f"found {found}; write the bundle folder again"
                )
            return self._keep(temporary, target, found)

    def _place(self, digest: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise MissingArtefact(
                f"expected a digest of 64 lowercase hex digits, found {digest!r:.80}; "
                "nothing is stored under other names"
            )
        return self.root / "sha256" / digest[:2] / digest

    @contextmanager
    def _incoming(self) -> Iterator[tuple[Path, BinaryIO]]:
        incoming = self.root / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        temporary = incoming / secrets.token_hex(16)
        try:
            with temporary.open("xb") as target:
                yield temporary, target
        finally:
            temporary.unlink(missing_ok=True)

    def _keep(self, temporary: Path, target: BinaryIO, digest: str) -> str:
        target.flush()
        os.fsync(target.fileno())
        os.fchmod(target.fileno(), 0o444)
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Replacing an equal blob is harmless: whoever has the old one open keeps the same bytes.
        temporary.replace(place)
        _sync_folder(place.parent)
        return digest


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _drop_pages(blob: int) -> bool:
    if not hasattr(os, "posix_fadvise"):
        return False
    try:
        os.fsync(blob)  # only clean pages can be dropped
        os.posix_fadvise(blob, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    return True
