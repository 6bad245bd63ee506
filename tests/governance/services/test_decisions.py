"""Decision records and what auditors ask of them: replayed to the byte, answered in one query."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection

from governance import selectors
from governance.models import DecisionRecord, PolicySnapshot
from governance.policy.decide import decide
from governance.policy.types import Ask, Snapshot
from governance.services import decisions, licences, snapshots
from governance.services.effects.scope import Scope
from governance.vocabulary import Instrument, Purpose, Why
from tests import cast as story
from tests.factories import digest_of

pytestmark = pytest.mark.django_db

ASK = Ask("dara", "research", "NL")


@pytest.fixture
def cast():
    cast = story.meet()
    story.served(cast)
    return cast


def recorded(cast, ask: Ask = ASK, **more) -> DecisionRecord:
    snapshot, at = snapshots.current(), more.pop("at", None) or cast.later()
    exhausted = more.get("exhausted", frozenset())
    return decisions.record(
        decide(snapshot, ask, at, exhausted=exhausted),
        decision_id=uuid4(),
        ask=ask,
        snapshot=snapshot,
        path="gateway/chat",
        requested_by="abc12345",
        labels={"gateway": "g1"},
        at=at,
        **more,
    )


def stored(record: DecisionRecord) -> DecisionRecord:
    return DecisionRecord.objects.get(pk=record.pk)


def test_a_record_names_the_licence_behind_each_expert_and_what_it_leaves_out(cast):
    record = stored(recorded(cast, metrics={"timer_decide_ns": 9}))
    allowed = record.result["allowed"]
    assert allowed
    assert sorted(record.result["licences"]) == sorted(allowed)
    assert record.erased == ["/input/messages"]
    assert record.masked == ["/requested_by"]
    assert record.metrics == {"timer_decide_ns": 9}


def test_a_decision_decided_again_gives_the_same_bytes(cast):
    exhausted = frozenset(recorded(cast).result["licences"].values())
    for record in (
        recorded(cast),
        recorded(cast, Ask("dara", "commercial", "NL")),
        recorded(cast, Ask("nobody", "research", "ZZ", require=frozenset({"code"}))),
        recorded(cast, exhausted=exhausted),
    ):
        again = decisions.replay(stored(record))
        assert (again.is_same, again.policy_is_same) == (True, True)
        assert again.decided == record.result


def test_a_later_policy_does_not_change_what_a_replay_answers(cast):
    record = recorded(cast)
    story.withdraw(cast, "code")
    assert decisions.replay(stored(record)).is_same


@pytest.mark.parametrize("field", ["allowed", "denied", "licences", "is_permitted"])
def test_an_answer_that_was_tampered_with_is_not_the_same(cast, field):
    record = recorded(cast)
    record.result[field] = {"code": "L-forged"}
    assert not decisions.replay(record).is_same


def test_a_question_that_was_tampered_with_does_not_give_the_answer(cast):
    record = recorded(cast)
    record.input["purpose"] = "advertising"
    assert not decisions.replay(record).is_same


def test_a_policy_that_is_gone_or_another_is_said_to_be(cast):
    record = recorded(cast)
    record.bundles = {"licences": {"revision": f"{record.policy_epoch}+sha256:{digest_of('x')}"}}
    assert not decisions.replay(record).policy_is_same
    record.policy_epoch = 10_000
    again = decisions.replay(record)
    assert (again.is_same, again.decided) == (False, None)


# ── What auditors ask ────────────────────────────────────────────────────────────────────────────
def test_which_licence_covered_decision_d_is_one_query(cast, django_assert_num_queries):
    record = recorded(cast)
    with django_assert_num_queries(1):
        found = selectors.licences_behind(record.pk)
    assert {one.expert: one.licence for one in found} == record.result["licences"]
    assert all(one.owner and one.corpus and one.terms_digest for one in found)
    assert selectors.licences_behind(uuid4()) == ()


def test_what_was_in_force_on_a_date_is_one_query(cast, django_assert_num_queries):
    at = cast.later()
    with django_assert_num_queries(1):
        everything = [one.reference for one in selectors.in_force_on(at)]
    with django_assert_num_queries(1):
        behind = list(selectors.in_force_on(at, expert="code"))
    assert [one.reference for one in behind] == [
        reference for reference in everything if reference == behind[0].reference
    ]
    corpus = behind[0].corpus.slug
    assert list(selectors.in_force_on(at, corpus=corpus)) == behind
    assert not selectors.in_force_on(at - timedelta(days=4000)).exists()


def test_why_an_expert_was_not_used_in_a_decision_is_one_query(cast, django_assert_num_queries):
    record = recorded(cast, Ask("dara", "education", "NL"))
    with django_assert_num_queries(1):
        found = selectors.why_not_in(record.pk, "code")
    assert found.why == (Why.PURPOSE,)
    assert "does not cover this purpose" in found.sentence
    assert selectors.why_not_in(record.pk, "ghost").why == (Why.UNKNOWN_EXPERT,)
    assert selectors.why_not_in(record.pk, "public").why == ()
    assert selectors.why_not_in(uuid4(), "code") is None


def test_an_expert_that_fits_is_left_out_when_the_whole_request_is_denied(cast):
    ask = Ask("dara", "research", "NL", require=frozenset({"ghost"}))
    record = recorded(cast, ask)
    name = decide(snapshots.current(), ASK, record.timestamp).allowed[0].name
    assert selectors.why_not_in(record.pk, name).why == (Why.UNKNOWN_EXPERT,)


def test_why_an_ask_could_not_use_an_expert_at_t_is_one_query(cast, django_assert_num_queries):
    before = cast.later()
    story.withdraw(cast, "code")
    after = cast.later()
    with django_assert_num_queries(1):
        assert selectors.why_not(ASK, "code", before).why == ()
    with django_assert_num_queries(1):
        assert Why.WITHDRAWN in selectors.why_not(ASK, "code", after).why
    assert selectors.why_not(ASK, "ghost", after).why == (Why.UNKNOWN_EXPERT,)
    assert selectors.why_not(ASK, "code", before - timedelta(days=9000)) is None


def test_decisions_are_found_by_what_they_say(cast):
    mine = recorded(cast)
    other = recorded(cast, Ask("erik", "education", "FR"))
    assert list(selectors.recorded()) == [other, mine]
    assert list(selectors.recorded(consumer="dara")) == [mine]
    assert list(selectors.recorded(purpose="education")) == [other]
    assert set(selectors.recorded(expert="code")) == {mine, other}
    assert list(selectors.recorded(expert="ghost")) == []
    assert list(selectors.recorded(policy_epoch=mine.policy_epoch + 1)) == []
    assert list(selectors.recorded(since=other.timestamp)) == [other]
    assert list(selectors.recorded(until=other.timestamp)) == [mine]


# ── Snapshots carry every term ───────────────────────────────────────────────────────────────────
def test_every_term_policy_heeds_reaches_the_snapshot(cast):
    expert = story.grant(
        cast,
        "wide",
        purposes=[Purpose.RESEARCH],
        prohibited_purposes=[Purpose.INDUSTRIAL_RESEARCH],
        prohibited_uses=["distil"],
        territories=["EEA"],
        excluded_territories=["FR"],
        recipient_classes=["education"],
        sectors=["M", "P"],
        excluded_sectors=["K"],
        expert_digest=digest_of("wide r1"),
    )
    build = PolicySnapshot.objects.filter(build__isnull=False).first().build
    build.experts = [*build.experts, {"name": expert.name, "digest": digest_of("wide r1")}]
    grant = next(one for one in snapshots.grants(build, cast.later()) if one.expert == "wide")
    assert grant.prohibited_purposes == {Purpose.INDUSTRIAL_RESEARCH}
    assert "NO" in grant.territories
    assert "FR" in grant.excluded_territories
    assert grant.recipient_classes == {"education"}
    assert (grant.sectors, grant.excluded_sectors) == ({"M", "P"}, {"K"})
    assert grant.prohibited_uses == {"distil"}
    assert grant.revision == digest_of("wide r1")


def test_an_ending_of_some_purposes_leaves_the_others(cast):
    licence = selectors.in_force_on(cast.later(), expert="code").get()
    licences.end(
        licence,
        instrument=Instrument.TERMINATE,
        reason="less",
        scope=Scope.of([Purpose.RESEARCH]),
        by=cast.cato,
        at=cast.at,
    )
    at = cast.later()
    snapshot = Snapshot.from_body(PolicySnapshot.objects.first().body)
    assert decide(snapshot, ASK, at).denied["code"] == (Why.EXPIRED,)
    below = Ask("dara", "academic_research", "NL")
    assert decide(snapshot, below, at).denied["code"] == (Why.EXPIRED,)


def test_a_consumer_is_found_through_an_index(cast):
    recorded(cast)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        plan = selectors.recorded(consumer="dara").order_by("-timestamp").explain()
    assert "decision_by_consumer" in plan
    assert "Filter: " not in plan
