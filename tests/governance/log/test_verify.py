"""Every way of tampering with the log is found, and the event that was touched is named."""

from __future__ import annotations

import hashlib
import json

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from governance.log import checkpoint, sequencer
from governance.log.checkpoint import Checkpoint
from governance.log.comparison import differences
from governance.log.tree import Frontier, LeafNodes, leaf_hash
from governance.models import LogCheckpoint, LogLeaf
from tests.governance.log.conftest import as_intruder, body_of, signer_of, stage

pytestmark = pytest.mark.django_db


def rewrite(seq: int, body: bytes, *, with_hash: bool = True) -> None:
    with as_intruder() as cursor:
        if with_hash:
            cursor.execute(
                "UPDATE governance_logleaf SET body = %s, leaf_hash = %s WHERE seq = %s",
                [body, leaf_hash(body), seq],
            )
        else:
            cursor.execute("UPDATE governance_logleaf SET body = %s WHERE seq = %s", [body, seq])


def remove(seq: int, *, close_gap: bool) -> None:
    with as_intruder() as cursor:
        cursor.execute("DELETE FROM governance_logleaf WHERE seq = %s", [seq])
        if close_gap:
            for later in range(seq + 1, LogLeaf.objects.last().seq + 1):
                cursor.execute(
                    "UPDATE governance_logleaf SET seq = %s WHERE seq = %s", [later - 1, later]
                )


def insert(seq: int, body: bytes) -> None:
    with as_intruder() as cursor:
        for later in range(LogLeaf.objects.last().seq, seq - 1, -1):
            cursor.execute(
                "UPDATE governance_logleaf SET seq = %s WHERE seq = %s", [later + 1, later]
            )
    first = LogLeaf.objects.first()
    LogLeaf.objects.create(seq=seq, body=body, leaf_hash=leaf_hash(body), staged_at=first.staged_at)


def swap(one: int, other: int) -> None:
    bodies = {seq: bytes(LogLeaf.objects.get(seq=seq).body) for seq in (one, other)}
    rewrite(one, bodies[other])
    rewrite(other, bodies[one])


def cut(size: int, *, heads: bool) -> None:
    with as_intruder() as cursor:
        cursor.execute("DELETE FROM governance_logleaf WHERE seq >= %s", [size])
        if heads:
            cursor.execute("DELETE FROM governance_logcheckpoint WHERE size > %s", [size])


def test_an_untouched_log_is_sound(written):
    written.sealed(17)
    report = written.check()
    assert report.is_sound
    assert (report.size, report.heads, report.waiting) == (17, 4, 0)
    hashes = [leaf_hash(body_of(number)) for number in range(17)]
    assert report.root == Frontier().extended(hashes).root().hex()


def test_an_empty_log_is_sound(written):
    assert written.check().is_sound


@pytest.mark.parametrize("seq", [0, 4, 7, 16])
@pytest.mark.parametrize("with_hash", [True, False])
def test_an_edited_event_is_named(written, seq, with_hash):
    written.sealed(17)
    rewrite(seq, body_of(99), with_hash=with_hash)
    assert written.found() == {("edited", seq)}


def test_an_edited_hash_beside_an_event_is_named(written):
    written.sealed(9)
    with as_intruder() as cursor:
        cursor.execute("UPDATE governance_logleaf SET leaf_hash = %s WHERE seq = 3", [b"\0" * 32])
    assert written.found() == {("edited", 3)}


@pytest.mark.parametrize("close_gap", [True, False])
def test_a_removed_event_is_named(written, close_gap):
    written.sealed(12)
    remove(6, close_gap=close_gap)
    assert ("removed", 6) in written.found()
    assert {trouble for trouble, _ in written.found()} <= {"removed", "truncated"}


def test_an_inserted_event_is_named(written):
    written.sealed(12)
    insert(6, body_of(99))
    assert written.found() == {("inserted", 6)}


def test_an_event_added_at_the_end_without_a_head_is_named(written):
    written.sealed(12)
    insert(12, body_of(99))
    assert written.found() == {("inserted", 12)}


def test_swapped_events_are_named(written):
    written.sealed(12)
    swap(2, 9)
    assert written.found() == {("swapped", 2), ("swapped", 9)}


def test_neighbours_swapped_are_named(written):
    written.sealed(12)
    swap(4, 5)
    assert written.found() == {("swapped", 4), ("swapped", 5)}


