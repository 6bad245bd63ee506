"""What a consent record must say, the receipt somebody else can check, and its linked data."""

import copy
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import ProgrammingError, connection, transaction
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from governance.canonical import Signer, canonical_json, seal
from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.models import ConsentReceipt, StagedEvent
from governance.services import activities, consent, owners
from governance.services.consent import dpv
from governance.services.consent.receipts import PAYLOAD_TYPE
from governance.verifier import reclaim_verify
from governance.vocabulary import (
    ConsentEventKind,
    ConsentType,
    LawfulBasis,
    OwnerRole,
    OwnerStatus,
    Use,
)
from tests import cast as story
from tests import factories

pytestmark = pytest.mark.django_db
SIGNER = Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def cast():
    told = story.meet()
    story.grant(told, "code")
    return told


@pytest.fixture
def record(cast):
    return cast.experts["code"].consents.get()


WHOLE = {
    "schema_version": "ISO/IEC TS 27560:2023",
    "record_id": "1",
    "pii_principal_id": "alder",
    "controller": "Operator",
    "notice": {"version": "v1", "url": "https://x/", "digest": "0" * 64, "language": "en"},
    "purposes": ["research"],
    "lawful_basis": "contract",
    "data_categories": ["corpus_text"],
    "storage_locations": ["NL"],
    "retention_period": "until withdrawn",
    "jurisdiction": "NL",
    "recipients": [{"party_id": "consumer:dara"}],
    "withdrawal_method": "https://x/",
    "parties": [
        {
            "party_id": "controller",
            "party_name": "Operator",
            "party_type": "organisation",
            "party_role": "controller",
            "party_address": "1 Street",
            "party_contact": "a@b.example",
        }
    ],
    "events": [
        {
            "at": "2027-03-01T12:00:00+00:00",
            "kind": "given",
            "consent_type": "explicit",
            "entity": "owner:alder",
            "validity_duration": "P30D",
        }
    ],
}


