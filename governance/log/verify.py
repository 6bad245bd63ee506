"""Check the whole log: is every event there, once, in its place, and as it was signed?

The database is compared with itself (numbers, hashes, heads), with the log's key, and with the
published tiles, which remember every leaf's hash and so can name the very event that was touched.
What it cannot see: a history rewritten by someone who holds the key and the files. For that,
someone else must have kept a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import connection

from governance.canonical import Verifier
from governance.errors import GovernanceError, LogIntegrityError
from governance.log import checkpoint
from governance.log.checkpoint import Checkpoint
from governance.log.comparison import Problem, Trouble, differences
from governance.log.tiles import TILE_LEVELS, TILE_WIDTH, TileFolder, tile_path, unbundled
from governance.log.tree import Frontier, LeafNodes, leaf_hash
from governance.models import LogCheckpoint, LogLeaf, StagedEvent


@dataclass(frozen=True, slots=True)
class LogReport:
    """What a check found. `size` and `root` are of the newest signed head that was checked."""

    origin: str
    size: int
    root: str
    heads: int
    waiting: int
    problems: tuple[Problem, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {"sound": self.is_sound, **asdict(self)}


@dataclass(slots=True)
class _Leaves:
    """The leaves below a size: the hash their bodies have, and where another one is stored."""

    hashes: dict[int, bytes] = field(default_factory=dict)
    misfiled: list[int] = field(default_factory=list)


def verify(origin: str, verifier: Verifier, tiles: TileFolder | None = None) -> LogReport:
    """Check the log in the database against its key and, where given, its published tiles.

    The sequencer may go on meanwhile: what is sealed after the start is not looked at.
    """
    published, told, problems = _published(tiles, origin, verifier)
    heads = list(LogCheckpoint.objects.order_by("size"))
    size = heads[-1].size if heads else 0
    leaves = _read_leaves()
    on_events = _on_events(leaves, told[:size], size)
    problems += on_events
    problems += _on_heads(heads, leaves, origin, verifier, look_at_roots=not on_events)
    if all(problem.trouble is not Trouble.INSERTED for problem in on_events):
        problems += _on_extra_leaves()
    problems += _on_published_head(size, published)
    return LogReport(
        origin=origin,
        size=size,
        root=bytes(heads[-1].root_hash).hex() if heads else "",
        heads=len(heads),
        waiting=StagedEvent.objects.count(),
        problems=tuple(problems),
    )


def _read_leaves() -> _Leaves:
    leaves = _Leaves()
    rows = LogLeaf.objects.order_by("seq")
    for seq, body, stored in rows.values_list("seq", "body", "leaf_hash").iterator(4_096):
        leaves.hashes[seq] = leaf_hash(bytes(body))
        if leaves.hashes[seq] != bytes(stored):
            leaves.misfiled.append(seq)
    return leaves


def _on_events(leaves: _Leaves, told: Sequence[bytes], size: int) -> list[Problem]:
    """What is wrong with single events: by the tiles as far as they reach, then by the rows."""
    problems = differences(leaves.hashes, told)
    named = {problem.seq for problem in problems}
    problems += [
        Problem(Trouble.EDITED, seq, f"event {seq} does not have the hash stored beside it")
        for seq in leaves.misfiled
        if seq not in named
    ]
    last = max((seq for seq in leaves.hashes if seq < size), default=-1)
    problems += [
        Problem(Trouble.REMOVED, seq, f"event {seq} is gone")
        for seq in range(len(told), last)
        if seq not in leaves.hashes
    ]
    if last + 1 < size and len(told) < size:
        problems.append(
            Problem(Trouble.TRUNCATED, last + 1, f"events {last + 1} to {size - 1} are gone")
        )
    return problems


def _on_heads(
    heads: Sequence[LogCheckpoint],
    leaves: _Leaves,
    origin: str,
    verifier: Verifier,
    *,
    look_at_roots: bool,
) -> list[Problem]:
    """What is wrong with signed heads; roots only where no event was named as the cause."""
    problems: list[Problem] = []
    frontier = Frontier()
    for head in heads:
        said = f"the head at {head.size}"
        try:
            signed = checkpoint.opened(head.note, origin, verifier)
        except GovernanceError as error:
            problems.append(Problem(Trouble.HEAD, None, f"{said}: {error}"))
            continue
        if signed != Checkpoint(origin, head.size, bytes(head.root_hash)):
            problems.append(Problem(Trouble.HEAD, None, f"{said} is not what its note says"))
        if not look_at_roots:
            continue
        begin = frontier.size
        frontier = frontier.extended(leaves.hashes[seq] for seq in range(begin, head.size))
        if frontier.root() != signed.root:
            message = f"events {begin} to {head.size - 1} do not give the root signed for them"
            return [*problems, Problem(Trouble.HEAD, None, message)]
    return problems


def _on_extra_leaves() -> list[Problem]:
    extra = _beyond_any_head()
    if extra is None:
        return []
    return [Problem(Trouble.INSERTED, extra, f"event {extra} stands beyond every signed head")]


def _on_published_head(size: int, published: Checkpoint | None) -> list[Problem]:
    """A head that was published and is gone from the database, or never was in it."""
    problems = []
    if published is not None and published.size > size:
        message = f"the published head speaks of {published.size} events, the database of {size}"
        problems.append(Problem(Trouble.TRUNCATED, size, message))
    if published is not None and published.size <= size:
        row = LogCheckpoint.objects.filter(size=published.size).first()
        if row is None or bytes(row.root_hash) != published.root:
            message = f"the head published at {published.size} is not in the database"
            problems.append(Problem(Trouble.HEAD, None, message))
    return problems


def _beyond_any_head() -> int | None:
    """The first leaf no head covers, seen in one statement, so that a seal is seen whole."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT min(seq) FROM governance_logleaf WHERE seq >="
            " (SELECT coalesce(max(size), 0) FROM governance_logcheckpoint)"
        )
        found: int | None = cursor.fetchone()[0]
    return found


