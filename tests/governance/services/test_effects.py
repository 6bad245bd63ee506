"""Six instruments, one engine: who may, when it bites, what is disabled and what is erased."""

import json
from datetime import timedelta

import pytest

from governance.errors import InvalidTerms, NotCovered, NotPermitted, UnlawfulMove
from governance.models import (
    Ending,
    Expert,
    FollowUp,
    Licence,
    PolicySnapshot,
    StagedEvent,
    Withdrawal,
)
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import consent, consumers, effects, experts, licences, snapshots
from governance.services.effects import RULES, Capacity, Demand, Scope, When
from governance.vocabulary import ExpertState, FollowUpKind, Instrument, Why
from tests import cast as story
from tests import factories

pytestmark = pytest.mark.django_db

BY_OWNER = (Instrument.SUSPEND, Instrument.WITHDRAW, Instrument.TERMINATE)


def ask(cast, name="code", *, at=None, consumer="dara", purpose="research"):
    """Whether `consumer` may use the expert now, and the reasons why not."""
    decision = decide(snapshots.current(), Ask(consumer, purpose, "NL"), at or cast.later())
    return decision.denied.get(name, ())


def served(**terms):
    cast = story.meet()
    defaults = {"purposes": ["research", "education"]}
    story.grant(cast, "code", **{**defaults, **terms})
    story.served(cast, "code", "languages")
    return cast


def put(cast, instrument, *, by=None, scope=effects.EVERYTHING, at=None, **more):
    return effects.put_into_effect(
        instrument,
        cast.experts["code"],
        by=by,
        at=at or cast.later(),
        method="tests",
        scope=scope,
        **more,
    )


def used(cast, *, consumer=None, days_ago=1.0, **fields):
    lease = fields.pop("incarnation", None) or factories.lease()
    return factories.usage(
        incarnation=lease,
        consumer=consumer or cast.dara,
        allowed=["code"],
        opened_at=cast.at - timedelta(days=days_ago),
        closed_at=cast.at - timedelta(days=days_ago),
        **fields,
    )


# ── The table ────────────────────────────────────────────────────────────────────────────────────
def test_the_table_speaks_of_every_instrument():
    assert set(RULES) == set(Instrument)


def test_what_an_owner_may_do_alone_takes_effect_at_once_and_never_needs_us():
    for instrument in (Instrument.SUSPEND, Instrument.WITHDRAW):
        rule = RULES[instrument]
        assert Capacity.OWNER in rule.on_expert & rule.on_licence
        assert rule.takes_effect is When.AT_ONCE


@pytest.mark.parametrize("instrument", list(Instrument))
@pytest.mark.parametrize("who", ["bela", "aude", "mallory"])
def test_an_outsider_puts_nothing_into_effect(instrument, who):
    cast = served()
    before = Ending.objects.count()
    with pytest.raises(NotPermitted):
        put(cast, instrument, by=getattr(cast, who))
    with pytest.raises(NotPermitted):
        licences.end(
            cast.licences["code"], instrument=instrument, by=getattr(cast, who), at=cast.later()
        )
    assert Ending.objects.count() == before


@pytest.mark.parametrize(
    ("who", "instrument"),
    [
        ("ada", Instrument.REVOKE),
        ("ada", Instrument.INVALIDATE),
        ("ada", Instrument.EXPIRE),
        ("edda", Instrument.WITHDRAW),
        ("edda", Instrument.TERMINATE),
        ("edda", Instrument.REVOKE),
    ],
)
def test_nobody_uses_anothers_instrument(who, instrument):
    cast = served()
    with pytest.raises(NotPermitted):
        put(cast, instrument, by=getattr(cast, who))
    assert ask(cast) == ()


@pytest.mark.parametrize(
    "instrument", [Instrument.WITHDRAW, Instrument.REVOKE, Instrument.INVALIDATE]
)
def test_ending_all_of_an_expert_disables_and_erases(instrument):
    cast = served()
    done = put(cast, instrument, by=cast.cato)
    assert done.withdrawal is not None
    assert (done.ending.erases, done.withdrawal.instrument) == (True, instrument)
    assert Why.WITHDRAWN in ask(cast)
    assert FollowUp.objects.filter(kind=FollowUpKind.ERASE).count() == 1


