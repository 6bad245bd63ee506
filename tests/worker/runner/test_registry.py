"""What a runner does when the server it renews with is not the one it was, or not all of it."""

from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import transaction

from governance.errors import LogIntegrityError, StalePolicy
from governance.log import events, sequencer
from governance.services import leases
from governance.vocabulary import EventTag
from tests import factories
from tests.worker import policies
from worker.runner.lease import LeaseHolder
from worker.runner.registry import DatabaseRegistry
from worker.runner.seen import SeenEpoch

pytestmark = pytest.mark.django_db


@pytest.fixture
def server(monkeypatch):
    """Says which history of which server answers from now on."""

    def is_now(history):
        grant = leases._GRANT.replace(leases.HISTORY, f"'{history}'::text")
        monkeypatch.setattr(leases, "_GRANT", grant)
        monkeypatch.setattr(leases, "HISTORY", f"'{history}'::text")

    factories.snapshot(1, body=policies.snapshot(1).to_body())
    is_now("7393/00000001")
    return is_now


def registry():
    return DatabaseRegistry(uuid4(), runner="r", lease_s=10.0)


def test_a_failover_drops_the_lease_once_and_policy_is_read_anew(server):
    one = registry()
    digest = one.renew(0).digest
    assert one.renew(1).body is None
    server("7393/00000002")
    with pytest.raises(StalePolicy, match="failed over"):
        one.renew(1)
    again = one.renew(1)
    assert (again.digest, again.body["policy_epoch"]) == (digest, 1)
    assert one.renew(1).body is None


def test_a_server_that_was_left_behind_grants_nothing_for_good(server):
    one = registry()
    server("7393/0000000A")
    one.renew(0)
    server("7393/00000009")
    for _ in range(2):
        with pytest.raises(StalePolicy, match="replaced by another"):
            one.renew(1)


def test_a_server_made_from_a_dump_is_another_whatever_its_timeline(server):
    one = registry()
    one.renew(0)
    server("8000/00000001")
    with pytest.raises(StalePolicy, match="restored"):
        one.renew(1)
    assert one.renew(1).body


def test_a_holder_serves_nothing_between_the_two(server):
    held = LeaseHolder(registry(), lease_s=10.0, withdraw=lambda *_: None)
    held.renew_once()
    assert held.warrant()
    server("7393/00000002")
    held.renew_once()
    assert held.warrant() is None
    assert held.counters.alarms == 1
    held.renew_once()
    assert held.warrant()


def test_a_database_behind_the_published_log_grants_nothing(server, settings, tmp_path):
    settings.RECLAIM_HOME = tmp_path
    settings.RECLAIM_KEYS = tmp_path / "keys"
    with transaction.atomic():  # sealed and published, and then the database is put back
        events.stage(
            EventTag.EXPERT_ERASED, subject="expert:x", by=None, at=factories.NOW, details={}
        )
        sequencer.seal_now(factories.NOW)
        sequencer.publish(sequencer.configured())
        transaction.set_rollback(True)
    with pytest.raises(LogIntegrityError, match="restored from a backup"):
        registry().renew(0)


def holder(memory):
    return LeaseHolder(registry(), lease_s=10.0, withdraw=lambda *_: None, seen=memory)


def test_a_runner_that_starts_on_a_restored_past_serves_nothing_until_policy_is_past_it(
    server, tmp_path
):
    file = tmp_path / "runner.epoch"
    holder(SeenEpoch(file)).renew_once()
    assert file.read_text() == "1\n"
    file.write_text("41\n")
    held = holder(SeenEpoch(file))
    held.renew_once()
    assert held.warrant() is None
    assert held.counters.alarms == 1
    call_command("publish_policy", past=41, reason="restored", verbosity=0)
    held.renew_once()
    assert held.warrant().policy_epoch == 42
    assert SeenEpoch(file).epoch == 42


def test_what_was_seen_never_goes_down_and_an_unreadable_file_says_nothing(tmp_path):
    file = tmp_path / "runner.epoch"
    memory = SeenEpoch(file)
    for epoch in (7, 3):
        memory.note(epoch)
    assert SeenEpoch(file).epoch == 7
    file.write_text("seven")
    assert SeenEpoch(file).epoch == 0
