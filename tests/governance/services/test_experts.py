"""Experts: covered before they are trained, found out about before they are activated, by two."""

import pytest

from governance.errors import FourEyes, InvalidTerms, NotCovered, UnlawfulMove
from governance.models import Anchor, ExpertRevision, Finding, FollowUp
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import consent, experts, licences, snapshots
from governance.vocabulary import ExpertState, FollowUpKind, Instrument, RevisionState, Verdict, Why
from tests import cast as story
from tests import factories
from tests.factories import digest_of

pytestmark = pytest.mark.django_db
ASK = Ask("dara", "research", "NL")


@pytest.fixture
def cast():
    return story.meet()


def state(expert):
    expert.refresh_from_db()
    return expert.state


def submit(cast, expert, text="first"):
    return experts.submit(
        expert,
        digest=digest_of(text),
        weights_digest=digest_of(f"{text} weights"),
        anchor=story.anchor(cast),
        size_bytes=1,
        by=cast.edda,
        at=cast.later(),
    )


def propose(cast, name, *, owner=None, corpus=None):
    corpus = corpus or factories.corpus(owner=cast.alder)
    owner = owner or corpus.owner
    return experts.propose(
        name, title="T", owner=owner, corpus=corpus, by=cast.edda, at=cast.later()
    )


def denied(cast, name):
    return decide(snapshots.current(), ASK, cast.later()).denied.get(name, ())


@pytest.mark.parametrize("name", ["", "Code", "co de", "-code", "public", "9lives", "a" * 64])
def test_odd_and_reserved_names_are_refused(cast, name):
    with pytest.raises(InvalidTerms) as refusal:
        propose(cast, name)
    assert "name" in refusal.value.fields


def test_a_name_is_given_once_and_a_corpus_only_by_its_owner(cast):
    propose(cast, "code")
    with pytest.raises(InvalidTerms):
        propose(cast, "code")
    with pytest.raises(InvalidTerms) as refusal:
        propose(cast, "letters", owner=cast.birch, corpus=factories.corpus(owner=cast.alder))
    assert list(refusal.value.fields) == ["corpus"]


def test_an_anchor_is_registered_once_by_digest(cast):
    assert story.anchor(cast) == story.anchor(cast)
    assert Anchor.objects.count() == 1


def test_nothing_is_trained_or_taken_in_without_consent(cast):
    expert = propose(cast, "code")
    factories.licence(corpus=expert.corpus)
    for act in (
        lambda: submit(cast, expert),
        lambda: experts.order_training(expert, order={}, by=cast.edda, at=cast.later()),
    ):
        with pytest.raises(NotCovered, match="consent"):
            act()


def test_nothing_is_trained_or_taken_in_without_a_licence_in_force(cast):
    expert = story.grant(cast, "code")
    licences.end(cast.licences["code"], instrument=Instrument.REVOKE, by=cast.cato, at=cast.later())
    for act in (
        lambda: submit(cast, expert),
        lambda: experts.order_training(expert, order={}, by=cast.edda, at=cast.later()),
    ):
        with pytest.raises(NotCovered, match="licence"):
            act()


def test_a_licence_to_answer_alone_does_not_let_us_train(cast):
    expert = story.grant(cast, "code", uses=["answer"])
    with pytest.raises(NotCovered):
        submit(cast, expert)


def test_a_submission_is_verified_next_and_taken_in_once(cast):
    expert = story.grant(cast, "code")
    revision = submit(cast, expert)
    assert submit(cast, expert) == revision
    assert (revision.number, state(expert)) == (1, ExpertState.IN_REVIEW)
    verify = FollowUp.objects.get()
    assert (verify.kind, verify.subject_id) == (FollowUpKind.VERIFY, revision.pk)
    assert verify.order["digest"] == digest_of("first")


def test_a_refused_revision_makes_room_for_a_better_one(cast):
    expert = story.grant(cast, "code")
    revision = submit(cast, expert)
    experts.record_refused(revision, report={"refusals": ["NaN"]}, at=cast.later())
    experts.record_verified(revision, report={}, at=cast.later())
    revision.refresh_from_db()
    assert (revision.state, state(expert)) == (RevisionState.REFUSED, ExpertState.REJECTED)
    assert submit(cast, expert, "second").number == 2
    assert state(expert) == ExpertState.IN_REVIEW


def test_the_audit_of_what_was_trained_here_knows_its_text(cast):
    expert = story.grant(cast, "code")
    order = {"corpus_path": "/c/train", "heldout_path": "/c/heldout", "recipe": {}}
    experts.order_training(expert, order=order, by=cast.edda, at=cast.later())
    experts.record_verified(submit(cast, expert), report={}, at=cast.later())
    audit = FollowUp.objects.get(kind=FollowUpKind.AUDIT)
    assert (audit.order["members_path"], audit.order["controls_path"]) == (
        "/c/train",
        "/c/heldout",
    )
    assert audit.order["windows"] == 300


def test_the_audit_of_an_upload_waits_for_somebody_who_knows_the_text(cast):
    revision = submit(cast, story.grant(cast, "code"))
    with pytest.raises(UnlawfulMove):
        experts.order_audit(revision, order={}, by=cast.edda, at=cast.later())
    experts.record_verified(revision, report={}, at=cast.later())
    assert not FollowUp.objects.filter(kind=FollowUpKind.AUDIT).exists()
    order = {"members_path": "m", "controls_path": "c", "seed": 9}
    row = experts.order_audit(revision, order=order, by=cast.edda, at=cast.later())
    assert row.order == {"members_path": "m", "controls_path": "c", "seed": 9, "windows": 300}