COURT = Demand("Court of Utrecht", "C/16/1", "https://court.example/c-16-1")


@pytest.mark.parametrize("how", ["all", "part", "licence"])
def test_who_ordered_it_is_kept_with_the_act_and_in_the_log(how):
    cast, invalidate = served(), Instrument.INVALIDATE
    if how == "licence":
        licences.end(
            cast.licences["code"], instrument=invalidate, by=cast.cato, at=cast.later(),
            demand=COURT,
        )  # fmt: skip
    else:
        scope = Scope.of(["research"]) if how == "part" else effects.EVERYTHING
        put(cast, invalidate, by=cast.cato, scope=scope, demand=COURT)
    said = {
        "authority": "Court of Utrecht",
        "authority_reference": "C/16/1",
        "authority_url": "https://court.example/c-16-1",
    }
    assert Ending.objects.filter(**said).count() == 1
    told = [json.loads(one.body)["details"] for one in StagedEvent.objects.all()]
    assert [one for one in told if said.items() <= one.items()]
    assert Why.VOIDED in ask(cast)


@pytest.mark.parametrize(("demand", "field"), [
    (Demand("", "C/16/1"), "authority"),
    (Demand("Court", authority_url="http://court.example"), "authority_url"),
    (Demand("Court", authority_url='https://court.example/>; rel="x'), "authority_url"),
    (Demand("Court", authority_url="https://"), "authority_url"),
    (Demand("C" * 201), "authority"),
])  # fmt: skip
def test_a_demand_that_cannot_be_told_is_refused_at_its_field(demand, field):
    with pytest.raises(InvalidTerms) as refused:
        put(served(), Instrument.INVALIDATE, demand=demand)
    assert list(refused.value.fields) == [field]


def test_only_what_invalidates_rests_on_a_demand():
    with pytest.raises(InvalidTerms) as refused:
        put(served(), Instrument.REVOKE, demand=COURT)
    assert list(refused.value.fields) == ["authority"]
    assert not Ending.objects.exists()


@pytest.mark.parametrize("instrument", [i for i in Instrument if i is not Instrument.EXPIRE])
def test_ending_a_licence_disables_and_erases_nothing(instrument):
    cast = served()
    ending = licences.end(
        cast.licences["code"], instrument=instrument, by=cast.cato, at=cast.later()
    )
    assert not ending.erases
    assert ask(cast)
    assert not FollowUp.objects.filter(kind=FollowUpKind.ERASE).exists()
    assert Expert.objects.get(name="code").state == ExpertState.ACTIVE


def test_an_expert_expires_only_when_its_last_licence_has():
    cast = served(ends_at=factories.after(days=3))
    with pytest.raises(NotCovered):
        put(cast, Instrument.EXPIRE, by=cast.cato)
    cast.at = factories.after(days=4)
    done = put(cast, Instrument.EXPIRE)
    assert done.ending.erases
    assert Expert.objects.get(name="code").state == ExpertState.WITHDRAWN


def test_every_act_of_the_engine_stages_one_event():
    cast = served(notice_days=5)
    acts = [
        lambda: put(cast, Instrument.SUSPEND, by=cast.edda),
        lambda: experts.resume(cast.experts["code"], by=cast.edda, at=cast.later()),
        lambda: put(cast, Instrument.REVOKE, by=cast.cato, scope=Scope.of(purposes=["education"])),
        lambda: put(cast, Instrument.TERMINATE, by=cast.ada),
        lambda: effects.carry_out_notices(at=factories.after(days=9)),
    ]
    for act in acts:
        before = StagedEvent.objects.count()
        act()
        assert StagedEvent.objects.count() == before + 1


# ── The owner is never made to wait ──────────────────────────────────────────────────────────────
def hindered_by_nothing(cast):
    pass


def hindered_by_our_pause(cast):
    experts.suspend(cast.experts["code"], by=cast.edda, at=cast.later(), reason="fault")


def hindered_by_notice_we_gave(cast):
    put(cast, Instrument.TERMINATE, by=cast.cato)


def hindered_by_an_ended_licence(cast):
    licences.end(cast.licences["code"], instrument=Instrument.REVOKE, by=cast.cato, at=cast.later())


