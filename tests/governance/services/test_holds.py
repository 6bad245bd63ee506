"""A legal hold seals bytes for a while; it never keeps an expert in use. Clocks that may pause."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from governance.errors import FourEyes, InvalidTerms, NotPermitted, UnlawfulMove
from governance.models import FollowUp, LegalHold, StagedEvent
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import claims, clocks, effects, holds, snapshots, withdrawals
from governance.vocabulary import (
    CertificateStage,
    Clock,
    FollowUpKind,
    HoldState,
    Instrument,
    Why,
)
from tests import cast as story
from tests import factories

pytestmark = pytest.mark.django_db


def held(cast, **fields):
    asked = holds.request(
        cast.experts["code"],
        authority="District court, 12 K 34/27",
        reason="evidence",
        until_at=cast.at + timedelta(days=30),
        by=cast.cato,
        at=cast.later(),
        **fields,
    )
    return holds.approve(asked, by=cast.celia, at=cast.later())


@pytest.fixture
def cast():
    made = story.meet()
    story.served(made, "code", "languages")
    return made


def test_a_hold_takes_two_people(cast):
    asked = holds.request(
        cast.experts["code"],
        authority="court",
        reason="r",
        until_at=cast.at + timedelta(days=1),
        by=cast.cato,
        at=cast.later(),
    )
    assert holds.standing(asked.expert, at=cast.later()) is None
    with pytest.raises(FourEyes):
        holds.approve(asked, by=cast.cato, at=cast.later())
    with pytest.raises(IntegrityError), transaction.atomic():
        LegalHold.objects.filter(pk=asked.pk).update(
            state=HoldState.IN_FORCE, decided_by=cast.cato, decided_at=cast.at
        )
    holds.approve(asked, by=cast.celia, at=cast.later())
    assert holds.standing(asked.expert, at=cast.later()) == asked


@pytest.mark.parametrize("who", ["ada", "edda", "aude", "mallory"])
def test_only_legal_staff_ask_for_a_hold(cast, who):
    with pytest.raises(NotPermitted):
        holds.request(
            cast.experts["code"],
            authority="a",
            reason="r",
            until_at=cast.at + timedelta(days=1),
            by=getattr(cast, who),
            at=cast.later(),
        )


@pytest.mark.parametrize("missing", ["authority", "reason", "until_at"])
def test_a_hold_says_who_why_and_until_when(cast, missing):
    fields = {"authority": "a", "reason": "r", "until_at": cast.at + timedelta(days=1)}
    fields[missing] = cast.at if missing == "until_at" else " "
    with pytest.raises(InvalidTerms) as refusal:
        holds.request(cast.experts["code"], **fields, by=cast.cato, at=cast.later())
    assert set(refusal.value.fields) == {missing}


def test_a_hold_never_delays_that_the_expert_is_disabled(cast):
    held(cast)
    withdrawal = story.withdraw(cast, "code")
    decision = decide(snapshots.current(), Ask("dara", "research", "NL"), cast.later())
    assert Why.WITHDRAWN in decision.denied["code"]
    assert withdrawals.try_settle(withdrawal, waited_s=0, at=cast.later())
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_at is not None


def test_a_hold_ends_by_itself_on_its_last_day(cast):
    hold = held(cast)
    assert holds.standing(hold.expert, at=hold.until_at - timedelta(seconds=1)) == hold
    assert holds.standing(hold.expert, at=hold.until_at) is None


def test_lifting_the_last_hold_lets_the_erasure_go_on_at_once(cast):
    first, second = held(cast), held(cast)
    withdrawal = story.withdraw(cast, "code")
    erasure = FollowUp.objects.filter(kind=FollowUpKind.ERASE, subject_id=withdrawal.pk)
    erasure.update(due_at=cast.at + timedelta(days=9))
    holds.lift(first, by=cast.celia, at=cast.later(), reason="closed")
    assert erasure.get().due_at > cast.at
    holds.lift(second, by=cast.celia, at=cast.later())
    assert erasure.get().due_at == cast.at
    with pytest.raises(UnlawfulMove):
        holds.lift(second, by=cast.celia, at=cast.later())


def test_a_preview_says_that_the_bytes_will_be_sealed_first(cast):
    hold = held(cast)
    shown = effects.preview(cast.experts["code"], instrument=Instrument.WITHDRAW, at=cast.later())
    assert shown.held_until == hold.until_at
    assert any("sealed" in one for one in shown.sentences)


def test_a_certificate_names_the_hold(cast):
    held(cast)
    withdrawal = story.withdraw(cast, "code")
    withdrawals.try_settle(withdrawal, waited_s=0, at=cast.later())
    withdrawal.refresh_from_db()
    claimed = claims.of_stage(withdrawal, CertificateStage.BLOCKED, at=cast.later())
    assert claimed.evidence["holds"][0]["authority"] == "District court, 12 K 34/27"
    assert claimed.evidence["holds"][0]["is_sealed"] is True


def test_every_act_on_a_hold_stages_one_event(cast):
    def ask():
        return holds.request(
            cast.experts["code"],
            authority="a",
            reason="r",
            until_at=cast.at + timedelta(days=9),
            by=cast.cato,
            at=cast.later(),
        )

    def counted(act):
        before = StagedEvent.objects.count()
        result = act()
        assert StagedEvent.objects.count() == before + 1
        return result

    hold = counted(ask)
    counted(lambda: holds.approve(hold, by=cast.celia, at=cast.later()))
    counted(lambda: holds.lift(hold, by=cast.celia, at=cast.later()))
    other = ask()
    counted(lambda: holds.refuse(other, by=cast.celia, at=cast.later()))


# ── Clocks ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("clock", [one for one in Clock if one not in clocks.MAY_PAUSE])
def test_the_laws_own_clocks_are_never_paused(cast, clock):
    with pytest.raises(UnlawfulMove):
        clocks.pause(clock, uuid4(), by=cast.cato, at=cast.later(), reason="we are busy")


def test_a_clock_stands_still_with_its_reason_and_its_deadline_moves(cast):
    subject, begun = uuid4(), cast.later()
    first = clocks.pause(Clock.GAP, subject, by=cast.cato, at=begun, reason="asked the owner")
    assert clocks.pause(Clock.GAP, subject, by=cast.celia, at=cast.later(), reason="x") == first
    assert clocks.stood_still(Clock.GAP, subject, at=begun + timedelta(days=2)).days == 2
    clocks.resume(Clock.GAP, subject, by=cast.cato, at=begun + timedelta(days=3))
    assert clocks.standing(Clock.GAP, subject) is None
    assert clocks.stood_still(Clock.GAP, subject, at=factories.after(days=90)).days == 3
    with pytest.raises(UnlawfulMove):
        clocks.resume(Clock.GAP, subject, by=cast.cato, at=factories.after(days=91))


def test_pausing_without_a_reason_or_without_the_role_is_refused(cast):
    with pytest.raises(InvalidTerms):
        clocks.pause(Clock.GAP, uuid4(), by=cast.cato, at=cast.later(), reason=" ")
    with pytest.raises(NotPermitted):
        clocks.pause(Clock.GAP, uuid4(), by=cast.edda, at=cast.later(), reason="r")
