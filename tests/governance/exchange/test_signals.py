"""Reservations as they are found: TDMRep in its three places, AIPREF, robots.txt, ai.txt."""

import json

import pytest

from governance.errors import InvalidTerms
from governance.exchange import Direction, load, signals
from governance.exchange.source_licences import limits_of
from governance.vocabulary import SignalKind

RESERVED = [
    {"location": "/letters/", "tdm-reservation": 1, "tdm-policy": "https://birch.example/p"}
]
TDMREP = {
    "file": (json.dumps(RESERVED).encode(), True),
    "one object": (b'{"location": "/", "tdm-reservation": 0}', False),
    "one of two": (b'[{"tdm-reservation": 0}, {"tdm-reservation": 1}]', True),
    "headers": (b"HTTP/1.1 200 OK\r\ntdm-reservation: 1\r\ntdm-policy: https://b.example/p", True),
    "header of zero": (b"TDM-Reservation: 0\n", False),
    "headers that differ": (b"tdm-reservation: 0\ntdm-reservation: 1\n", True),
    "page": (b'<html><meta name="tdm-reservation" content="1"><p>x</html>', True),
    "a value nobody defined": (b'{"tdm-reservation": "maybe"}', True),
}


@pytest.mark.parametrize("name", sorted(TDMREP))
def test_tdmrep_is_read_wherever_it_stands(name):
    raw, reserves = TDMREP[name]
    assert signals.read(SignalKind.TDMREP, raw).reserves is reserves


def test_a_reservation_forbids_training_and_names_its_policy():
    found = load("tdmrep", json.dumps(RESERVED).encode())
    assert found.terms_fields["prohibited_uses"] == ["train"]
    assert ("policy", "https://birch.example/p") in {(e.term, e.value) for e in found.losses}


def test_no_reservation_is_no_licence():
    found = load("tdmrep", b'{"tdm-reservation": 0}')
    assert found.terms_fields["uses"] == []
    assert [loss.direction for loss in found.losses] == [Direction.REFUSED]


AIPREF = {
    b"train-ai=n": True,
    b"Content-Usage: train-ai=y, search=n": False,
    b"Content-Usage: search=y": None,
    b"content-usage: train-ai=n;ver=1": True,
    b"train-ai=maybe": None,
    b'train-ai="n"': None,
    b"train-ai=?0": None,
    b"Content-Usage: train-ai=y\nContent-Usage: train-ai=n": True,
    b"User-Agent: *\nContent-Usage: train-ai=y\nContent-Usage: /letters/ train-ai=n": True,
    b"train-ai=n, train-ai=y": False,
}


@pytest.mark.parametrize("raw", sorted(AIPREF))
def test_a_preference_is_read_as_the_draft_says(raw):
    assert signals.read(SignalKind.AIPREF, raw).reserves is AIPREF[raw]


def test_a_preference_is_no_licence_and_said_to_be_a_draft():
    found = load("aipref", b"train-ai=y")
    assert found.terms_fields["uses"] == []
    assert {"uses", "status"} == {loss.term for loss in found.losses}
    assert load("aipref", b"train-ai=n").terms_fields["prohibited_uses"] == [
        "distil", "fine_tune", "train", "tune_router",
    ]  # fmt: skip


ROBOTS = {
    "open": (b"User-agent: *\nDisallow:\n", None),
    "closed to all": (b"User-agent: *\nDisallow: /\n", True),
    "closed to a trainer": (b"User-agent: GPTBot\nUser-agent: CCBot\nDisallow: /\n", True),
    "closed to a searcher": (b"User-agent: Googlebot\nDisallow: /\n", None),
    "closed in part": (b"User-agent: *\nDisallow: /letters/\n", None),
    "closed and opened": (b"User-agent: GPTBot\nDisallow: /\nAllow: /\n", None),
    "a preference goes before": (b"User-agent: *\nDisallow: /\nContent-Usage: train-ai=y", False),
    "the group ends": (b"User-agent: GPTBot\nAllow: /a\nUser-agent: x\nDisallow: /\n", None),
}


@pytest.mark.parametrize("name", sorted(ROBOTS))
@pytest.mark.parametrize("kind", [SignalKind.ROBOTS, SignalKind.AI_TXT])
def test_a_site_closed_to_those_who_gather_text_counts_as_reserved(kind, name):
    raw, reserves = ROBOTS[name]
    assert signals.read(kind, raw).reserves is reserves


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (SignalKind.TDMREP, b"nothing here"),
        (SignalKind.TDMREP, b"[not json"),
        (SignalKind.AIPREF, b"hello"),
        (SignalKind.AIPREF, b"Content-Usage: train-ai=(("),
        (SignalKind.ROBOTS, b"hello"),
        (SignalKind.RSL, b"<html/>"),
        (SignalKind.ROBOTS, b"\xff"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(kind, raw):
    with pytest.raises(InvalidTerms, match="expected"):
        signals.read(kind, raw)


@pytest.mark.parametrize(
    ("licence", "is_read", "is_public"),
    [("own", True, False), ("CC-BY-4.0", True, True), ("Deed of 1911", False, False)],
)
def test_licences_of_sources_are_read_or_named_unread(licence, is_read, is_public):
    found = limits_of(licence)
    assert (found.is_read, found.is_public) == (is_read, is_public)