def hindered_by_a_wind_down(cast):
    licences.end(
        cast.licences["code"], instrument=Instrument.TERMINATE, by=cast.cato, at=cast.later()
    )


@pytest.mark.parametrize(
    "hindrance",
    [
        hindered_by_nothing,
        hindered_by_our_pause,
        hindered_by_notice_we_gave,
        hindered_by_an_ended_licence,
        hindered_by_a_wind_down,
    ],
)
def test_whatever_staff_did_the_owners_withdrawal_disables_at_once(hindrance):
    cast = served(notice_days=30, wind_down_days=30)
    used(cast)
    hindrance(cast)
    withdrawal = story.withdraw(cast, "code")
    assert withdrawal.committed_at == cast.at
    assert withdrawal.ending.effective_at == cast.at
    assert Why.WITHDRAWN in ask(cast)


def test_an_owner_pauses_what_staff_paused_and_staff_cannot_lift_the_owners_pause():
    cast = served()
    expert = cast.experts["code"]
    experts.suspend(expert, by=cast.edda, at=cast.later(), reason="fault")
    experts.suspend(expert, by=cast.ada, at=cast.later(), reason="ours")
    experts.resume(expert, by=cast.edda, at=cast.later())
    assert Why.SUSPENDED in ask(cast)
    with pytest.raises(NotPermitted):
        experts.resume(expert, by=cast.cato, at=cast.later())
    with pytest.raises(NotPermitted):
        experts.resume(expert, by=None, at=cast.later())
    assert experts.resume(expert, by=cast.ada, at=cast.later()).state == ExpertState.ACTIVE
    assert ask(cast) == ()


def test_an_owner_cannot_lift_our_pause():
    cast = served()
    expert = cast.experts["code"]
    experts.suspend(expert, by=cast.cato, at=cast.later(), reason="dispute")
    with pytest.raises(NotPermitted):
        experts.resume(expert, by=cast.ada, at=cast.later())


def test_an_owners_pause_before_activation_holds_after_it():
    cast = story.meet()
    story.served(cast, "languages")
    expert = story.grant(cast, "code")
    experts.suspend(expert, by=cast.ada, at=cast.later(), reason="not yet")
    story.served(cast, "code")
    assert Why.SUSPENDED in ask(cast)
    experts.resume(expert, by=cast.ada, at=cast.later())
    assert ask(cast) == ()


def test_an_owner_pauses_and_ends_its_own_licence_at_once():
    cast = served(notice_days=90, wind_down_days=90)
    used(cast)
    licence = cast.licences["code"]
    licences.end(licence, instrument=Instrument.TERMINATE, by=cast.cato, at=cast.later())
    assert ask(cast) == ()
    licences.end(licence, instrument=Instrument.WITHDRAW, by=cast.ada, at=cast.later())
    assert Why.WITHDRAWN in ask(cast)


# ── Scope ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("instrument", [Instrument.SUSPEND, Instrument.WITHDRAW, Instrument.REVOKE])
def test_a_narrower_scope_disables_just_that_and_erases_nothing(instrument):
    cast = served()
    scope = Scope.of(purposes=["education"])
    done = put(cast, instrument, by=cast.cato, scope=scope)
    assert done.withdrawal is None
    assert not done.ending.erases
    assert ask(cast, purpose="education")
    assert ask(cast, purpose="teaching")
    assert ask(cast, purpose="research") == ()
    assert not FollowUp.objects.filter(kind=FollowUpKind.ERASE).exists()
    assert not Withdrawal.objects.exists()


def test_a_consumer_can_be_taken_out_alone():
    cast = served()
    nova = consumers.register("Nova", territory="NL", by=cast.cato, at=cast.later())
    put(cast, Instrument.WITHDRAW, by=cast.ada, scope=Scope.of(consumers=[nova.slug]))
    assert Why.WITHDRAWN in ask(cast, consumer=nova.slug)
    assert ask(cast) == ()


