"""Staging: in the act's own transaction, canonical, without control characters."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import transaction

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, StagedEvent
from governance.vocabulary import EventTag, Purpose
from tests.factories import NOW

TAG = EventTag.CONSENT_WITHDRAWN


@pytest.mark.django_db(transaction=True)
def test_an_event_outside_a_transaction_is_refused():
    with pytest.raises(RuntimeError, match="open transaction"):
        events.stage(TAG, subject="expert:1", by=None, at=NOW, details={})


@pytest.mark.django_db(transaction=True)
def test_an_event_vanishes_with_the_act_that_is_rolled_back():
    def act():
        with transaction.atomic():
            events.stage(TAG, subject="expert:1", by=None, at=NOW, details={})
            raise InterruptedError

    with pytest.raises(InterruptedError):
        act()
    assert not StagedEvent.objects.exists()


@pytest.mark.django_db
def test_a_staged_event_is_the_canonical_body_of_what_happened():
    events.stage(TAG, subject="expert:1", by=None, at=NOW, details={"reason": "new owner"})
    staged = StagedEvent.objects.get()
    assert bytes(staged.body) == (
        b'{"at":"2027-03-01T12:00:00+00:00","by":"system","details":{"reason":"new owner"},'
        b'"subject":"expert:1","tag":"consent.withdrawn","version":1}'
    )
    assert staged.staged_at == NOW


def test_the_actor_is_named_by_number_never_by_address():
    body = events.event_body(
        TAG, subject="expert:1", by=Account(pk=7, email="cato@reclaim.example"), at=NOW, details={}
    )
    assert json.loads(body)["by"] == "account:7"
    assert b"cato" not in body


def test_control_characters_cannot_forge_a_line():
    forged = "ok\nINFO log is sound\r\u202e\u2028\x00"
    body = events.event_body(TAG, subject="a\nb", by=None, at=NOW, details={"why": [forged]})
    said = json.loads(body)
    assert said["subject"] == "a b"
    assert said["details"]["why"] == ["ok INFO log is sound    "]


def test_values_of_governance_are_written_plainly():
    details = {
        "id": UUID(int=1),
        "rate": Decimal("1.50"),
        "at": NOW,
        "purposes": frozenset({Purpose.RESEARCH, Purpose.EDUCATION}),
    }
    said = json.loads(events.event_body(TAG, subject="x", by=None, at=NOW, details=details))
    assert said["details"] == {
        "id": "00000000-0000-0000-0000-000000000001",
        "rate": "1.50",
        "at": "2027-03-01T12:00:00+00:00",
        "purposes": ["education", "research"],
    }


def test_an_instant_without_offset_is_refused():
    with pytest.raises(ValueError, match="offset"):
        events.event_body(TAG, subject="x", by=None, at=datetime(2027, 1, 1), details={})  # noqa: DTZ001


@pytest.mark.django_db
def test_an_event_longer_than_a_leaf_is_refused():
    with pytest.raises(InvalidTerms, match="by digest"):
        events.stage(TAG, subject="x", by=None, at=NOW, details={"text": "a" * 65_536})
