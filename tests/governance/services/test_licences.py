"""Licences: terms that hold together, two people, and an ending that policy hears of at once."""

import threading
from datetime import timedelta
from decimal import Decimal

import pgtrigger
import pytest
from django.db import connections

from governance.errors import FourEyes, InvalidTerms, UnlawfulMove
from governance.models import FollowUp, Licence, PolicySnapshot
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import licences, snapshots
from governance.vocabulary import FollowUpKind, Instrument, LicenceState, Purpose, Use, Why
from tests import cast as story
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db
ASK = Ask("dara", "research", "NL")


def terms(**fields):
    defaults = {
        "uses": [Use.TRAIN, Use.ANSWER],
        "purposes": [Purpose.RESEARCH],
        "starts_at": NOW,
        "ends_at": after(days=10),
    }
    return licences.Terms(**{**defaults, **fields})


def requested(corpus=None, **fields):
    return licences.request(
        corpus or factories.corpus(), terms=terms(**fields), by=factories.account(), at=NOW
    )


def approved(corpus=None, **fields):
    return licences.approve(requested(corpus, **fields), by=factories.account(), at=NOW)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"ends_at": NOW}, "ends_at"),
        ({"ends_at": after(-1)}, "ends_at"),
        ({"uses": []}, "uses"),
        ({"uses": ["sell"]}, "uses"),
        ({"purposes": []}, "purposes"),
        ({"purposes": ["war"]}, "purposes"),
        ({"territories": ["Europe"]}, "territories"),
        ({"territories": ["nl"]}, "territories"),
        ({"consumers": ["nobody"]}, "consumers"),
        ({"excluded_consumers": ["nobody"]}, "excluded_consumers"),
        ({"max_extraction_rate": 1.5}, "max_extraction_rate"),
        ({"max_extraction_rate": float("nan")}, "max_extraction_rate"),
        ({"rate_per_million_tokens": -1}, "rate_per_million_tokens"),
        ({"currency": "euro"}, "currency"),
        ({"notice_days": -1}, "notice_days"),
        ({"starts_at": NOW.replace(tzinfo=None)}, "starts_at"),
    ],
)
def test_terms_that_do_not_hold_are_refused_field_by_field(wrong, field):
    with pytest.raises(InvalidTerms) as refusal:
        requested(**wrong)
    assert list(refusal.value.fields) == [field]
    assert not Licence.objects.exists()


def test_everything_wrong_is_said_at_once():
    with pytest.raises(InvalidTerms) as refusal:
        requested(uses=[], purposes=["war"], ends_at=after(-1), currency="?")
    assert set(refusal.value.fields) == {"uses", "purposes", "ends_at", "currency"}


def test_a_licence_to_train_alone_needs_no_purpose():
    assert requested(uses=[Use.TRAIN], purposes=[]).state == LicenceState.REQUESTED


def test_versions_are_numbered_by_corpus():
    corpus = factories.corpus(slug="letters")
    assert [requested(corpus).reference for _ in range(2)] == ["letters-v1", "letters-v2"]


def test_references_of_long_names_stay_short_and_apart():
    one, other = (factories.corpus(slug=f"{'a' * 60}{n}") for n in (1, 2))
    first, second = requested(one).reference, requested(other).reference
    assert first != second
    assert max(len(first), len(second)) <= 32


def test_the_requester_never_approves_or_rejects():
    licence = requested()
    for act in (licences.approve, licences.reject):
        with pytest.raises(FourEyes):
            act(licence, by=licence.requested_by, at=NOW)
    licence.refresh_from_db()
    assert licence.state == LicenceState.REQUESTED


def test_a_decision_is_made_once():
    licence = requested()
    licences.reject(licence, by=factories.account(), at=NOW, note="too long")
    for act in (licences.approve, licences.reject):
        with pytest.raises(UnlawfulMove):
            act(licence, by=factories.account(), at=NOW)


def test_terms_changed_behind_the_back_of_the_second_person_void_the_request():
    licence = requested()
    with pgtrigger.ignore("governance.Licence:licence_terms_never_updated"):
        Licence.objects.filter(pk=licence.pk).update(purposes=["research", "commercial"])
    with pytest.raises(UnlawfulMove, match="changed since"):
        licences.approve(licence, by=factories.account(), at=NOW)
    assert not PolicySnapshot.objects.exists()


def test_the_digest_of_terms_does_not_hang_on_order_or_time_zone():
    from zoneinfo import ZoneInfo

    corpus = factories.corpus()
    one = requested(corpus, purposes=["research", "education"])
    other = requested(
        corpus,
        purposes=["education", "research", "education"],
        starts_at=NOW.astimezone(ZoneInfo("Asia/Tokyo")),
        rate_per_million_tokens=Decimal("0.00000"),
    )
    assert one.terms_digest == other.terms_digest
    assert one.terms_digest != requested(corpus, notice_days=1).terms_digest


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_nothing_runs_beside_an_exclusive_licence(first, second):
    corpus = factories.corpus()
    approved(corpus, is_exclusive=first)
    with pytest.raises(InvalidTerms) as refusal:
        requested(corpus, is_exclusive=second, starts_at=after(days=9), ends_at=None)
    assert "exclusive" in refusal.value.fields["starts_at"]
    assert requested(corpus, is_exclusive=second, starts_at=after(days=10), ends_at=None)


def test_the_exclusion_constraint_speaks_in_the_same_words():
    corpus = factories.corpus()
    waiting = [requested(corpus, is_exclusive=True), requested(corpus)]
    licences.approve(waiting[0], by=factories.account(), at=NOW)
    with pytest.raises(InvalidTerms) as refusal:
        licences.approve(waiting[1], by=factories.account(), at=NOW)
    assert "exclusive" in refusal.value.fields["starts_at"]
    waiting[1].refresh_from_db()
    assert waiting[1].state == LicenceState.REQUESTED


