"""What would change: recorded requests against a policy that is not in force."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from uuid import uuid4

import pytest

from governance.errors import NotFound, UnlawfulMove
from governance.models import DecisionRecord, Licence, PolicySnapshot, StagedEvent
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import decisions, licences, shadows, snapshots, whatif
from governance.services.whatif import ConsumerEffect, Ended, ExpertEffect, Proposed, Removed
from governance.vocabulary import Instrument, Purpose
from tests import cast as story

pytestmark = pytest.mark.django_db

RESEARCH = Ask("dara", "research", "NL")
TEACHING = Ask("dara", "teaching", "NL")


@pytest.fixture
def cast():
    cast = story.meet()
    story.served(cast, "code", "languages")
    return cast


def asked(cast, ask: Ask, times: int = 1) -> None:
    snapshot = snapshots.current()
    for _ in range(times):
        at = cast.later()
        decisions.record(
            decide(snapshot, ask, at),
            decision_id=uuid4(),
            ask=ask,
            snapshot=snapshot,
            path="gateway/chat",
            requested_by="abc12345",
            labels={},
            at=at,
        )


def effect(cast, change, **more) -> whatif.Effect:
    at = cast.later()
    given = {"since": at - timedelta(days=30), "until": at, "by": None} | more
    return whatif.effect(change, **given)


def licence_of(name: str) -> Licence:
    return Licence.objects.agreed().get(corpus__experts__name=name)


def ended(cast, **fields) -> Ended:
    return Ended(instrument=Instrument.TERMINATE, effective_at=cast.at, **fields)


def test_a_licence_taken_away_loses_its_expert_in_every_request_that_used_it(cast):
    asked(cast, RESEARCH, 3)
    asked(cast, TEACHING, 2)
    found = effect(cast, Removed(licence_of("code").reference))
    assert (found.requests, found.asked_alike, found.left_out) == (5, 2, 0)
    assert found.changed == 3
    assert found.experts == (ExpertEffect("code", gained=0, lost=3),)
    assert found.consumers == (ConsumerEffect("dara", 5, 3, refused=0, admitted=0),)


def test_a_request_that_requires_the_expert_would_be_refused(cast):
    asked(cast, dataclasses.replace(RESEARCH, require=frozenset({"code"})))
    found = effect(cast, ended(cast, licence=licence_of("code").reference))
    assert found.consumers == (ConsumerEffect("dara", 1, 1, refused=1, admitted=0),)
    assert {one.expert for one in found.experts} == {"code", "languages"}


def test_an_ending_with_a_scope_changes_only_what_it_names(cast):
    asked(cast, RESEARCH, 2)
    asked(cast, Ask("dara", "academic_research", "NL"))
    reference = licence_of("code").reference
    elsewhere = ended(cast, licence=reference, purposes=frozenset({Purpose.COMMERCIAL}))
    below = ended(cast, licence=reference, purposes=frozenset({Purpose.ACADEMIC_RESEARCH}))
    others = ended(cast, licence=reference, consumers=frozenset({"erik"}))
    assert effect(cast, elsewhere).changed == 0
    assert effect(cast, below).changed == 1
    assert effect(cast, others).changed == 0
    assert effect(cast, ended(cast, expert="code")).changed == 3


def test_a_proposed_licence_wins_its_expert_for_new_purposes_even_before_it_begins(cast):
    asked(cast, TEACHING, 4)
    corpus = licence_of("code").corpus
    terms = licences.Terms(
        uses=["answer"], purposes=["education"], starts_at=cast.at + timedelta(days=90)
    )
    found = effect(cast, Proposed(corpus, terms))
    assert found.experts == (ExpertEffect("code", gained=4, lost=0),)
    assert found.as_of == terms.starts_at


def test_a_proposed_prohibition_loses_what_other_licences_grant(cast):
    asked(cast, RESEARCH)
    licence = licence_of("code")
    terms = licences.Terms(
        uses=["train"],
        purposes=[],
        prohibited_purposes=["research"],
        starts_at=cast.at,
    )
    assert effect(cast, Proposed(licence.corpus, terms)).experts == (
        ExpertEffect("code", gained=0, lost=1),
    )


def test_only_the_newest_decisions_of_the_period_count_and_the_rest_is_told(cast):
    asked(cast, TEACHING, 2)
    asked(cast, RESEARCH, 3)
    reference = licence_of("code").reference
    found = effect(cast, Removed(reference), newest=3)
    assert (found.requests, found.left_out, found.changed) == (3, 2, 3)
    newest = DecisionRecord.objects.first().timestamp
    assert effect(cast, Removed(reference), since=newest).requests == 1
    assert effect(cast, Removed(reference), until=newest).requests == 4


def test_an_owner_sees_what_happens_to_its_own_experts_alone(cast):
    asked(cast, dataclasses.replace(RESEARCH, require=frozenset({"code"})))
    change = ended(cast, licence=licence_of("code").reference)
    owner = licence_of("code").corpus.owner
    mine, theirs = (cast.ada, cast.bela) if owner == cast.alder else (cast.bela, cast.ada)
    assert {one.expert for one in effect(cast, change, by=mine).experts} >= {"code"}
    assert "code" not in {one.expert for one in effect(cast, change, by=theirs).experts}
    assert effect(cast, change, by=cast.cato).experts == effect(cast, change).experts


def test_nothing_is_written_and_nothing_is_published(cast, django_assert_num_queries):
    asked(cast, RESEARCH, 2)
    before = (PolicySnapshot.objects.count(), StagedEvent.objects.count())
    effect(cast, ended(cast, expert="code"))
    assert (PolicySnapshot.objects.count(), StagedEvent.objects.count()) == before


def test_as_many_queries_for_many_requests_as_for_few(cast, django_assert_max_num_queries):
    change = ended(cast, expert="code")
    asked(cast, RESEARCH)
    with django_assert_max_num_queries(40) as few:
        effect(cast, change)
    asked(cast, TEACHING, 5)
    with django_assert_max_num_queries(len(few)):
        effect(cast, change)


@pytest.mark.parametrize("field", ["licence", "expert"])
def test_what_is_not_in_policy_cannot_end_there(cast, field):
    with pytest.raises(NotFound, match="nothing of it can end"):
        effect(cast, ended(cast, **{field: "ghost"}))


# ── On trial ─────────────────────────────────────────────────────────────────────────────────────
def proposed(cast) -> Licence:
    terms = licences.Terms(uses=["answer"], purposes=["education"], starts_at=cast.at)
    return licences.request(licence_of("code").corpus, terms=terms, by=cast.cato, at=cast.later())


def test_a_licence_on_trial_shows_what_it_would_have_changed_since_and_changes_nothing(cast):
    licence = proposed(cast)
    asked(cast, TEACHING, 2)
    shadow = shadows.start(licence, by=cast.cato, at=cast.later())
    asked(cast, TEACHING, 3)
    assert "code" not in DecisionRecord.objects.first().result["allowed"]
    found = shadows.seen(shadow, by=cast.cato, at=cast.later())
    assert found.experts == (ExpertEffect("code", gained=3, lost=0),)
    over = shadows.end(licence, by=cast.celia, at=cast.later())
    asked(cast, TEACHING)
    assert shadows.seen(over, by=cast.cato, at=cast.later()).requests == 3


def test_each_act_of_a_trial_stages_one_event(cast):
    licence = proposed(cast)
    for act, account in ((shadows.start, cast.cato), (shadows.end, cast.celia)):
        before = StagedEvent.objects.count()
        act(licence, by=account, at=cast.later())
        assert StagedEvent.objects.count() == before + 1


def test_only_what_waits_can_be_on_trial_and_only_once(cast):
    with pytest.raises(UnlawfulMove, match="wait for a decision"):
        shadows.start(licence_of("code"), by=cast.cato, at=cast.later())
    licence = proposed(cast)
    shadows.start(licence, by=cast.cato, at=cast.later())
    with pytest.raises(UnlawfulMove, match="on trial"):
        shadows.start(licence, by=cast.cato, at=cast.later())
    shadows.end(licence, by=cast.cato, at=cast.later())
    with pytest.raises(NotFound):
        shadows.end(licence, by=cast.cato, at=cast.later())