def test_a_narrow_ending_of_a_licence_leaves_the_rest_in_force():
    cast = served()
    licence = cast.licences["code"]
    scope = Scope.of(purposes=["education"])
    licences.end(licence, instrument=Instrument.REVOKE, by=cast.cato, at=cast.later(), scope=scope)
    assert ask(cast, purpose="education")
    assert ask(cast) == ()
    assert Licence.objects.in_force(cast.later()).filter(pk=licence.pk).exists()
    licence.refresh_from_db()
    assert licence.stops_at is None


def test_withdrawing_everything_after_a_part_still_withdraws_everything():
    cast = served()
    part = consent.withdraw(
        cast.experts["code"],
        by=cast.ada,
        at=cast.later(),
        method="tests",
        scope=Scope.of(purposes=["education"]),
    )
    assert isinstance(part, Ending)
    assert Why.WITHDRAWN not in ask(cast)
    story.withdraw(cast, "code")
    assert Why.WITHDRAWN in ask(cast)
    assert Withdrawal.objects.get().ending != part


def test_the_same_part_twice_is_one_ending_and_one_event():
    cast = served()
    scope = Scope.of(purposes=["education"])
    first = put(cast, Instrument.WITHDRAW, by=cast.ada, scope=scope)
    before = (StagedEvent.objects.count(), PolicySnapshot.objects.count())
    assert put(cast, Instrument.WITHDRAW, by=cast.ada, scope=scope).ending == first.ending
    assert (StagedEvent.objects.count(), PolicySnapshot.objects.count()) == before


def test_a_paused_part_resumes_and_the_whole_pause_is_lifted_first():
    cast = served()
    expert = cast.experts["code"]
    scope = Scope.of(purposes=["education"])
    experts.suspend(expert, by=cast.cato, at=cast.later(), reason="r", scope=scope)
    experts.suspend(expert, by=cast.cato, at=cast.later(), reason="r")
    experts.resume(expert, by=cast.cato, at=cast.later())
    assert ask(cast) == ()
    assert ask(cast, purpose="education")
    experts.resume(expert, by=cast.cato, at=cast.later())
    assert ask(cast, purpose="education") == ()
    with pytest.raises(UnlawfulMove):
        experts.resume(expert, by=cast.cato, at=cast.later())


@pytest.mark.parametrize(
    "scope", [Scope(purposes=("astrology",)), Scope(consumers=("nobody",)), Scope(purposes=())]
)
def test_a_scope_that_names_what_is_not_there_is_refused(scope):
    cast = served()
    with pytest.raises(InvalidTerms):
        put(cast, Instrument.WITHDRAW, by=cast.ada, scope=scope)
    assert ask(cast) == ()


# ── Notice and wind-down ─────────────────────────────────────────────────────────────────────────
def test_during_the_notice_nothing_changes_then_existing_consumers_wind_down_then_nobody():
    cast = served(notice_days=10, wind_down_days=20)
    nova = consumers.register("Nova", territory="NL", by=cast.cato, at=cast.later())
    used(cast)
    given_at = cast.later()
    ending = licences.end(
        cast.licences["code"], instrument=Instrument.TERMINATE, by=cast.cato, at=given_at
    )
    assert ending.wind_down_consumers == ["dara"]

    def who_may(days):
        at = given_at + timedelta(days=days)
        return {one for one in ("dara", nova.slug) if not ask(cast, at=at, consumer=one)}

    assert who_may(9) == {"dara", nova.slug}
    assert who_may(11) == {"dara"}
    assert who_may(29) == {"dara"}
    assert who_may(31) == set()


def test_a_consumer_that_came_after_the_notice_may_not_wind_down():
    cast = served(notice_days=10, wind_down_days=20)
    given_at = cast.later()
    licences.end(cast.licences["code"], instrument=Instrument.TERMINATE, by=cast.cato, at=given_at)
    used(cast, days_ago=-1)
    snapshots.publish(reason="tests", at=cast.later())
    assert ask(cast, at=given_at + timedelta(days=9)) == ()
    assert ask(cast, at=given_at + timedelta(days=11))


