"""A log of the test's own: its key, its folder, and rows that can be tampered with."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection, transaction

from governance.canonical import Signer
from governance.log import events, sequencer
from governance.log.sequencer import Log
from governance.log.verify import verify
from governance.vocabulary import EventTag
from tests.factories import NOW


def signer_of(number: int) -> Signer:
    """The same key for the same number, in every run."""
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


@pytest.fixture
def log(tmp_path) -> Log:
    return Log("reclaim.example/log", signer_of(1), tmp_path / "log-tiles")


@contextmanager
def as_intruder(*tables: str):
    """Write to append-only tables, as someone with the database's own password could."""
    tables = tables or ("governance_logleaf", "governance_logcheckpoint")
    with connection.cursor() as cursor:
        _switch_triggers(cursor, tables, "DISABLE")
        try:
            yield cursor
        finally:
            _switch_triggers(cursor, tables, "ENABLE")


def _switch_triggers(cursor, tables, how: str) -> None:
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # checks still pending would forbid it
    for table in tables:
        cursor.execute(f"ALTER TABLE {table} {how} TRIGGER USER")


def stage(number: int, tag: EventTag = EventTag.LICENCE_APPROVED) -> None:
    with transaction.atomic():
        events.stage(tag, subject=f"licence:{number}", by=None, at=NOW, details={"n": number})


@pytest.fixture
def written(log):
    """A log of `sealed(n, batches)` events; also `check()` and the intruder's `tamper`."""

    def sealed(count: int, every: int = 5) -> None:
        for number in range(count):
            stage(number)
            if number % every == every - 1:
                seal()
        seal()

    def seal() -> None:
        sequencer.seal_now(NOW, log=log)
        sequencer.publish(log)  # the test's transaction never commits, so say it here

    def check():
        return verify(log.origin, log.signer.verifier, log.tiles)

    def found():
        return {(problem.trouble.value, problem.seq) for problem in check().problems}

    return SimpleNamespace(sealed=sealed, seal=seal, check=check, found=found, log=log)


def body_of(number: int) -> bytes:
    return events.event_body(
        EventTag.LICENCE_APPROVED,
        subject=f"licence:{number}",
        by=None,
        at=NOW,
        details={"n": number},
    )


def numbers_in(rows) -> list[int]:
    return [json.loads(bytes(row.body))["details"]["n"] for row in rows]
