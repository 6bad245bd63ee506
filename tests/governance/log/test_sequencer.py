"""The sequencer: contiguous numbers, one signature a batch, nothing signed that contradicts."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest
from django.db import connection, transaction

from governance.errors import GovernanceError, LogIntegrityError
from governance.log import checkpoint, events, sequencer
from governance.log.sequencer import Log
from governance.log.tree import Frontier, leaf_hash
from governance.log.verify import verify
from governance.models import LogCheckpoint, LogLeaf, StagedEvent
from governance.vocabulary import EventTag
from tests.factories import NOW
from tests.governance.log.conftest import as_intruder, body_of, numbers_in, signer_of, stage


@pytest.mark.django_db
def test_sealing_nothing_signs_nothing(log):
    assert sequencer.seal(NOW, log=log) is None
    assert not LogCheckpoint.objects.exists()


@pytest.mark.django_db
def test_staged_events_become_leaves_in_order_under_one_head(log):
    for number in range(7):
        stage(number)
    batch = sequencer.seal(NOW, log=log)
    assert (batch.first, batch.size) == (0, 7)
    leaves = list(LogLeaf.objects.all())
    assert [leaf.seq for leaf in leaves] == numbers_in(leaves) == list(range(7))
    assert not StagedEvent.objects.exists()
    head = checkpoint.opened(batch.note, log.origin, log.signer.verifier)
    assert head.root == Frontier().extended(leaf_hash(body_of(n)) for n in range(7)).root()


@pytest.mark.django_db
def test_the_leaf_is_the_staged_bytes_untouched(log):
    stage(1)
    staged = bytes(StagedEvent.objects.get().body)
    sequencer.seal(NOW, log=log)
    assert bytes(LogLeaf.objects.get().body) == staged


@pytest.mark.django_db
def test_a_backlog_is_sealed_batch_by_batch(log, monkeypatch):
    monkeypatch.setattr(sequencer, "BATCH", 4)
    for number in range(10):
        stage(number)
    assert sequencer.seal_now(NOW, log=log) == 10
    assert [head.size for head in LogCheckpoint.objects.order_by("size")] == [4, 8, 10]


@pytest.mark.django_db
@pytest.mark.parametrize("files", [True, False])
def test_each_head_extends_the_one_before_with_and_without_tiles(log, files):
    hashes = []
    for number in range(0, 600, 75):
        for inner in range(number, number + 75):
            stage(inner)
            hashes.append(leaf_hash(body_of(inner)))
        batch = sequencer.seal(NOW, log=log)
        assert batch.root == Frontier().extended(hashes).root()
        if files:
            sequencer.publish(log)


@pytest.mark.django_db(transaction=True)
def test_files_follow_the_commit(log):
    stage(1)
    sequencer.seal(NOW, log=log)
    assert log.tiles.size() == 1

    def act():
        with transaction.atomic():
            events.stage(EventTag.LICENCE_ENDED, subject="x", by=None, at=NOW, details={})
            sequencer.seal(NOW, log=log)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        act()
    assert log.tiles.size() == LogLeaf.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_act_that_seals_itself_gets_its_place_or_nothing(log):
    with transaction.atomic():
        stage(1)
        batch = sequencer.seal(NOW, log=log)
    assert batch.size == 1
    assert verify(log.origin, log.signer.verifier, log.tiles).is_sound


@pytest.mark.django_db
class TestRefusals:
    def refuse(self, log, match):
        before = (LogLeaf.objects.count(), LogCheckpoint.objects.count())
        stage(99)
        with pytest.raises(GovernanceError, match=match), transaction.atomic():
            sequencer.seal(NOW, log=log)
        assert (LogLeaf.objects.count(), LogCheckpoint.objects.count()) == before
        assert StagedEvent.objects.count() == 1

    @pytest.fixture(autouse=True)
    def ten(self, log):
        for number in range(10):
            stage(number)
            sequencer.seal(NOW, log=log)
        sequencer.publish(log)

    def test_a_tree_smaller_than_the_last_signed_row(self, log):
        with as_intruder() as cursor:
            cursor.execute("DELETE FROM governance_logleaf WHERE seq = 9")
        self.refuse(log, "expected 10 leaves as signed, found 9")

    def test_a_database_behind_the_published_head(self, log):
        with as_intruder() as cursor:
            cursor.execute("DELETE FROM governance_logleaf WHERE seq >= 8")
            cursor.execute("DELETE FROM governance_logcheckpoint WHERE size > 8")
        self.refuse(log, "at least the 10 leaves of the published head, found 8")

    def test_a_leaf_that_was_changed_under_a_signed_head(self, log):
        with as_intruder() as cursor:
            cursor.execute(
                "UPDATE governance_logleaf SET leaf_hash = %s WHERE seq = 4", [b"\1" * 32]
            )
        self.refuse(log, "the leaves that were signed")

    def test_a_head_that_says_something_else_than_its_row(self, log):
        with as_intruder() as cursor:
            cursor.execute(
                "UPDATE governance_logcheckpoint SET root_hash = %s WHERE size = 10", [b"\1" * 32]
            )
        self.refuse(log, "another history")
        (log.folder / "checkpoint").unlink()
        with pytest.raises(LogIntegrityError, match="found one that says something else"):
            sequencer.seal(NOW, log=log)

    def test_a_head_of_another_key(self, log):
        self.refuse(Log(log.origin, signer_of(2), log.folder), "expected a signature by")
        (log.folder / "checkpoint").unlink()
        with pytest.raises(LogIntegrityError, match="signed by this log's key"):
            sequencer.seal(NOW, log=Log(log.origin, signer_of(2), log.folder))

    def test_a_published_head_of_another_history(self, log):
        head = checkpoint.Checkpoint(log.origin, 10, b"\1" * 32)
        (log.folder / "checkpoint").write_text(checkpoint.sign(head, log.signer))
        self.refuse(log, "another history")

    def test_wrong_tiles_do_not_mislead_the_sequencer(self, log):
        for number in range(300):
            stage(number)
        sequencer.seal(NOW, log=log)
        sequencer.publish(log)
        (log.folder / "tile/1/000.p/1").write_bytes(b"\1" * 32)
        stage(300)
        batch = sequencer.seal(NOW, log=log)
        hashes = [bytes(leaf.leaf_hash) for leaf in LogLeaf.objects.all()]
        assert batch.root == Frontier().extended(hashes).root()


def write_twenty(writer: int, start: threading.Barrier) -> None:
    """Every fifth act is rolled back, which must leave no gap."""
    start.wait()
    for number in range(20):
        with suppress(InterruptedError), transaction.atomic():
            stage(writer * 1_000 + number)
            if number % 5 == 4:
                raise InterruptedError
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_eight_writers_and_two_sequencers_lose_nothing_and_leave_no_gap(log):
    start, stopped = threading.Barrier(10), threading.Event()
    failures: list[Exception] = []

    def seal() -> None:
        start.wait()
        try:
            while not stopped.is_set():
                sequencer.seal(NOW, log=log)
        except LogIntegrityError as error:
            failures.append(error)
        connection.close()

    sealers = [threading.Thread(target=seal) for _ in range(2)]
    writers = [threading.Thread(target=write_twenty, args=(writer, start)) for writer in range(8)]
    for thread in (*sealers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stopped.set()
    for thread in sealers:
        thread.join()
    sequencer.seal_now(NOW, log=log)
    assert not failures
    leaves = list(LogLeaf.objects.all())
    assert [leaf.seq for leaf in leaves] == list(range(128))
    expected = {w * 1_000 + n for w in range(8) for n in range(20) if n % 5 != 4}
    assert set(numbers_in(leaves)) == expected
    assert verify(log.origin, log.signer.verifier, log.tiles).is_sound


def test_the_configured_log_is_this_installations(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(sequencer, "FOLDER", "log-tiles")  # as it is outside tests
    settings.RECLAIM_HOME, settings.RECLAIM_KEYS = tmp_path, tmp_path / "keys"
    settings.RECLAIM_LOG_ORIGIN = "reclaim.example/log"
    log = sequencer.configured()
    assert log.folder == tmp_path / "log-tiles"
    assert sequencer.configured().signer.key_id == log.signer.key_id


def test_an_event_body_is_json_with_its_version():
    assert json.loads(body_of(1))["version"] == 1
