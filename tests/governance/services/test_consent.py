"""Consent is given under a licence and taken back in one act, whatever is running."""

import threading

import pytest
from django.db import connections

from governance.errors import NotCovered, NotPermitted, UnlawfulMove
from governance.models import (
    Build,
    ConsentEvent,
    ExpertFence,
    FollowUp,
    PolicySnapshot,
    StagedEvent,
    Withdrawal,
)
from governance.policy.decide import decide
from governance.policy.types import Ask
from governance.services import builds, consent, experts, followups, snapshots
from governance.vocabulary import (
    BuildState,
    ExpertState,
    FollowUpKind,
    FollowUpState,
    RevisionState,
    Why,
)
from tests import cast as story
from tests import factories

pytestmark = pytest.mark.django_db
ASK = Ask("dara", "research", "NL")


def allowed(at):
    decision = decide(snapshots.current(), ASK, at)
    return {expert.name for expert in decision.allowed}, decision.denied


def open_kinds(**subject):
    rows = FollowUp.objects.filter(state=FollowUpState.DUE, **subject).order_by("opened_at")
    return sorted((row.kind, row.order.get("stage", "")) for row in rows)


def test_consent_names_the_notice_the_owner_saw():
    cast = story.meet()
    expert = story.grant(cast, "code")
    record = consent.standing(expert).get()
    receipt = consent.receipt(record)
    assert receipt["state"] == "given"
    assert receipt["purposes"] == ["research"]
    assert "May answer for research" in receipt["notice"]["text"]
    assert receipt["licence"] == cast.licences["code"].reference


def test_consent_given_again_is_renewed_on_the_same_record():
    cast = story.meet()
    expert = story.grant(cast, "code")
    first = consent.standing(expert).get()
    again = consent.give(
        expert, licence=cast.licences["code"], by=cast.ada, at=cast.later(), method="api"
    )
    assert again == first
    assert [event.kind for event in first.events.all()] == ["given", "renewed"]


@pytest.mark.parametrize("who", ["mallory", "bela", "edda", "aude"])
def test_only_the_owner_or_legal_staff_speak_for_an_expert(who):
    cast = story.meet()
    expert = story.grant(cast, "code")
    by = getattr(cast, who)
    with pytest.raises(NotPermitted):
        consent.give(expert, licence=cast.licences["code"], by=by, at=cast.later(), method="api")
    with pytest.raises(NotPermitted):
        consent.withdraw(expert, by=by, at=cast.later(), method="api")
    assert not Withdrawal.objects.exists()


def test_consent_needs_an_approved_licence_of_the_same_corpus():
    cast = story.meet()
    expert = story.grant(cast, "code")
    story.grant(cast, "languages")
    with pytest.raises(NotCovered):
        consent.give(
            expert, licence=cast.licences["languages"], by=cast.ada, at=cast.later(), method="api"
        )
    waiting = factories.licence(corpus=expert.corpus, is_approved=False)
    with pytest.raises(NotCovered):
        consent.give(expert, licence=waiting, by=cast.ada, at=cast.later(), method="api")


def test_a_withdrawn_expert_is_denied_from_the_next_epoch_and_the_others_serve():
    cast = story.meet()
    story.served(cast)
    before = snapshots.current().policy_epoch
    assert allowed(cast.at)[0] == {"code", "languages"}
    withdrawal = story.withdraw(cast, "code")
    names, denied = allowed(cast.later())
    assert names == {"languages"}
    assert Why.WITHDRAWN in denied["code"]
    assert withdrawal.policy_epoch == before + 1 == snapshots.current().policy_epoch
    fence = ExpertFence.objects.get(expert_name="code")
    assert (fence.revoked_epoch, fence.is_quiesced) == (before + 1, False)


def test_withdrawing_writes_down_everything_that_must_follow():
    cast = story.meet()
    story.served(cast)
    withdrawal = story.withdraw(cast, "code")
    assert open_kinds(subject_id=withdrawal.pk) == [
        ("certify", "blocked"),
        ("certify", "rebuilt"),
        ("certify", "unloaded"),
        ("erase", ""),
        ("quiesce", ""),
    ]
    rebuild = FollowUp.objects.get(kind=FollowUpKind.REBUILD)
    build = Build.objects.get(pk=rebuild.subject_id)
    assert [row["name"] for row in build.experts] == ["languages"]
    assert build.withdrawal == withdrawal
    erase = FollowUp.objects.get(kind=FollowUpKind.ERASE)
    assert erase.after == rebuild
    assert erase.order["digests"] == [factories.digest_of("code first")]
    after = {
        row.order["stage"]: row.after.kind
        for row in FollowUp.objects.filter(kind=FollowUpKind.CERTIFY)
    }
    assert after == {"blocked": "quiesce", "unloaded": "erase", "rebuilt": "erase"}


def test_withdrawing_again_gives_the_first_withdrawal_and_changes_nothing():
    cast = story.meet()
    story.served(cast)
    first = story.withdraw(cast, "code")
    counts = (PolicySnapshot, FollowUp, StagedEvent, ConsentEvent, Build)
    before = [table.objects.count() for table in counts]
    assert story.withdraw(cast, "code") == first
    assert [table.objects.count() for table in counts] == before


