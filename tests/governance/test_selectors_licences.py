"""What held on one day, as it was known on another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from governance import selectors
from governance.models import Countersignature, Ending, Licence
from governance.services import licences
from governance.vocabulary import Instrument, LicenceState
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def approved(corpus=None, **fields) -> Licence:
    """In force for ten days from NOW; requested five days before, approved two days before."""
    defaults = {
        "starts_at": NOW,
        "ends_at": after(days=10),
        "requested_at": after(days=-5),
        "decided_at": after(days=-2),
    }
    corpus = corpus or factories.corpus()
    return factories.licence(corpus=corpus, **{**defaults, **fields})


def ended(licence, *, effective, recorded, **fields) -> Ending:
    return Ending.objects.create(
        licence=licence,
        instrument=fields.pop("instrument", Instrument.REVOKE),
        effective_at=after(days=effective),
        recorded_at=after(days=recorded),
        **fields,
    )


def then(licence, valid, known):
    """(state, in force, ended by) of the licence on day `valid` as known on day `known`."""
    rows = selectors.as_of(
        Licence.objects.filter(pk=licence.pk),
        valid_at=after(days=valid),
        known_at=after(days=known),
    )
    found = rows.first()
    return found and (found.state_then, found.in_force_then, found.ended_then)


def test_nothing_is_known_before_the_request():
    assert then(approved(), valid=1, known=-6) is None


def test_a_request_waits_until_its_decision_is_recorded():
    licence = approved()
    assert then(licence, valid=1, known=-3) == (LicenceState.REQUESTED, False, None)
    assert then(licence, valid=1, known=-2) == (LicenceState.APPROVED, True, None)


@pytest.mark.parametrize(("valid", "is_in_force"), [(-1, False), (0, True), (9, True), (10, False)])
def test_the_window_is_half_open(valid, is_in_force):
    assert then(approved(), valid=valid, known=20) == (LicenceState.APPROVED, is_in_force, None)


def test_an_ending_dated_back_changes_what_held_but_not_what_was_known():
    licence = approved()
    ended(licence, effective=3, recorded=7)
    assert then(licence, valid=5, known=6) == (LicenceState.APPROVED, True, None)
    assert then(licence, valid=5, known=7) == (LicenceState.APPROVED, False, Instrument.REVOKE)
    assert then(licence, valid=2, known=7) == (LicenceState.APPROVED, True, None)


def test_an_ending_announced_ahead_holds_until_its_day():
    licence = approved()
    ended(licence, effective=6, recorded=1, instrument=Instrument.TERMINATE)
    assert then(licence, valid=5, known=2)[1]
    assert then(licence, valid=6, known=2) == (LicenceState.APPROVED, False, Instrument.TERMINATE)
    assert then(licence, valid=6, known=0)[1]


def test_a_pause_holds_until_its_lifting_and_the_lifting_until_it_is_recorded():
    licence = approved()
    paused = ended(licence, effective=2, recorded=2, instrument=Instrument.SUSPEND)
    ended(licence, effective=4, recorded=6, instrument=Instrument.SUSPEND, lifts=paused)
    assert not then(licence, valid=3, known=9)[1]
    assert then(licence, valid=5, known=9)[1]
    assert then(licence, valid=5, known=5) == (LicenceState.APPROVED, False, Instrument.SUSPEND)


def test_an_ending_for_some_leaves_it_in_force_for_the_rest():
    licence = approved()
    ended(licence, effective=2, recorded=2, purposes=["research"])
    ended(licence, effective=2, recorded=2, consumers=["dara"])
    assert then(licence, valid=5, known=9) == (LicenceState.APPROVED, True, None)
    assert Licence.objects.in_force(after(days=5)).filter(pk=licence.pk).exists()


def test_what_waits_for_a_countersignature_holds_from_its_record_on():
    licence = approved(needs_countersignature=True)
    assert not then(licence, valid=5, known=9)[1]
    Countersignature.objects.create(
        licence=licence,
        owner=licence.corpus.owner,
        terms_digest=licence.terms_digest,
        signed_by=factories.account(),
        method="page",
        signed_at=after(days=3),
    )
    assert not then(licence, valid=5, known=2)[1]
    assert then(licence, valid=5, known=3)[1]


def test_as_known_now_it_says_what_the_present_says():
    corpus = factories.corpus()
    first, second = approved(corpus), approved(corpus, starts_at=after(days=4))
    ended(first, effective=4, recorded=1, instrument=Instrument.TERMINATE)
    rejected = approved(corpus, state=LicenceState.REJECTED)
    for day in range(-3, 13):
        at = after(days=day)
        by_two_times = selectors.in_force_as_of(
            corpus.licences.all(), valid_at=at, known_at=after(days=20)
        )
        assert set(by_two_times) == set(Licence.objects.in_force(at).filter(corpus=corpus))
        assert rejected not in by_two_times
    assert {first, second} == set(corpus.licences.filter(state=LicenceState.APPROVED))


def test_a_whole_list_takes_one_query(django_assert_num_queries):
    for _ in range(5):
        ended(approved(), effective=1, recorded=1)
    with django_assert_num_queries(1):
        found = list(
            selectors.as_of(Licence.objects.all(), valid_at=after(days=2), known_at=after(days=2))
        )
    assert [one.in_force_then for one in found] == [False] * 5


def test_the_chain_of_versions_is_the_same_from_every_link(django_assert_num_queries):
    corpus, person, other = factories.corpus(), factories.account(), factories.account()
    agreed = licences.Terms(uses=["train"], purposes=[], starts_at=NOW)
    ask = {"terms": agreed, "by": person, "at": NOW}
    first = licences.approve(licences.request(corpus, **ask), by=other, at=NOW)
    refused = licences.request(corpus, supersedes=first, **ask)
    licences.reject(refused, by=other, at=NOW)
    later = NOW + timedelta(hours=1)
    second = licences.request(corpus, supersedes=first, terms=agreed, by=person, at=later)
    beside = licences.request(corpus, **ask)
    for link in (first, refused, second):
        with django_assert_num_queries(1):
            assert selectors.versions_of(link) == [first, refused, second]
    assert selectors.versions_of(beside) == [beside]