def paths(value, prefix=()):
    """Every leaf of a document."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*prefix, name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*prefix, place))
    else:
        yield prefix


def without(document, path):
    """The document with one leaf blank."""
    found = copy.deepcopy(document)
    at = found
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = ""
    return found


def test_a_whole_record_has_no_fault():
    assert consent.faults(WHOLE) == ()


@pytest.mark.parametrize("path", list(paths(WHOLE)), ids=str)
def test_each_missing_field_is_named(path):
    faults = consent.faults(without(WHOLE, path))
    assert faults, "a mandatory field may not be blank"
    field = path[0]
    assert any(str(field) in fault.field for fault in faults)
    assert all(fault.expected and fault.found and fault.to_do for fault in faults)


@pytest.mark.parametrize("name", ["parties", "events", "recipients", "purposes", "notice"])
@pytest.mark.parametrize("wrong", [None, [], {}, "text", [1], 7])
def test_what_is_no_list_of_objects_is_a_fault_and_no_crash(name, wrong):
    assert any(fault.field.startswith(name) for fault in consent.faults({**WHOLE, name: wrong}))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*WHOLE, "at", "kind"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
@limits(max_examples=150)
def test_no_document_breaks_the_validator(value):
    faults = consent.faults(value if isinstance(value, dict) else {"events": value})
    assert faults


def test_a_consent_given_through_the_services_says_all_it_must(record):
    body = consent.receipt(record)
    assert consent.faults(body) == ()
    assert body["notice"]["text"].startswith("Code texts of Alder Press. May train an expert.")
    assert body["events"][0]["entity"] == "owner:alder-press"
    assert record.record_digest == consent.digest_of(record)


def test_records_of_an_owner_are_chained(cast):
    story.grant(cast, "news")
    first = cast.experts["code"].consents.get()
    second = cast.experts["news"].consents.get()
    assert second.previous_digest == first.record_digest
    assert first.previous_digest == ""


def test_a_touched_record_no_longer_matches_its_digest(record):
    record.retention_period = "for ever"
    assert consent.digest_of(record) != record.record_digest


def test_a_receipt_is_the_same_bytes_until_something_happens(cast, record):
    first = consent.issue(record, signer=SIGNER, at=cast.later())
    assert consent.issue(record, signer=SIGNER, at=cast.later()) == first
    story.withdraw(cast, "code")
    second = consent.issue(record, signer=SIGNER, at=cast.later())
    assert second != first
    assert consent.check(second.envelope.encode(), verifiers=[SIGNER.verifier]).body["state"] == (
        "withdrawn"
    )
    assert ConsentReceipt.objects.count() == 2


def test_a_receipt_is_checked_here_and_by_the_stand_alone_verifier(cast, record, tmp_path, capsys):
    issued = consent.issue(record, signer=SIGNER, at=cast.later())
    checked = consent.check(issued.envelope.encode(), verifiers=[SIGNER.verifier])
    assert (checked.is_sound, checked.why, checked.key_id) == (True, (), SIGNER.key_id)
    file = tmp_path / "receipt.json"
    file.write_text(issued.envelope)
    pinned = ["--certificate-key", SIGNER.key_id]
    assert reclaim_verify.main([str(file), *pinned]) == 0
    assert "everything holds" in capsys.readouterr().out
    assert reclaim_verify.main([str(file), "--certificate-key", "0" * 64]) == 1


def forged(envelope):
    """Ways a receipt may be tampered with."""
    told = json.loads(envelope)
    yield "payload", {**told, "payload": told["payload"][:-8] + "AAAAAAA="}
    yield "type", {**told, "payloadType": "application/json"}
    yield "nobody", {**told, "signatures": []}
    yield "signature", {**told, "signatures": [{**told["signatures"][0], "sig": "AAAA"}]}


@pytest.mark.parametrize("way", ["payload", "type", "nobody", "signature"])
def test_a_forged_receipt_is_refused_by_both(cast, record, tmp_path, way):
    issued = consent.issue(record, signer=SIGNER, at=cast.later())
    bad = canonical_json(dict(forged(issued.envelope))[way])
    checked = consent.check(bad, verifiers=[SIGNER.verifier])
    assert not checked.is_sound
    assert checked.why
    assert checked.body == {}
    file = tmp_path / "receipt.json"
    file.write_bytes(bad)
    assert reclaim_verify.main([str(file)]) == 1


def test_a_receipt_by_another_key_is_refused(cast, record):
    issued = consent.issue(record, signer=SIGNER, at=cast.later())
    stranger = Signer(Ed25519PrivateKey.generate())
    assert not consent.check(issued.envelope.encode(), verifiers=[stranger.verifier]).is_sound
    assert not consent.check(issued.envelope.encode(), verifiers=[]).is_sound


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff\xfe", b"null", b'{"payload": 1}', b"[" * 100_000]
)
def test_nonsense_is_refused_with_words(content):
    checked = consent.check(content, verifiers=[SIGNER.verifier])
    assert checked.why
    assert not checked.is_sound


def test_a_signed_text_that_is_no_receipt_is_refused():
    envelope = canonical_json(seal(PAYLOAD_TYPE, b'{"_type":"other"}', [SIGNER]))
    assert not consent.check(envelope, verifiers=[SIGNER.verifier]).is_sound


def test_the_export_speaks_dpv_and_keeps_our_words(record):
    document = dpv.export(consent.receipt(record))
    assert document["@type"] == "dpv:ConsentRecord"
    assert document["dpv:hasConsentStatus"] == {"@id": "dpv:ConsentGiven"}
    process = document["dpv:hasProcess"]
    assert process["dpv:hasPurpose"] == [
        {"@type": "dpv:ResearchAndDevelopment", "dct:identifier": "research"}
    ]
    used = {
        word.split(":")[0]
        for word in json.dumps(document).replace('"', " ").split()
        if word.startswith(("dpv:", "dct:", "loc:", "eu-gdpr:", "reclaim:", "xsd:"))
    }
    assert used <= set(document["@context"])


@pytest.mark.parametrize("kind", list(ConsentEventKind))
@pytest.mark.parametrize("consent_type", list(ConsentType))
@pytest.mark.parametrize("basis", list(LawfulBasis))
def test_every_word_of_ours_has_a_term(record, kind, consent_type, basis):
    body = consent.receipt(record)
    event = {**body["events"][0], "kind": kind.value, "consent_type": consent_type.value}
    told = {**body, "state": kind.value, "lawful_basis": basis.value, "events": [event]}
    exported = dpv.export(told)
    assert exported["dpv:hasConsentStatus"]["@id"].startswith("dpv:")
    assert exported["dpv:hasProcess"]["dpv:hasLegalBasis"]["dct:identifier"] == basis.value


def test_only_given_and_renewed_permit_use():
    permitting = {kind for kind in ConsentEventKind if kind.permits_use}
    assert permitting == {ConsentEventKind.GIVEN, ConsentEventKind.RENEWED}


def asked(cast, name="news"):
    """An expert whose consent was asked for and not given yet."""
    licence = factories.licence(
        corpus=factories.corpus(owner=cast.alder), requested_by=cast.cato, ends_at=None
    )
    expert = factories.expert(name=name, corpus=licence.corpus, state="proposed")
    told = {"licence": licence, "method": "owner page"}
    consent.ask(expert, by=cast.cato, at=cast.later(), **told)
    return expert, told


def test_asking_permits_nothing_and_giving_answers_it(cast):
    expert, told = asked(cast)
    assert not consent.standing(expert).exists()
    consent.ask(expert, by=cast.cato, at=cast.later(), **told)
    record = consent.give(expert, by=cast.ada, at=cast.later(), **told)
    assert [event.kind for event in record.events.all()] == ["requested", "given"]
    assert consent.standing(expert).get() == record


def test_a_refusal_stands_and_a_later_yes_is_a_new_record(cast):
    expert, told = asked(cast)
    refused = consent.refuse(expert, by=cast.ada, at=cast.later(), reason="no", **told)
    assert consent.refuse(expert, by=cast.ada, at=cast.later(), **told) == refused
    assert not consent.standing(expert).exists()
    given_ = consent.give(expert, by=cast.ada, at=cast.later(), **told)
    assert given_ != refused
    with pytest.raises(UnlawfulMove, match="withdraw"):
        consent.refuse(*asked(cast, "other")[:1], by=cast.ada, at=cast.later(), **told)


def test_silence_is_no_consent(cast):
    expert, told = asked(cast)
    with pytest.raises(InvalidTerms, match="implied"):
        consent.give(expert, by=cast.ada, at=cast.later(), consent_type=ConsentType.IMPLIED, **told)


def test_consent_is_valid_as_long_as_its_licence(cast):
    told = cast.at + timedelta(days=30)
    expert = story.grant(cast, "short", ends_at=told)
    event = expert.consents.get().events.get()
    assert event.valid_until == told
    assert consent.standing(expert, at=told - timedelta(seconds=1)).exists()
    assert not consent.standing(expert, at=told).exists()


def test_a_viewer_withdraws_but_does_not_consent(cast):
    expert, told = asked(cast)
    viewer = factories.account("Vera", role="owner", owner=cast.alder, owner_role=OwnerRole.VIEWER)
    with pytest.raises(NotPermitted, match="administrator or signatory"):
        consent.give(expert, by=viewer, at=cast.later(), **told)
    withdrawn = consent.withdraw(
        cast.experts["code"], by=viewer, at=cast.later(), method="owner page"
    )
    assert withdrawn.expert == cast.experts["code"]


@pytest.mark.parametrize("status", [OwnerStatus.SUSPENDED])
def test_a_suspended_owner_signs_nothing_new(cast, status):
    expert, told = asked(cast)
    owners.move(cast.alder, to=status, by=cast.cato, at=cast.later())
    with pytest.raises(UnlawfulMove, match="deals with us"):
        consent.give(expert, by=cast.ada, at=cast.later(), **told)


def test_a_receipt_row_is_never_rewritten(cast, record):
    consent.issue(record, signer=SIGNER, at=cast.later())
    with (
        pytest.raises(ProgrammingError, match="Cannot"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("UPDATE governance_consentreceipt SET envelope = '{}'")


def test_the_basis_of_an_activity_is_kept_and_the_newest_stands(cast):
    expert, licence = cast.experts["code"], cast.licences["code"]
    told = {"activity": Use.TRAIN, "by": cast.cato}
    contract = {"lawful_basis": LawfulBasis.CONTRACT, "licence": licence}
    first = activities.record(expert, at=cast.later(), **told, **contract)
    before = StagedEvent.objects.count()
    assert activities.record(expert, at=cast.later(), **told, **contract) == first
    assert StagedEvent.objects.count() == before
    activities.record(
        expert,
        lawful_basis=LawfulBasis.PUBLIC_DOMAIN,
        justification="published 1890",
        at=cast.later(),
        **told,
    )
    assert activities.current(expert)[Use.TRAIN].lawful_basis == LawfulBasis.PUBLIC_DOMAIN


@pytest.mark.parametrize(
    ("basis", "words"), [("contract", "licence"), ("legitimate_interest", "why")]
)
def test_a_basis_without_its_ground_is_refused(cast, basis, words):
    with pytest.raises(InvalidTerms, match=words):
        activities.record(
            cast.experts["code"],
            activity=Use.TRAIN,
            lawful_basis=LawfulBasis(basis),
            by=cast.cato,
            at=cast.later(),
        )