def test_a_licence_that_winds_down_is_in_force_until_the_last_day():
    cast = served(notice_days=10, wind_down_days=20)
    licence = cast.licences["code"]
    at = cast.later()
    licences.end(licence, instrument=Instrument.TERMINATE, by=cast.cato, at=at)
    for days, is_in_force in ((9, True), (29, True), (31, False)):
        found = Licence.objects.in_force(at + timedelta(days=days)).filter(pk=licence.pk)
        assert found.exists() == is_in_force, days
    licence.refresh_from_db()
    assert licence.stops_at == at + timedelta(days=30)


def test_a_wind_down_never_outlasts_the_written_end():
    cast = served(notice_days=1, wind_down_days=90, ends_at=factories.after(days=5))
    used(cast)
    licences.end(
        cast.licences["code"], instrument=Instrument.TERMINATE, by=cast.cato, at=cast.later()
    )
    assert ask(cast, at=factories.after(days=4)) == ()
    assert ask(cast, at=factories.after(days=6))


def test_a_pause_reaches_those_who_wind_down():
    cast = served(notice_days=1, wind_down_days=90)
    used(cast)
    licence = cast.licences["code"]
    licences.end(licence, instrument=Instrument.TERMINATE, by=cast.cato, at=cast.later())
    licences.end(licence, instrument=Instrument.SUSPEND, by=cast.cato, at=cast.later())
    assert ask(cast, at=factories.after(days=4))


def test_notice_for_an_expert_bites_by_itself_and_erases_when_carried_out():
    cast = served(notice_days=14)
    given_at = cast.later()
    done = put(cast, Instrument.TERMINATE, by=cast.ada, at=given_at)
    assert done.withdrawal is None
    assert done.ending.erases
    assert ask(cast, at=given_at + timedelta(days=13)) == ()
    assert ask(cast, at=given_at + timedelta(days=15))
    assert effects.carry_out_notices(at=given_at + timedelta(days=13)) == []
    after_it = given_at + timedelta(days=15)
    assert effects.carry_out_notices(at=after_it) == ["code"]
    assert effects.carry_out_notices(at=after_it) == []
    withdrawal = Withdrawal.objects.get()
    assert withdrawal.ending == done.ending
    assert withdrawal.instrument == Instrument.TERMINATE


# ── Preview ──────────────────────────────────────────────────────────────────────────────────────
def test_a_preview_says_whom_it_reaches_and_writes_nothing():
    cast = served()
    lease = factories.lease()
    used(cast, incarnation=lease, gw_seq=1, prompt_tokens=10, completion_tokens=5)
    used(cast, incarnation=lease, gw_seq=2, days_ago=45, prompt_tokens=999)
    before = (StagedEvent.objects.count(), Ending.objects.count())
    shown = effects.preview(cast.experts["code"], instrument=Instrument.WITHDRAW, at=cast.later())
    assert [(one.slug, one.requests, one.tokens) for one in shown.consumers] == [("dara", 1, 15)]
    assert shown.erases
    assert shown.builds
    text = " ".join(shown.sentences)
    assert "at once" in text
    assert "erased" in text
    assert (StagedEvent.objects.count(), Ending.objects.count()) == before


def test_a_preview_of_a_part_says_that_nothing_is_erased_and_counts_only_that_part():
    cast = served()
    lease = factories.lease()
    used(cast, incarnation=lease, gw_seq=1, purpose="teaching")
    used(cast, incarnation=lease, gw_seq=2, purpose="research")
    shown = effects.preview(
        cast.experts["code"],
        instrument=Instrument.WITHDRAW,
        at=cast.later(),
        scope=Scope.of(purposes=["education"]),
    )
    assert (shown.requests, shown.erases, shown.builds) == (1, False, ())
    assert "Disabled, not erased" in " ".join(shown.sentences)


def test_a_preview_of_a_termination_names_both_days():
    cast = served(notice_days=10, wind_down_days=20)
    used(cast)
    at = cast.later()
    shown = effects.preview(cast.licences["code"], instrument=Instrument.TERMINATE, at=at)
    assert shown.disabled_at == at + timedelta(days=10)
    assert shown.wind_down_until == at + timedelta(days=30)
    assert [one.may_wind_down for one in shown.consumers] == [True]
    done = licences.end(cast.licences["code"], instrument=Instrument.TERMINATE, by=cast.cato, at=at)
    assert (done.effective_at, done.wind_down_until) == (shown.disabled_at, shown.wind_down_until)