@pytest.mark.parametrize("heads", [True, False])
def test_a_log_cut_off_at_a_signed_head_is_found(written, heads):
    written.sealed(15)
    cut(10, heads=heads)
    assert ("truncated", 10) in written.found()


def test_a_head_signed_with_another_key_is_found(written):
    written.sealed(10)
    head = LogCheckpoint.objects.get(size=10)
    forged = checkpoint.sign(
        Checkpoint(written.log.origin, 10, bytes(head.root_hash)), signer_of(2)
    )
    with as_intruder() as cursor:
        cursor.execute("UPDATE governance_logcheckpoint SET note = %s WHERE size = 10", [forged])
    assert ("head", None) in written.found()


def test_a_whole_history_signed_again_with_another_key_is_found(written):
    written.sealed(10)
    rewrite(3, body_of(99))
    hashes = [bytes(leaf.leaf_hash) for leaf in LogLeaf.objects.all()]
    for head in LogCheckpoint.objects.all():
        root = Frontier.of(LeafNodes(hashes), head.size).root()
        note = checkpoint.sign(Checkpoint(written.log.origin, head.size, root), signer_of(2))
        with as_intruder() as cursor:
            cursor.execute(
                "UPDATE governance_logcheckpoint SET note = %s, root_hash = %s WHERE size = %s",
                [note, root, head.size],
            )
    assert {("edited", 3), ("head", None)} <= written.found()


def test_without_files_a_rewritten_event_is_narrowed_to_its_head(written):
    from governance.log.verify import verify

    written.sealed(15)
    rewrite(7, body_of(99))
    report = verify(written.log.origin, written.log.signer.verifier)
    assert not report.is_sound
    assert "events 5 to 9" in report.problems[0].message


def test_without_files_edits_gaps_and_cuts_are_named_from_the_rows(written):
    from governance.log.verify import verify

    written.sealed(15)
    rewrite(3, body_of(99), with_hash=False)
    remove(6, close_gap=False)
    cut(13, heads=False)
    report = verify(written.log.origin, written.log.signer.verifier)
    assert {(problem.trouble.value, problem.seq) for problem in report.problems} == {
        ("edited", 3),
        ("removed", 6),
        ("truncated", 13),
    }


@pytest.mark.parametrize("path", ["tile/0/000.p/12", "tile/entries/000.p/12", "checkpoint"])
def test_a_changed_file_is_found(written, path):
    written.sealed(12)
    file = written.log.folder / path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    assert {trouble for trouble, _ in written.found()} == {"files"}


def test_a_changed_upper_tile_is_found(written):
    written.sealed(300, every=300)
    file = written.log.folder / "tile/1/000.p/1"
    file.write_bytes(hashlib.sha256(file.read_bytes()).digest())
    assert {trouble for trouble, _ in written.found()} == {"files"}


@given(st.data())
def test_the_comparison_names_one_tampering_exactly(data):
    size = data.draw(st.integers(2, 40))
    was = [leaf_hash(bytes([number])) for number in range(size)]
    now = list(was)
    kind = data.draw(st.sampled_from(["edited", "removed", "inserted", "swapped"]))
    at = data.draw(st.integers(0, size - 2))
    if kind == "edited":
        now[at] = leaf_hash(b"other")
    elif kind == "removed":
        del now[at]
    elif kind == "inserted":
        now.insert(at, leaf_hash(b"other"))
    else:
        other = data.draw(st.integers(at + 1, size - 1))
        now[at], now[other] = now[other], now[at]
    found = differences(dict(enumerate(now)), was)
    assert {problem.trouble.value for problem in found} == {kind}
    assert found[0].seq == at


def test_the_command_prints_the_report_and_fails_on_a_tampered_log(written, settings, capsys):
    settings.RECLAIM_HOME = written.log.folder.parent
    settings.RECLAIM_KEYS = written.log.folder.parent / "keys"
    settings.RECLAIM_LOG_ORIGIN = "reclaim.example/log"
    stage(1)
    stage(2)
    call_command("seal_log")
    assert "2 events sealed" in capsys.readouterr().out
    call_command("verify_log", "--json")
    assert json.loads(capsys.readouterr().out)["sound"] is True
    rewrite(1, body_of(99))
    with pytest.raises(CommandError) as raised:
        call_command("verify_log")
    assert raised.value.returncode == 1
    assert "EDITED event 1" in capsys.readouterr().out
    assert sequencer.configured().tiles.size() == 2
