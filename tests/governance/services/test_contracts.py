"""The signed file read by a second person, the owner's countersignature, and templates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from governance.errors import FourEyes, InvalidTerms, NotPermitted, UnlawfulMove
from governance.models import (
    ContractReading,
    Countersignature,
    Licence,
    LicenceTemplate,
    StagedEvent,
)
from governance.services import documents, licences, snapshots, terms
from governance.vocabulary import LicenceState, Role
from tests import cast as story
from tests import factories
from tests.factories import NOW, after, digest_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def cato():
    return factories.account("Cato", role=Role.LEGAL)


@pytest.fixture
def celia():
    return factories.account("Celia", role=Role.LEGAL)


def plain_terms(**changed) -> licences.Terms:
    held = licences.Terms(uses=["train", "answer"], purposes=["research"], starts_at=NOW)
    return replace(held, **changed)


def asked(by, *, uploader=None, **changed) -> Licence:
    """A request with a signed file."""
    file = documents.store(
        b"signed", name="signed.txt", media_type="text/plain", by=uploader or by, at=NOW
    )
    agreed = plain_terms(contract_digest=file.digest, clauses={"uses": "2.1"}, **changed)
    return licences.request(factories.corpus(), terms=agreed, by=by, at=NOW)


def test_a_licence_without_a_file_needs_no_reader(cato, celia):
    licence = licences.request(factories.corpus(), terms=plain_terms(), by=cato, at=NOW)
    assert licences.contract_is_confirmed(licence)
    assert licences.approve(licence, by=celia, at=NOW).state == LicenceState.APPROVED


def test_approval_waits_until_a_second_person_has_read_the_file(cato, celia):
    licence = asked(cato)
    with pytest.raises(UnlawfulMove, match="to have read the contract"):
        licences.approve(licence, by=celia, at=NOW)
    reading = licences.read_contract(licence, is_match=True, by=celia, at=after(1))
    assert (reading.terms_digest, reading.contract_digest) == (
        licence.terms_digest,
        licence.contract_digest,
    )
    assert licences.approve(licence, by=celia, at=after(2)).state == LicenceState.APPROVED


def test_the_newest_reading_counts(cato, celia):
    licence = asked(cato)
    licences.read_contract(licence, is_match=True, by=celia, at=after(1))
    licences.read_contract(licence, is_match=False, by=celia, at=after(2), note="§ 4 says 30 days")
    assert not licences.contract_is_confirmed(licence)
    with pytest.raises(UnlawfulMove):
        licences.approve(licence, by=celia, at=after(3))
    licences.read_contract(licence, is_match=True, by=celia, at=after(4))
    assert licences.contract_is_confirmed(licence)


def test_who_requested_or_handed_in_the_file_is_no_second_reader(cato, celia):
    requested_by_cato = asked(cato, uploader=celia)
    for first in (cato, celia):
        with pytest.raises(FourEyes):
            licences.read_contract(requested_by_cato, is_match=True, by=first, at=NOW)
    third = factories.account("Third", role=Role.LEGAL)
    assert licences.read_contract(requested_by_cato, is_match=True, by=third, at=NOW)


def test_a_difference_is_put_in_words(cato, celia):
    with pytest.raises(InvalidTerms) as refusal:
        licences.read_contract(asked(cato), is_match=False, by=celia, at=NOW, note=" ")
    assert list(refusal.value.fields) == ["note"]


def test_there_is_nothing_to_read_without_a_file_or_after_the_decision(cato, celia):
    bare = licences.request(factories.corpus(), terms=plain_terms(), by=cato, at=NOW)
    with pytest.raises(UnlawfulMove, match="signed file"):
        licences.read_contract(bare, is_match=True, by=celia, at=NOW)
    decided = licences.reject(asked(cato), by=celia, at=NOW)
    with pytest.raises(UnlawfulMove, match="await a decision"):
        licences.read_contract(decided, is_match=True, by=celia, at=NOW)


def reading_row(licence, **changed):
    fields = {
        "licence": licence,
        "terms_digest": licence.terms_digest,
        "contract_digest": licence.contract_digest,
        "is_match": True,
        "reader": factories.account(),
        "read_at": NOW,
    }
    return ContractReading(**{**fields, **changed})


@pytest.mark.parametrize("wrong", ["requester", "uploader", "terms", "file"])
def test_the_database_itself_holds_the_four_eyes_of_a_reading(wrong, cato, celia):
    licence = asked(cato, uploader=celia)
    changed = {
        "requester": {"reader": cato},
        "uploader": {"reader": celia},
        "terms": {"terms_digest": digest_of("other")},
        "file": {"contract_digest": digest_of("other")},
    }[wrong]
    with pytest.raises(IntegrityError, match="four_eyes"), transaction.atomic():
        reading_row(licence, **changed).save()
    reading_row(licence).save()


def test_the_database_itself_lets_no_unread_contract_be_approved(cato, celia):
    licence = asked(cato)
    approved = {"state": LicenceState.APPROVED, "decided_by": celia, "decided_at": NOW}
    rows = Licence.objects.filter(pk=licence.pk)
    with pytest.raises(IntegrityError, match="contract_read"), transaction.atomic():
        rows.update(**approved)
    reading_row(licence, is_match=False, note="no").save()
    with pytest.raises(IntegrityError, match="contract_read"), transaction.atomic():
        rows.update(**approved)
    reading_row(licence, read_at=after(1)).save()
    assert rows.update(**approved) == 1


# ── The owner's own yes ──────────────────────────────────────────────────────────────────────────
@pytest.fixture
def cast():
    return story.meet()


def test_the_owner_countersigns_once_and_it_binds_the_terms(cast):
    story.grant(cast, "code")
    licence = cast.licences["code"]
    signature = licences.countersign(licence, by=cast.ada, at=cast.later())
    assert signature.terms_digest == licence.terms_digest
    assert signature.owner == cast.alder
    before = StagedEvent.objects.count()
    assert licences.countersign(licence, by=cast.ada, at=cast.later()) == signature
    assert StagedEvent.objects.count() == before


@pytest.mark.parametrize("name", ["bela", "cato", "edda", "mallory"])
def test_nobody_else_countersigns(cast, name):
    story.grant(cast, "code")
    with pytest.raises(NotPermitted):
        licences.countersign(cast.licences["code"], by=getattr(cast, name), at=cast.later())
    assert not Countersignature.objects.exists()


def test_only_approved_terms_are_countersigned(cast):
    corpus = factories.corpus(owner=cast.alder)
    licence = licences.request(corpus, terms=plain_terms(), by=cast.cato, at=cast.later())
    with pytest.raises(UnlawfulMove, match="approved licence"):
        licences.countersign(licence, by=cast.ada, at=cast.later())


def test_the_database_itself_binds_a_countersignature_to_owner_terms_and_approval(cast):
    story.grant(cast, "code")
    licence = cast.licences["code"]
    waiting = licences.request(
        factories.corpus(owner=cast.alder), terms=plain_terms(), by=cast.cato, at=cast.later()
    )
    for wrong in (
        {"owner": cast.birch},
        {"terms_digest": digest_of("other")},
        {"licence": waiting, "terms_digest": waiting.terms_digest},
    ):
        fields = {
            "licence": licence,
            "owner": cast.alder,
            "terms_digest": licence.terms_digest,
            "signed_by": cast.ada,
            "method": "page",
            **wrong,
        }
        with pytest.raises(IntegrityError, match="owners"), transaction.atomic():
            Countersignature.objects.create(**fields)


def test_a_licence_that_waits_for_the_countersignature_is_in_no_policy_before_it(cast):
    story.grant(cast, "code")
    story.served(cast, "code")
    former = cast.licences["code"]
    asked_anew = licences.request(
        former.corpus,
        terms=replace(terms.of(former), purposes=["education"]),
        needs_countersignature=True,
        by=cast.cato,
        at=cast.later(),
    )
    licence = licences.approve(asked_anew, by=cast.celia, at=cast.later())
    assert granted() == {former.reference}
    assert not Licence.objects.in_force(cast.at).filter(pk=licence.pk).exists()
    epoch = snapshots.current().policy_epoch
    licences.countersign(licence, by=cast.ada, at=cast.later())
    assert snapshots.current().policy_epoch == epoch + 1
    assert granted() == {former.reference, licence.reference}
    assert Licence.objects.in_force(cast.at).filter(pk=licence.pk).exists()


def granted() -> set[str]:
    return {grant.licence for grant in snapshots.current().grants}


def test_whether_the_owner_must_countersign_is_never_changed_afterwards(cato):
    licence = licences.request(
        factories.corpus(), terms=plain_terms(), needs_countersignature=True, by=cato, at=NOW
    )
    with pytest.raises(Exception, match="licence_terms_never_updated"), transaction.atomic():
        Licence.objects.filter(pk=licence.pk).update(needs_countersignature=False)


# ── Templates ────────────────────────────────────────────────────────────────────────────────────
def test_every_built_in_template_holds_together_with_a_period():
    built_in = licences.templates()
    assert len(built_in) == 5
    for one in built_in:
        assert one.version == 0
        assert terms.wrong_fields(licences.Terms(starts_at=NOW, **one.terms)) == {}, one.name


def test_a_saved_template_comes_in_versions_and_takes_the_place_of_a_built_in_one(cato):
    agreed = plain_terms(ends_at=after(days=3), notice_days=7)
    for title in ("Ours", "Ours, again"):
        licences.save_template("education", title=title, terms=agreed, by=cato, at=NOW)
    assert [row.version for row in LicenceTemplate.objects.order_by("version")] == [1, 2]
    newest = licences.template("education")
    assert (newest.title, newest.version) == ("Ours, again", 2)
    assert newest.terms["notice_days"] == 7
    assert not set(newest.terms) & {"starts_at", "ends_at", "clauses", "contract_digest"}
    assert len(licences.templates()) == 5


@pytest.mark.parametrize(
    ("changed", "field"), [({"title": " "}, "title"), ({"terms": plain_terms(uses=[])}, "uses")]
)
def test_a_template_needs_a_title_and_terms_that_hold(changed, field, cato):
    fields = {"title": "Ours", "terms": plain_terms(), **changed}
    with pytest.raises(InvalidTerms) as refusal:
        licences.save_template("ours", by=cato, at=NOW, **fields)
    assert list(refusal.value.fields) == [field]


def test_there_is_no_template_of_a_name_nobody_gave():
    assert licences.template("nothing") is None