def _published(
    tiles: TileFolder | None, origin: str, verifier: Verifier
) -> tuple[Checkpoint | None, list[bytes], list[Problem]]:
    """The published head, the leaf hashes its tiles tell, and what is wrong with the files.

    Tiles that do not give the published root tell nothing that could be relied on.
    """
    note = tiles.note() if tiles else None
    if tiles is None or note is None:
        return None, [], []
    try:
        head = checkpoint.opened(note, origin, verifier)
        told = list(_told(tiles, head.size))
        if Frontier().extended(told).root() != head.root:
            raise _odd("the published tiles do not give the published root")
    except GovernanceError as error:
        return None, [], [Problem(Trouble.FILES, None, str(error))]
    return head, told, list(_on_files(tiles, told))


def _odd(what: str) -> LogIntegrityError:
    return LogIntegrityError(f"{what}; publish them again from a database that is sound")


def _told(tiles: TileFolder, size: int) -> Iterator[bytes]:
    for begin in range(0, size, TILE_WIDTH):
        yield from tiles.hashes(0, begin // TILE_WIDTH, min(TILE_WIDTH, size - begin))


def _on_files(tiles: TileFolder, told: Sequence[bytes]) -> Iterator[Problem]:
    """Entry bundles that differ from their hashes, and upper tiles from those below them."""
    for begin in range(0, len(told), TILE_WIDTH):
        hashes = told[begin : begin + TILE_WIDTH]
        try:
            entries = _bundle(tiles, begin // TILE_WIDTH, len(hashes))
        except (OSError, LogIntegrityError) as error:
            yield Problem(Trouble.FILES, begin, f"the entries from {begin} on: {error}")
            continue
        for seq, (entry, hashed) in enumerate(zip(entries, hashes, strict=False), start=begin):
            if leaf_hash(entry) != hashed:
                yield Problem(Trouble.FILES, seq, f"the published entry {seq} was changed")
        if len(entries) < len(hashes):
            seq = begin + len(entries)
            yield Problem(Trouble.FILES, seq, f"the published entry {seq} is missing")
    yield from _on_upper_tiles(tiles, told)


def _bundle(tiles: TileFolder, index: int, width: int) -> list[bytes]:
    whole = tiles.path / tile_path("entries", index)
    file = whole if whole.exists() else tiles.path / tile_path("entries", index, width)
    return unbundled(file.read_bytes())


def _on_upper_tiles(tiles: TileFolder, told: Sequence[bytes]) -> Iterator[Problem]:
    row, level = list(told), 0
    while len(row) >= TILE_WIDTH:
        level += 1
        full = len(row) // TILE_WIDTH
        row = [LeafNodes(row).node(TILE_LEVELS, index) for index in range(full)]
        for begin in range(0, full, TILE_WIDTH):
            part = row[begin : begin + TILE_WIDTH]
            try:
                found = tiles.hashes(level, begin // TILE_WIDTH, len(part))
            except LogIntegrityError as error:
                yield Problem(Trouble.FILES, None, str(error))
                continue
            if found != part:
                message = f"tile {begin // TILE_WIDTH} of level {level} was changed"
                yield Problem(Trouble.FILES, None, message)
