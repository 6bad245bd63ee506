"""The advisory locks of the lease protocol, and the wake-ups that make it fast.

K (`POLICY`) is held alone by whoever changes policy and shared by whoever renews a lease: between
the two there is no moment at which a runner could be granted an older policy epoch than the one
just committed. K2 (`USAGE`) does the same between a fence being set and a usage row being written,
without making answers wait for renewals (trust design, sections 2.2 and 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, StrEnum

from django.db import connection, transaction

from governance import tenancy


class Lock(IntEnum):
    """Keys of PostgreSQL advisory locks; numbers no other program on this database uses."""

    POLICY = 0x5243_4C4D_0001
    USAGE = 0x5243_4C4D_0002
    POLICY_FILE = 0x5243_4C4D_0003


class Channel(StrEnum):
    """Names for LISTEN. A wake-up is delivered at commit or not at all; polling stays the truth."""

    POLICY = "reclaim_policy"
    FOLLOW_UP = "reclaim_followup"


ACT_IDLE_MS = 5_000
"""A policy act that stalls this long between statements is ended by the server: it holds K."""


def hold_alone(lock: Lock) -> None:
    """Wait for `lock` exclusively, until the transaction ends. Taking it again is harmless."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock.value])


def hold_shared(lock: Lock) -> None:
    """Wait for `lock` shared, until the transaction ends.

    This is a statement of its own on purpose: under READ COMMITTED the statements after it read a
    database snapshot taken after the lock was granted, so they see what its last holder committed.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [lock.value])


@contextmanager
def limits(*, lock_ms: int, idle_ms: int) -> Iterator[None]:
    """Bound how long this transaction waits for locks and may idle between statements.

    Inside an outer transaction (only tests have one) the outer values come back at the end.
    """
    is_nested = len(connection.savepoint_ids) > 0
    _set_limits(f"{lock_ms}ms", f"{idle_ms}ms")
    yield
    if is_nested:
        _set_limits("0", "0")


def _set_limits(lock: str, idle: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('lock_timeout', %s, true),"
            " set_config('idle_in_transaction_session_timeout', %s, true)",
            [lock, idle],
        )


@contextmanager
def policy_act() -> Iterator[None]:
    """One transaction that may change policy.

    K comes before any row lock, in every act alike, so that two acts queue and never deadlock.

    Inside, this is the system: policy and builds are made from all owners' rows, whoever's act
    made them anew. Who may act on what was asked before, as the person who acts.
    """
    with transaction.atomic(), tenancy.as_system(), limits(lock_ms=0, idle_ms=ACT_IDLE_MS):
        hold_alone(Lock.POLICY)
        yield


def wake(channel: Channel, payload: str = "") -> None:
    """Tell listeners, when this transaction commits, that there is something to read."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel.value, payload])
