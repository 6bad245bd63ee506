"""The sequencer: the one place that gives events their number and signs tree heads.

It moves the staged events it can see into leaves, extends the tree and signs the new head, all in
one transaction under an advisory lock. Numbering here, not at staging, is what leaves no gaps
when a transaction rolls back or commits late. Tiles and checkpoint go to files after the commit.

It signs nothing that contradicts what it signed before (C2SP tlog-checkpoint): the newest head in
the database must carry its signature, its leaves must still give its root, and the head published
in files must not be ahead of it or different.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max

from governance import keys
from governance.canonical import Signer
from governance.errors import GovernanceError, LogIntegrityError
from governance.log import checkpoint
from governance.log.checkpoint import Checkpoint
from governance.log.tiles import TILE_WIDTH, TileFolder
from governance.log.tree import Frontier, LeafNodes, perfect
from governance.models import LogCheckpoint, LogLeaf, StagedEvent

_LOCK = 0x5243_4C4D_0003
"""Advisory lock of the sequencer, beside those of `governance.services.locks`."""

FOLDER = "log-tiles"
"""Where, under the state folder, the log is published."""

BATCH = 1_024
"""At most so many events under one signature, so that one seal stays short."""

# In one statement, so that the bytes never leave the database and no other row can slip in.
_MOVE = """
WITH moved AS (
    DELETE FROM governance_stagedevent
    WHERE id IN (SELECT id FROM governance_stagedevent ORDER BY id LIMIT %(batch)s)
    RETURNING id, body, staged_at
)
INSERT INTO governance_logleaf (seq, body, leaf_hash, staged_at, sealed_at)
SELECT %(size)s + row_number() OVER (ORDER BY id) - 1,
       body, sha256('\\x00'::bytea || body), staged_at, %(at)s
FROM moved
RETURNING seq, leaf_hash
"""


@dataclass(frozen=True, slots=True)
class Log:
    """A log by its name, its key and the folder it is published in."""

    origin: str
    signer: Signer
    folder: Path

    @property
    def tiles(self) -> TileFolder:
        """The published files."""
        return TileFolder(self.folder)


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """The leaves [first, size) that one signature added."""

    first: int
    size: int
    root: bytes
    note: str


def configured() -> Log:
    """This installation's log; its key is made on first use."""
    return Log(
        origin=settings.RECLAIM_LOG_ORIGIN,
        signer=keys.load_or_create(settings.RECLAIM_KEYS, keys.LOG_KEY),
        folder=settings.RECLAIM_HOME / FOLDER,
    )


def seal(at: datetime, *, log: Log | None = None) -> SealedBatch | None:
    """Seal up to `BATCH` staged events under a new signed head; None when nothing is staged.

    Inside an outer transaction the leaves become real with it, and the files after it.

    Raises:
        LogIntegrityError: what is there is not what was signed. Nothing is signed or moved.
    """
    log = log or configured()
    with transaction.atomic():
        _hold_lock()
        if not StagedEvent.objects.exists():
            return None
        frontier = _last_frontier(log)
        hashes = _moved(frontier.size, at)
        grown = frontier.extended(hashes)
        head = Checkpoint(log.origin, grown.size, grown.root())
        batch = SealedBatch(frontier.size, head.size, head.root, checkpoint.sign(head, log.signer))
        LogCheckpoint.objects.create(
            size=batch.size, root_hash=batch.root, note=batch.note, sealed_at=at
        )
        transaction.on_commit(lambda: publish(log), robust=True)
    return batch


def seal_now(at: datetime, *, log: Log | None = None) -> int:
    """Seal until nothing visible is staged; the number of events sealed."""
    log = log or configured()
    sealed = 0
    while (batch := seal(at, log=log)) is not None:
        sealed += batch.size - batch.first
    return sealed


def publish(log: Log) -> None:
    """Bring the files up to the newest signed head. Heals what an earlier writer left undone.

    Raises:
        LogIntegrityError: a published tile would have to change.
    """
    newest = LogCheckpoint.objects.first()
    if newest is not None:
        log.tiles.publish(newest.note, _entries)


