"""What one incarnation does when the server it renews with is not the one it was."""

from uuid import uuid4

import pytest

from governance.errors import StalePolicy
from governance.services import leases
from tests import factories
from tests.worker import policies
from worker.runner.lease import LeaseHolder
from worker.runner.registry import DatabaseRegistry

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
