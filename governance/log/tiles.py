"""The log as files anyone may copy: C2SP tlog-tiles (tiles of 256 hashes, entries, checkpoint).

    checkpoint
    tile/0/x001/234            a full tile, 8,192 bytes, never written again
    tile/0/x001/235.p/17       a partial tile of 17 hashes
    tile/entries/x001/234      the entries under a level-0 tile, each with a 16-bit length

No database here: entries come in, files come out. The checkpoint is written last and replaced in
one step, so a reader that starts from it finds everything it needs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from governance.errors import LogIntegrityError
from governance.log import checkpoint
from governance.log.tree import LeafNodes, leaf_hash

TILE_WIDTH = 256
TILE_LEVELS = 8  # tree levels that one tile spans
HASH_BYTES = 32

Entries = Callable[[int, int], Sequence[bytes]]
"""`entries(begin, end)` gives the leaves [begin, end) of the log."""


def tile_path(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """Where a tile of `width` hashes lies; `level` is a number or `"entries"`."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03d}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{partial}"


def bundled(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry behind its length in 16 bits, big-endian."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unbundled(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        LogIntegrityError: it does not end where its last entry ends.
    """
    entries = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle) or at + 2 > len(bundle):
            raise LogIntegrityError(
                f"expected an entry of {end - at - 2} bytes at byte {at} of a bundle, found fewer; "
                "publish the tiles again from the database"
            )
        entries.append(bundle[at + 2 : end])
        at = end
    return entries


@dataclass(frozen=True, slots=True)
class TileFolder:
    """A folder of tiles. Also answers for the hashes of perfect subtrees (`tree.Nodes`)."""

    path: Path

    def note(self) -> str | None:
        """The signed checkpoint that was published last, as it stands."""
        file = self.path / "checkpoint"
        return file.read_text(encoding="utf-8") if file.exists() else None

    def size(self) -> int:
        """How many leaves the published checkpoint speaks of."""
        note = self.note()
        return 0 if note is None else checkpoint.read_unverified(note).size

    def hashes(self, level: int, index: int, width: int) -> list[bytes]:
        """The first `width` hashes of a tile, from the full tile where there is one.

        Raises:
            LogIntegrityError: no such tile, or one of another length.
        """
        whole, part = (self.path / tile_path(level, index, w) for w in (TILE_WIDTH, width))
        found = whole if whole.exists() else part
        try:
            content = found.read_bytes()
        except OSError as error:
            raise LogIntegrityError(
                f"expected the tile {found}, found none; publish the tiles again"
            ) from error
        if len(content) < width * HASH_BYTES or len(content) % HASH_BYTES:
            raise LogIntegrityError(
                f"expected {width} hashes in {found}, found {len(content)} bytes; "
                "publish the tiles again"
            )
        return [content[at : at + HASH_BYTES] for at in range(0, width * HASH_BYTES, HASH_BYTES)]

    def node(self, level: int, index: int) -> bytes:
        """The hash of the perfect subtree at (level, index), out of the tile that holds it."""
        tile_level, within = divmod(level, TILE_LEVELS)
        begin = index << within
        end = begin + (1 << within)
        tile, offset = divmod(begin, TILE_WIDTH)
        width = self._width_holding(tile_level, tile, offset + end - begin)
        row = self.hashes(tile_level, tile, width)
        return LeafNodes(row[offset : offset + end - begin]).node(within, 0)

    def _width_holding(self, tile_level: int, tile: int, wanted: int) -> int:
        """The width to ask for: of the full tile, or of the partial one that is published."""
        there = (self.size() >> TILE_LEVELS * tile_level) - tile * TILE_WIDTH
        width = min(TILE_WIDTH, there)
        if width < wanted:
            raise LogIntegrityError(
                f"expected {wanted} hashes in tile {tile} of level {tile_level}, found {width}; "
                "publish the tiles again"
            )
        return width

    def publish(self, note: str, entries: Entries) -> None:
        """Write what is missing up to the checkpoint in `note`, then the checkpoint itself.

        Safe to repeat and safe to race: it never goes back to a smaller checkpoint, and it fills
        in what an earlier writer left out when it died.

        Raises:
            LogIntegrityError: a tile that may never change would have to.
        """
        size = checkpoint.read_unverified(note).size
        with self._held():
            done = self.size()
            if size <= done:
                return
            self._grow(0 if not self._is_whole(done) else done, size, entries)
            _replace(self.path / "checkpoint", note.encode())

    def _is_whole(self, size: int) -> bool:
        """Whether the rightmost tiles of a tree of `size` are here, so that it can be extended."""
        for level in range(TILE_LEVELS):
            count = size >> TILE_LEVELS * level
            tile, width = divmod(count, TILE_WIDTH)
            if width and not (self.path / tile_path(level, tile, width)).exists():
                return False
            if tile and not (self.path / tile_path(level, tile - 1)).exists():
                return False
        return True

    def _grow(self, old: int, new: int, entries: Entries) -> None:
        for tile in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
            begin = tile * TILE_WIDTH
            found = entries(begin, min(begin + TILE_WIDTH, new))
            self._write("entries", tile, len(found), bundled(found))
            self._write(0, tile, len(found), b"".join(leaf_hash(entry) for entry in found))
        for level in range(1, TILE_LEVELS):
            if not new >> TILE_LEVELS * level:
                break
            self._grow_level(level, old >> TILE_LEVELS * level, new >> TILE_LEVELS * level)

    def _grow_level(self, level: int, old: int, new: int) -> None:
        """Add the hashes of the tiles below that have become full: [old, new) of this level."""
        for tile in range(old // TILE_WIDTH, -(-new // TILE_WIDTH)):
            begin = tile * TILE_WIDTH
            end = min(begin + TILE_WIDTH, new)
            row = self.hashes(level, tile, old - begin) if begin < old else []
            row += [
                LeafNodes(self.hashes(level - 1, below, TILE_WIDTH)).node(TILE_LEVELS, 0)
                for below in range(max(old, begin), end)
            ]
            self._write(level, tile, end - begin, b"".join(row))

    def _write(self, level: int | str, tile: int, width: int, content: bytes) -> None:
        file = self.path / tile_path(level, tile, width)
        if file.exists() and file.read_bytes() == content:
            return
        if file.exists() and (width == TILE_WIDTH or self._is_published(level, tile, width)):
            raise LogIntegrityError(
                f"expected {file} to hold what was published, found other leaves in the database; "
                "run verify_log and find out who changed them"
            )
        _replace(file, content)
        if width == TILE_WIDTH:
            shutil.rmtree(file.with_name(file.name + ".p"), ignore_errors=True)

    def _is_published(self, level: int | str, tile: int, width: int) -> bool:
        """Whether the published checkpoint reaches as far as this partial tile does."""
        depth = 0 if level == "entries" else int(level)
        return (tile * TILE_WIDTH + width) << TILE_LEVELS * depth <= self.size()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """One writer at a time, also between processes."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".writing").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _replace(file: Path, content: bytes) -> None:
    """Put `content` under its name in one step, on disk before it can be seen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.fresh")
    with fresh.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)