@pytest.mark.parametrize(
    ("verdict", "revision_state", "expert_state"),
    [
        (Verdict.PASS, RevisionState.AUDITED, ExpertState.READY),
        (Verdict.REVIEW, RevisionState.VERIFIED, ExpertState.IN_REVIEW),
        (Verdict.INVALID, RevisionState.VERIFIED, ExpertState.IN_REVIEW),
        (Verdict.FAIL, RevisionState.VERIFIED, ExpertState.REJECTED),
    ],
)
def test_a_verdict_puts_expert_and_revision_in_their_place(
    cast, verdict, revision_state, expert_state
):
    expert = story.grant(cast, "code")
    revision = submit(cast, expert)
    experts.record_verified(revision, report={}, at=cast.later())
    story.audit(cast, revision, verdict)
    revision.refresh_from_db()
    assert (revision.state, state(expert)) == (revision_state, expert_state)


def test_a_failed_audit_can_be_run_again_and_passed(cast):
    expert = story.grant(cast, "code")
    revision = submit(cast, expert)
    experts.record_verified(revision, report={}, at=cast.later())
    story.audit(cast, revision, Verdict.FAIL)
    story.audit(cast, revision)
    assert state(expert) == ExpertState.READY
    story.audit(cast, revision, Verdict.FAIL)
    assert state(expert) == ExpertState.REJECTED
    revision.refresh_from_db()
    with pytest.raises(UnlawfulMove):
        experts.request_activation(revision, by=cast.edda, at=cast.later())


def test_activation_takes_two_people(cast):
    revision = story.contribute(cast, story.grant(cast, "code"))
    experts.request_activation(revision, by=cast.cato, at=cast.later())
    for act in (experts.approve_activation, experts.reject_activation):
        with pytest.raises(FourEyes):
            act(revision, by=cast.cato, at=cast.later())
    experts.approve_activation(revision, by=cast.celia, at=cast.later())
    assert state(cast.experts["code"]) == ExpertState.ACTIVE


def test_a_rejected_activation_may_be_asked_for_again_by_whoever_rejected_it(cast):
    revision = story.contribute(cast, story.grant(cast, "code"))
    experts.request_activation(revision, by=cast.edda, at=cast.later())
    experts.reject_activation(revision, by=cast.cato, at=cast.later())
    experts.request_activation(revision, by=cast.cato, at=cast.later())
    experts.approve_activation(revision, by=cast.celia, at=cast.later())
    revision.refresh_from_db()
    assert revision.state == RevisionState.ACTIVATED


def test_what_has_no_passed_audit_cannot_be_activated(cast):
    revision = submit(cast, story.grant(cast, "code"))
    with pytest.raises(UnlawfulMove):
        experts.request_activation(revision, by=cast.edda, at=cast.later())
    with pytest.raises(UnlawfulMove):
        experts.approve_activation(revision, by=cast.cato, at=cast.later())


def test_activation_needs_cover_on_the_day(cast):
    revision = story.contribute(cast, story.grant(cast, "code"))
    experts.request_activation(revision, by=cast.edda, at=cast.later())
    licences.end(cast.licences["code"], instrument=Instrument.REVOKE, by=cast.cato, at=cast.later())
    with pytest.raises(NotCovered):
        experts.approve_activation(revision, by=cast.cato, at=cast.later())


def test_an_active_expert_serves_while_its_next_revision_is_made_and_swapped_in(cast):
    story.served(cast, "code")
    expert = cast.experts["code"]
    second = story.contribute(cast, expert, text="second")
    assert state(expert) == ExpertState.ACTIVE
    assert denied(cast, "code") == ()
    build = story.activate(cast, second)
    assert denied(cast, "code") == ()
    story.promote(cast, build)
    assert denied(cast, "code") == ()
    states = dict(ExpertRevision.objects.values_list("number", "state"))
    assert states == {1: RevisionState.SUPERSEDED, 2: RevisionState.ACTIVATED}
    assert snapshots.current().experts[0].digest == digest_of("code second")


def test_a_worse_audit_of_what_serves_darkens_it_at_once(cast):
    story.served(cast, "code")
    epoch = snapshots.current().policy_epoch
    story.audit(cast, cast.experts["code"].revisions.get(), Verdict.FAIL)
    assert snapshots.current().policy_epoch == epoch + 1
    assert Why.AUDIT in denied(cast, "code")
    assert Finding.objects.count() == 2


def test_a_suspension_darkens_and_resuming_lights_again(cast):
    story.served(cast)
    expert = cast.experts["code"]
    experts.suspend(expert, by=cast.cato, at=cast.later(), reason="dispute")
    experts.suspend(expert, by=cast.cato, at=cast.later(), reason="again")
    assert Why.SUSPENDED in denied(cast, "code")
    assert denied(cast, "languages") == ()
    experts.resume(expert, by=cast.cato, at=cast.later())
    assert denied(cast, "code") == ()
    with pytest.raises(UnlawfulMove):
        experts.resume(expert, by=cast.cato, at=cast.later())


def test_only_an_active_expert_is_suspended(cast):
    with pytest.raises(UnlawfulMove):
        experts.suspend(story.grant(cast, "code"), by=cast.cato, at=cast.later(), reason="r")


def test_consent_that_was_revoked_by_us_is_told_apart(cast):
    expert = story.grant(cast, "code")
    consent.withdraw(
        expert, by=None, at=cast.later(), method="letter", instrument=Instrument.REVOKE
    )
    assert [e.kind for e in expert.consents.get().events.all()] == ["given", "revoked"]