def test_an_exclusive_licence_that_ended_makes_room():
    corpus = factories.corpus()
    licence = approved(corpus, is_exclusive=True)
    licences.end(licence, instrument=Instrument.REVOKE, by=None, at=after(days=2))
    assert approved(corpus, is_exclusive=True, starts_at=after(days=2))


def test_a_newer_version_takes_over_when_it_begins():
    corpus = factories.corpus()
    former = approved(corpus, is_exclusive=True)
    newer = licences.request(
        corpus,
        terms=terms(is_exclusive=True, starts_at=after(days=5), ends_at=None),
        supersedes=former,
        by=factories.account(),
        at=NOW,
    )
    licences.approve(newer, by=factories.account(), at=NOW)
    in_force = [
        list(Licence.objects.in_force(after(days=days)).values_list("pk", flat=True))
        for days in (4, 6)
    ]
    assert in_force == [[former.pk], [newer.pk]]


# ── Policy hears of it ───────────────────────────────────────────────────────────────────────────
def why(at):
    decision = decide(snapshots.current(), ASK, at)
    return decision.denied.get("code", ())


@pytest.fixture
def cast():
    cast = story.meet()
    story.served(cast, "code")
    return cast


def test_an_ending_is_published_in_the_same_act_and_given_back_when_repeated(cast):
    licence, before = cast.licences["code"], snapshots.current().policy_epoch
    ending = licences.end(
        licence, instrument=Instrument.REVOKE, by=cast.cato, at=cast.later(), reason="breach"
    )
    assert snapshots.current().policy_epoch == before + 1
    assert why(cast.later())
    again = licences.end(licence, instrument=Instrument.REVOKE, by=cast.cato, at=cast.later())
    assert again == ending
    assert snapshots.current().policy_epoch == before + 1


def test_a_termination_waits_for_its_notice_without_republishing():
    cast = story.meet()
    story.grant(cast, "code", notice_days=14)
    story.served(cast, "code")
    licences.end(
        cast.licences["code"], instrument=Instrument.TERMINATE, by=cast.cato, at=cast.later()
    )
    assert why(cast.at + timedelta(days=13)) == ()
    assert why(cast.at + timedelta(days=15))


def test_a_suspension_pauses_and_resuming_lifts_it(cast):
    licence = cast.licences["code"]
    licences.end(licence, instrument=Instrument.SUSPEND, by=cast.cato, at=cast.later())
    assert Why.SUSPENDED in why(cast.later())
    assert not Licence.objects.in_force(cast.at).filter(pk=licence.pk).exists()
    licences.resume(licence, by=cast.cato, at=cast.later())
    assert why(cast.later()) == ()
    assert Licence.objects.in_force(cast.at).filter(pk=licence.pk).exists()
    with pytest.raises(UnlawfulMove):
        licences.resume(licence, by=cast.cato, at=cast.later())


def test_a_window_needs_no_republishing_and_expiry_no_job():
    cast = story.meet()
    story.grant(cast, "code", ends_at=after(days=3))
    story.served(cast, "code")
    epoch = snapshots.current().policy_epoch
    assert why(after(days=2)) == ()
    assert Why.EXPIRED in why(after(days=3))
    assert snapshots.current().policy_epoch == epoch


def test_what_was_never_approved_cannot_be_ended():
    with pytest.raises(UnlawfulMove):
        licences.end(requested(), instrument=Instrument.REVOKE, by=None, at=NOW)


def test_a_licence_nobody_can_read_darkens_its_expert_and_tells_legal_staff_once(cast):
    with pgtrigger.ignore("governance.Licence:licence_terms_never_updated"):
        Licence.objects.update(purposes=["astrology"])
    for _ in range(2):
        snapshots.publish(reason="tests", at=cast.later())
    assert Why.LICENCE_UNREADABLE in why(cast.later())
    gap = FollowUp.objects.get(kind=FollowUpKind.RESOLVE_GAP)
    assert gap.order["expert"] == "code"
    assert "astrology" in gap.order["problem"]


def test_plain_words_say_who_may_do_what_until_when():
    dara = factories.consumer(slug="dara")
    licence = requested(
        factories.corpus(title="Letters", owner=factories.owner(legal_name="Alder Press")),
        uses=[Use.ANSWER],
        purposes=["research", "education"],
        territories=["NL", "DE"],
        excluded_consumers=[dara.slug],
        rate_per_million_tokens=40,
        notice_days=14,
    )
    assert licences.plain_words(licence) == (
        "Letters of Alder Press. May not train an expert. May answer for education and research, "
        "asked by anyone but never dara, in DE and NL. In force from 1 March 2027, 12:00 UTC until "
        "11 March 2027, 12:00 UTC. Served only while its audited extraction rate is at most 1%. "
        "Costs 40.00 EUR for a million tokens the expert accounts for. Termination takes 14 days' "
        "notice; the owner may withdraw at any time, at once."
    )


@pytest.mark.django_db(transaction=True)
def test_two_exclusive_licences_approved_at_once_leave_one():
    corpus = factories.corpus()
    waiting = [requested(corpus, is_exclusive=True) for _ in range(2)]
    deciders = [factories.account() for _ in waiting]
    barrier, outcomes = threading.Barrier(2), []

    def decide_on(licence, by):
        try:
            barrier.wait(5)
            licences.approve(licence, by=by, at=NOW)
            outcomes.append("approved")
        except InvalidTerms:
            outcomes.append("refused")
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=decide_on, args=pair)
        for pair in zip(waiting, deciders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["approved", "refused"]