def check_published() -> None:
    """Refuse a database that is behind this machine's published head, or beside it.

    That is one restored from a backup: what was withdrawn since would be granted again. The files
    are the copy kept elsewhere; a machine that has none cannot tell.

    Raises:
        LogIntegrityError: it is.
        SignatureInvalid: the published head is not signed by this installation's log.
    """
    if TileFolder(settings.RECLAIM_HOME / FOLDER).note() is not None:
        _check_files(configured(), _leaf_count())


def _hold_lock() -> None:
    """A statement of its own, so that the next one reads what the last holder committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _moved(size: int, at: datetime) -> list[bytes]:
    """Turn the oldest visible staged events into leaves from `size` on; their hashes, in order."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, {"size": size, "batch": BATCH, "at": at})
        return [bytes(hashed) for _, hashed in sorted(cursor.fetchall())]


def _last_frontier(log: Log) -> Frontier:
    """The right edge of the tree as it was signed last, found to be still so.

    Raises:
        LogIntegrityError: it is not.
    """
    newest = LogCheckpoint.objects.first()
    leaf_count = _leaf_count()
    size = 0 if newest is None else newest.size
    if leaf_count != size:
        raise _refused(f"{size} leaves as signed", f"{leaf_count} in the database")
    _check_files(log, size)
    if newest is None:
        return Frontier()
    root = bytes(newest.root_hash)
    if _signed_head(log, newest) != Checkpoint(log.origin, size, root):
        raise _refused(f"a signed head at {size}", "one that says something else")
    frontier = _frontier_with_tiles(log, size)
    if frontier is None or frontier.root() != root:
        frontier = Frontier.of(LeafNodes(_leaf_hashes(0, size)), size)
    if frontier.root() != root:
        raise _refused(f"the leaves that were signed at {size}", "others")
    return frontier


def _leaf_count() -> int:
    last: int | None = LogLeaf.objects.aggregate(last=Max("seq"))["last"]
    return 0 if last is None else last + 1


def _signed_head(log: Log, newest: LogCheckpoint) -> Checkpoint:
    try:
        return checkpoint.opened(newest.note, log.origin, log.signer.verifier)
    except GovernanceError as error:
        raise _refused("a head signed by this log's key", f"none ({error})") from error


def _check_files(log: Log, size: int) -> None:
    """Refuse a database that is behind the published head, or beside it."""
    note = log.tiles.note()
    if note is None:
        return
    published = checkpoint.opened(note, log.origin, log.signer.verifier)
    if published.size > size:
        raise _refused(f"at least the {published.size} leaves of the published head", str(size))
    row = LogCheckpoint.objects.filter(size=published.size).first()
    if row is None or bytes(row.root_hash) != published.root:
        raise _refused(f"the published head at {published.size}", "another history")


def _frontier_with_tiles(log: Log, size: int) -> Frontier | None:
    """The frontier from a few tiles and at most 255 rows; None where the tiles do not reach.

    Wrong tiles do no harm: the caller compares the root with the signed one.
    """
    begin = size - size % TILE_WIDTH
    recent = LeafNodes(_leaf_hashes(begin, size))
    tiles = log.tiles
    peaks = []
    try:
        for level, index in perfect(0, size):
            at = index << level
            is_recent = at >= begin
            peaks.append(
                recent.node(level, (at - begin) >> level) if is_recent else tiles.node(level, index)
            )
    except (GovernanceError, IndexError):
        return None
    return Frontier(size, tuple(peaks))


def _leaf_hashes(begin: int, end: int) -> list[bytes]:
    rows = LogLeaf.objects.filter(seq__gte=begin, seq__lt=end).order_by("seq")
    return [bytes(found) for found in rows.values_list("leaf_hash", flat=True)]


def _entries(begin: int, end: int) -> list[bytes]:
    rows = LogLeaf.objects.filter(seq__gte=begin, seq__lt=end).order_by("seq")
    return [bytes(found) for found in rows.values_list("body", flat=True)]


def _refused(expected: str, found: str) -> LogIntegrityError:
    return LogIntegrityError(
        f"expected {expected}, found {found}; nothing was signed. Run verify_log, and if the "
        "database was restored from a backup, find what it lost before going on"
    )