def prepared(cast, state):
    """The expert `code` in the given state, reached through the services."""
    expert = story.grant(cast, "code")
    if state == ExpertState.PROPOSED:
        return expert
    if state in (ExpertState.IN_REVIEW, ExpertState.REJECTED):
        revision = experts.submit(
            expert,
            digest=factories.digest_of("code first"),
            weights_digest="",
            anchor=story.anchor(cast),
            size_bytes=1,
            by=cast.edda,
            at=cast.later(),
        )
        if state == ExpertState.REJECTED:
            experts.record_refused(revision, report={}, at=cast.later())
        return expert
    revision = story.contribute(cast, expert)
    if state != ExpertState.READY:
        story.promote(cast, story.activate(cast, revision))
    if state == ExpertState.SUSPENDED:
        experts.suspend(expert, by=cast.cato, at=cast.later(), reason="dispute")
    return expert


@pytest.mark.parametrize(
    "state", [s for s in ExpertState if s not in (ExpertState.WITHDRAWN, ExpertState.ERASED)]
)
def test_withdrawing_works_in_every_state(state):
    cast = story.meet()
    expert = prepared(cast, state)
    expert.refresh_from_db()
    assert expert.state == state
    withdrawal = story.withdraw(cast, "code")
    expert.refresh_from_db()
    assert expert.state == ExpertState.WITHDRAWN
    assert not consent.standing(expert).exists()
    kinds = {kind for kind, _ in open_kinds()}
    was_built = state in (ExpertState.ACTIVE, ExpertState.SUSPENDED)
    assert ("rebuild" in kinds) == was_built
    assert {"quiesce", "erase", "certify"} <= kinds
    assert not kinds & {"verify", "audit", "train", "assemble", "load"}
    assert withdrawal.builds.exists() == was_built


def test_nothing_more_can_be_done_with_a_withdrawn_expert():
    cast = story.meet()
    story.served(cast)
    expert = cast.experts["code"]
    revision = expert.revisions.get()
    story.withdraw(cast, "code")
    at = cast.later()
    acts = [
        lambda: consent.give(
            expert, licence=cast.licences["code"], by=cast.ada, at=at, method="api"
        ),
        lambda: experts.order_training(expert, order={}, by=cast.edda, at=at),
        lambda: experts.submit(
            expert,
            digest=factories.digest_of("second"),
            weights_digest="",
            anchor=story.anchor(cast),
            size_bytes=1,
            by=cast.edda,
            at=at,
        ),
        lambda: experts.order_audit(revision, order={}, by=cast.edda, at=at),
        lambda: experts.request_activation(revision, by=cast.edda, at=at),
        lambda: experts.resume(expert, by=cast.cato, at=at),
    ]
    for act in acts:
        with pytest.raises(UnlawfulMove):
            act()


def test_a_running_build_with_the_expert_is_called_off_and_never_promoted():
    cast = story.meet()
    story.served(cast, "code")
    story.grant(cast, "languages")
    running = story.activate(cast, story.contribute(cast, cast.experts["languages"]))
    assemble = FollowUp.objects.get(subject_id=running.pk)
    followups.claim(assemble.pk, worker="w", for_s=30, at=cast.at)
    story.withdraw(cast, "code")
    assert not followups.renew(assemble.pk, worker="w", for_s=30, at=cast.at)
    running.refresh_from_db()
    assert running.state == BuildState.TOMBSTONED
    with pytest.raises(UnlawfulMove):
        story.assemble(cast, running)
    newest = Build.objects.latest("number")
    assert [row["name"] for row in newest.experts] == ["languages"]


def test_a_second_withdrawal_during_the_rebuild_of_the_first_replaces_it():
    cast = story.meet()
    story.served(cast)
    first = story.withdraw(cast, "code")
    second = story.withdraw(cast, "languages")
    rebuilds = FollowUp.objects.filter(kind=FollowUpKind.REBUILD).order_by("opened_at")
    assert [row.state for row in rebuilds] == [FollowUpState.CANCELLED, FollowUpState.DUE]
    assert first.builds.get().state == BuildState.TOMBSTONED
    assert second.builds.get().experts == []
    erasures = FollowUp.objects.filter(kind=FollowUpKind.ERASE)
    assert {row.after_id for row in erasures} == {rebuilds[1].pk}


def test_the_served_build_is_buried_when_its_successor_is_served():
    cast = story.meet()
    served = story.served(cast)
    withdrawal = story.withdraw(cast, "code")
    served.refresh_from_db()
    assert served.state == BuildState.PROMOTED
    story.promote(cast, withdrawal.builds.get())
    served.refresh_from_db()
    assert served.state == BuildState.TOMBSTONED
    assert builds.answering(withdrawal) == withdrawal.builds.get()
    assert [ref.name for ref in snapshots.current().experts] == ["languages"]


def test_revisions_keep_their_record_until_the_bytes_are_gone():
    cast = story.meet()
    story.served(cast)
    story.withdraw(cast, "code")
    assert cast.experts["code"].revisions.get().state == RevisionState.ACTIVATED


@pytest.mark.django_db(transaction=True)
def test_two_people_who_press_at_once_cause_one_withdrawal():
    cast = story.meet()
    story.served(cast)
    expert, at = cast.experts["code"], cast.later()
    barrier = threading.Barrier(2)
    found, failures = [], []

    def press(by):
        try:
            barrier.wait(5)
            found.append(consent.withdraw(expert, by=by, at=at, method="api").pk)
        except Exception as failure:  # noqa: BLE001 - shown by the assertion below
            failures.append(failure)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press, args=(who,)) for who in (cast.ada, cast.cato)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert len(set(found)) == 1
    assert len(found) == 2
    assert FollowUp.objects.filter(kind=FollowUpKind.QUIESCE).count() == 1
