"""Approvals: four eyes held twice, one person once, bound to a digest, with clocks and bots."""

from __future__ import annotations

import json
from datetime import timedelta

import pgtrigger
import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, IntegrityError, transaction

from governance.errors import FourEyes, InvalidTerms, NotPermitted, UnlawfulMove
from governance.models import (
    Account,
    ApprovalAct,
    ApprovalRequest,
    ApprovalRoute,
    Build,
    Expert,
    ExpertRevision,
    Finding,
    Licence,
    Membership,
    StagedEvent,
)
from governance.selectors import approvals as board
from governance.services import (
    approvals,
    consumers,
    documents,
    experts,
    licences,
    signoffs,
)
from governance.services.approvals import bots, seats, subjects
from governance.vocabulary import (
    ApprovalKind,
    ApprovalRule,
    ApprovalState,
    ApprovalVerb,
    BuildState,
    FollowUpKind,
    LicenceState,
    RevisionState,
    Role,
    Verdict,
)
from tests import cast as story
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db

TRIGGER = "governance.ApprovalAct:approval_four_eyes"
ONCE = "approval_act_one_approval_a_person"


@pytest.fixture
def cast():
    return story.meet()


def asked_licence(cast, **terms) -> ApprovalRequest:
    corpus = factories.corpus(owner=cast.alder)
    licence = licences.request(
        corpus,
        terms=licences.Terms(
            **{"uses": ["train"], "purposes": [], "starts_at": NOW, **terms}  # type: ignore[arg-type]
        ),
        by=cast.cato,
        at=NOW,
    )
    return ApprovalRequest.objects.get(subject_id=licence.pk)


def asked_key(cast, label="web", by=None) -> ApprovalRequest:
    return approvals.ask(key_of(cast, label), by=by or cast.cato, at=NOW)


def key_of(cast, label="web"):
    return subjects.api_key(
        cast.dara, label=label, purposes=["research"], scopes=None, expires_at=None
    )


def verified(cast, name="code", verdict=Verdict.REVIEW) -> ExpertRevision:
    """A revision whose newest audit did not pass."""
    revision = experts.submit(
        story.grant(cast, name),
        digest=factories.digest_of(name),
        weights_digest="",
        anchor=story.anchor(cast),
        size_bytes=1,
        by=cast.edda,
        at=cast.later(),
    )
    experts.record_verified(revision, report={}, at=cast.later())
    story.audit(cast, revision, verdict)
    revision.refresh_from_db()
    return revision


def route(cast, key="licence", kind=ApprovalKind.LICENCE, **fields):
    """A route proposed by Cato and approved by Celia."""
    defaults = {
        "title": "Two steps",
        "steps": [
            approvals.Step("Legal", role=Role.LEGAL, days=5),
            approvals.Step("Board", group="board", days=2),
        ],
    }
    request = approvals.propose(
        key, kind=kind, **{**defaults, **fields}, by=cast.cato, at=cast.later()
    )
    signoffs.approve(request, by=cast.celia, at=cast.later())
    return request


def group(cast, *members, name="board"):
    return approvals.set_group(name, members=members, by=cast.cato, at=cast.at)


def person(name, role=Role.LEGAL) -> Account:
    return factories.account(name, role=role)


def tags() -> list[str]:
    return [json.loads(bytes(row.body))["tag"] for row in StagedEvent.objects.order_by("id")]


# ── Four eyes ────────────────────────────────────────────────────────────────────────────────────


def as_themselves(cast, _request):
    return cast.cato


def as_superuser(cast, _request):
    Account.objects.filter(pk=cast.cato.pk).update(is_superuser=True, is_staff=True)
    return Account.objects.get(pk=cast.cato.pk)


def via_a_group(cast, _request):
    Group.objects.create(name="board").user_set.add(cast.cato)
    return cast.cato


def via_delegation(cast, _request):
    approvals.record_absence(
        giver=cast.celia,
        taker=cast.cato,
        starts_at=NOW - timedelta(days=1),
        ends_at=after(days=1),
        by=cast.celia,
        at=NOW - timedelta(days=2),
    )
    return cast.cato


WAYS = [as_themselves, as_superuser, via_a_group, via_delegation]


def a_licence(cast):
    return asked_licence(cast)


def a_key(cast):
    return asked_key(cast)


def a_waiver(cast):
    return approvals.ask(subjects.waiver(verified(cast)), by=cast.cato, at=NOW)


def an_activation(cast):
    revision = story.contribute(cast, story.grant(cast, "code"))
    experts.request_activation(revision, by=cast.cato, at=cast.later())
    return ApprovalRequest.objects.get(subject_id=revision.pk)


def a_route(cast):
    step = approvals.Step("Legal", role=Role.LEGAL)
    return approvals.propose(
        "licence", kind=ApprovalKind.LICENCE, title="t", steps=[step], by=cast.cato, at=NOW
    )


KINDS = [a_licence, a_key, a_waiver, an_activation, a_route]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ["approve", "reject", "send_back"])
def test_nobody_decides_what_they_asked_for(cast, kind, way, act):
    request = kind(cast)
    by = way(cast, request)
    with pytest.raises(FourEyes):
        getattr(signoffs, act)(request, by=by, at=NOW, words="mine")
    request.refresh_from_db()
    assert request.state == ApprovalState.OPEN


@pytest.mark.parametrize("kind", KINDS)
def test_the_service_refuses_without_the_trigger(cast, kind):
    request = kind(cast)
    with pgtrigger.ignore(TRIGGER), pytest.raises(FourEyes):
        signoffs.approve(request, by=cast.cato, at=NOW)


@pytest.mark.parametrize("kind", [a_key, a_waiver, a_route])
def test_the_trigger_refuses_without_the_service(cast, kind, monkeypatch):
    request = kind(cast)
    monkeypatch.setattr(seats, "check_eyes", lambda *_, **__: None)
    with pytest.raises(IntegrityError, match="approval_four_eyes"), transaction.atomic():
        signoffs.approve(request, by=cast.cato, at=NOW)
    assert not ApprovalAct.objects.filter(verb=ApprovalVerb.APPROVE, request=request).exists()


def test_a_delegate_of_the_requester_has_no_more_right_than_the_requester(cast, monkeypatch):
    request = asked_key(cast)
    edda = cast.edda
    approvals.record_absence(
        giver=cast.cato, taker=edda, starts_at=NOW, ends_at=after(days=1), by=cast.cato, at=NOW
    )
    with pytest.raises(FourEyes):
        signoffs.approve(request, by=edda, at=NOW)
    monkeypatch.setattr(seats, "check_eyes", lambda *_, **__: None)
    with pytest.raises(IntegrityError, match="approval_four_eyes"), transaction.atomic():
        signoffs.approve(request, by=edda, at=NOW)


def test_a_request_is_not_handed_to_its_requester(cast, monkeypatch):
    request = asked_key(cast)
    with pytest.raises(FourEyes):
        approvals.hand_over(request, to=cast.cato, by=cast.celia, at=NOW)
    monkeypatch.setattr(seats, "check_eyes", lambda *_, **__: None)
    with pytest.raises(IntegrityError, match="approval_four_eyes"), transaction.atomic():
        approvals.hand_over(request, to=cast.cato, by=cast.celia, at=NOW)


def test_one_person_counts_once_over_all_steps(cast, monkeypatch):
    group(cast, cast.celia)
    route(cast)
    request = asked_licence(cast)
    signoffs.approve(request, by=cast.celia, at=NOW)
    assert request.step_number == 2
    with pytest.raises(FourEyes, match="counts once"):
        signoffs.approve(request, by=cast.celia, at=NOW)
    monkeypatch.setattr(seats, "check_eyes", lambda *_, **__: None)
    with pytest.raises(IntegrityError), transaction.atomic():
        signoffs.approve(request, by=cast.celia, at=NOW)


def test_a_right_that_was_used_is_not_lent_for_a_second_signature(cast):
    revision = verified(cast)
    request = approvals.ask(subjects.waiver(revision), by=cast.edda, at=NOW)
    signoffs.approve(request, by=cast.celia, at=NOW)
    dan = person("Dan", Role.ENGINEER)
    approvals.record_absence(
        giver=cast.celia, taker=dan, starts_at=NOW, ends_at=after(days=1), by=cast.celia, at=NOW
    )
    with pytest.raises(NotPermitted):
        signoffs.approve(request, by=dan, at=NOW)


def test_the_database_counts_the_people_before_a_request_is_approved(cast):
    request = a_waiver(cast)
    with pytest.raises(IntegrityError, match="approval_counts_people"), transaction.atomic():
        ApprovalRequest.objects.filter(pk=request.pk).update(
            state=ApprovalState.APPROVED, closed_at=NOW
        )


def test_a_decision_stays(cast):
    request = asked_key(cast)
    signoffs.reject(request, by=cast.celia, at=NOW)
    with pytest.raises(IntegrityError, match="approval_decided_stays"), transaction.atomic():
        ApprovalRequest.objects.filter(pk=request.pk).update(
            state=ApprovalState.OPEN, closed_at=None
        )
    with pytest.raises(UnlawfulMove):
        signoffs.approve(request, by=person("Dan"), at=NOW)


# ── Routes and steps ─────────────────────────────────────────────────────────────────────────────


def test_a_licence_of_two_steps_is_granted_by_the_last_signature(cast):
    group(cast, cast.edda)
    route(cast)
    request = asked_licence(cast)
    signoffs.approve(request, by=cast.celia, at=NOW)
    licence = Licence.objects.get(pk=request.subject_id)
    assert licence.state == LicenceState.REQUESTED
    assert request.due_at == after(days=2)
    signoffs.approve(request, by=cast.edda, at=NOW)
    licence.refresh_from_db()
    assert (licence.state, request.state) == (LicenceState.APPROVED, ApprovalState.APPROVED)
    assert tags()[-2:] == ["approval.signed", "licence.approved"]


def test_a_step_refuses_whom_it_does_not_ask_for(cast):
    group(cast, cast.edda)
    route(cast)
    request = asked_licence(cast)
    with pytest.raises(NotPermitted, match="legal staff"):
        signoffs.approve(request, by=cast.edda, at=NOW)
    boss = Account.objects.create_superuser("boss@example.org", None)
    with pytest.raises(NotPermitted):
        signoffs.approve(request, by=boss, at=NOW)


@pytest.mark.parametrize(
    ("conditions", "terms", "is_taken"),
    [
        ({"is_exclusive": True}, {"is_exclusive": True}, True),
        ({"is_exclusive": True}, {}, False),
        ({"rate_above": 50}, {"rate_per_million_tokens": 50}, False),
        ({"rate_above": 50}, {"rate_per_million_tokens": 51}, True),
        ({"owners": ["alder-press"]}, {}, True),
        ({"owners": ["birch-archive"]}, {}, False),
        ({"payment_types": ["free"]}, {"payment_type": "free"}, True),
        ({"payment_types": ["free"], "is_exclusive": True}, {"payment_type": "free"}, False),
    ],
)
def test_the_route_is_chosen_by_what_is_asked(cast, conditions, terms, is_taken):
    step = approvals.Step("Two of legal", role=Role.LEGAL, needed=2)
    route(cast, "licence-special", steps=[step], conditions=conditions)
    taken = asked_licence(cast, **terms)
    assert taken.route_key == ("licence-special" if is_taken else "licence")


def test_a_route_is_in_force_once_somebody_else_approved_it(cast):
    request = a_route(cast)
    assert approvals.chosen(ApprovalKind.LICENCE, {}).version == 0
    signoffs.approve(request, by=cast.celia, at=NOW)
    assert approvals.chosen(ApprovalKind.LICENCE, {}).version == 1
    assert tags()[-2:] == ["approval.route_proposed", "approval.route_adopted"]


def test_a_route_is_never_edited(cast):
    a_route(cast)
    for change in ({"steps": []}, {"is_on": False}, {"conditions": {"is_exclusive": True}}):
        with pytest.raises(DatabaseError, match="Cannot"), transaction.atomic():
            ApprovalRoute.objects.update(**change)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"steps": []}, "steps"),
        ({"steps": [approvals.Step("x")]}, "steps"),
        ({"steps": [approvals.Step("x", role="owner")]}, "steps"),
        ({"steps": [approvals.Step("x", group="nobody")]}, "steps"),
        ({"steps": [approvals.Step("x", role="legal", needed=0)]}, "steps"),
        ({"steps": [approvals.Step("x", role="legal", days=0)]}, "steps"),
        ({"is_on": False}, "is_on"),
        ({"rules": ["coin"]}, "rules"),
        ({"conditions": {"is_exclusive": True}}, "conditions"),
        ({"key": "special", "conditions": {"weather": "fine"}}, "conditions"),
        ({"key": "special", "conditions": {"payment_types": ["gold"]}}, "conditions"),
        ({"key": "activation"}, "key"),
    ],
)
def test_a_route_that_does_not_hold_together_is_refused_at_its_field(cast, wrong, field):
    step = approvals.Step("Legal", role=Role.LEGAL)
    given = {"key": "licence", "steps": [step], **wrong}
    with pytest.raises(InvalidTerms) as refusal:
        approvals.propose(
            given.pop("key"),
            kind=ApprovalKind.LICENCE,
            title="t",
            **given,
            by=cast.cato,
            at=NOW,
        )
    assert list(refusal.value.fields) == [field]


def test_nobody_adds_themselves_to_a_group(cast):
    with pytest.raises(UnlawfulMove):
        group(cast, cast.cato)
    with pytest.raises(InvalidTerms):
        group(cast, cast.ada)


# ── Bound to a digest ────────────────────────────────────────────────────────────────────────────


def change_terms(_cast, request):
    with pgtrigger.ignore("governance.Licence:licence_terms_never_updated"):
        Licence.objects.filter(pk=request.subject_id).update(purposes=["commercial"])


def change_contract(_cast, request):
    with pgtrigger.ignore("governance.Licence:licence_terms_never_updated"):
        Licence.objects.filter(pk=request.subject_id).update(
            contract_digest=factories.digest_of("another file")
        )


def change_weights(_cast, request):
    ExpertRevision.objects.filter(pk=request.subject_id).update(
        weights_digest=factories.digest_of("other weights")
    )


def audit_again(cast, request):
    story.audit(cast, ExpertRevision.objects.get(pk=request.subject_id))


def edit_finding(_cast, request):
    with pgtrigger.ignore("governance.Finding:finding_never_updated"):
        Finding.objects.filter(revision=request.subject_id).update(seed=8)


def change_steps(_cast, request):
    with pgtrigger.ignore("governance.ApprovalRoute:approval_route_never_edited"):
        ApprovalRoute.objects.filter(pk=request.subject_id).update(title="Other")


def change_content(_cast, request):
    ApprovalRequest.objects.filter(pk=request.pk).update(
        content={**request.content, "purposes": ["commercial"]}
    )


def move_consumer(cast, _request):
    cast.dara.territory = "US"
    cast.dara.save()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (a_licence, change_terms),
        (a_licence, change_contract),
        (an_activation, change_weights),
        (an_activation, audit_again),
        (an_activation, edit_finding),
        (a_waiver, audit_again),
        (a_waiver, change_weights),
        (a_route, change_steps),
        (a_key, change_content),
        (a_key, move_consumer),
    ],
)
def test_any_changed_byte_voids_the_request(cast, kind, change):
    request = kind(cast)
    change(cast, request)
    request.refresh_from_db()
    with pytest.raises(UnlawfulMove, match="changed"):
        signoffs.approve(request, by=cast.celia, at=after(days=1))
    request.refresh_from_db()
    assert request.state == ApprovalState.VOID
    assert request.closing_words
    assert request.acts.last().verb == ApprovalVerb.VOID
    with pytest.raises(UnlawfulMove):
        signoffs.approve(request, by=cast.celia, at=after(days=1))


def test_a_changed_build_manifest_voids_its_promotion(cast):
    build = factories.build(state=BuildState.ASSEMBLED)
    request = approvals.ask(subjects.promotion(build), by=cast.edda, at=NOW)
    assert approvals.is_unchanged(request)
    Build.objects.filter(pk=build.pk).update(export_files={"model": factories.digest_of("x")})
    assert not approvals.is_unchanged(request)
    assert signoffs.void_changed(at=NOW) == [request]
    request.refresh_from_db()
    assert request.state == ApprovalState.VOID


def test_a_void_activation_may_be_asked_for_again(cast):
    request = an_activation(cast)
    audit_again(cast, request)
    revision = ExpertRevision.objects.get(pk=request.subject_id)
    with pytest.raises(UnlawfulMove):
        experts.approve_activation(revision, by=cast.celia, at=NOW)
    revision.refresh_from_db()
    assert revision.state == RevisionState.AUDITED
    experts.request_activation(revision, by=cast.cato, at=cast.later())
    experts.approve_activation(revision, by=cast.celia, at=cast.later())
    revision.refresh_from_db()
    assert revision.state == RevisionState.ACTIVATED


def test_the_database_refuses_a_signature_on_another_digest(cast):
    request = asked_key(cast)
    with pytest.raises(IntegrityError, match="approval_bound_to_digest"), transaction.atomic():
        ApprovalAct.objects.create(
            request=request, verb="approve", actor=cast.celia, digest=factories.digest_of("other")
        )


# ── Waivers and keys ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verdict", [Verdict.REVIEW, Verdict.FAIL])
def test_an_expert_over_the_threshold_serves_only_with_a_waiver_of_two(cast, verdict):
    revision = verified(cast, verdict=verdict)
    with pytest.raises(UnlawfulMove):
        experts.request_activation(revision, by=cast.edda, at=cast.later())
    waiver = approvals.ask(subjects.waiver(revision), by=cast.edda, at=NOW)
    signoffs.approve(waiver, by=cast.cato, at=NOW)
    with pytest.raises(UnlawfulMove):
        experts.request_activation(revision, by=cast.edda, at=cast.later())
    signoffs.approve(waiver, by=cast.celia, at=NOW)
    experts.request_activation(revision, by=cast.edda, at=cast.later())
    experts.approve_activation(revision, by=cast.celia, at=cast.later())
    revision.refresh_from_db()
    assert revision.state == RevisionState.ACTIVATED
    assert Expert.objects.get(pk=revision.expert_id).state == "active"


def test_another_audit_ends_a_waiver(cast):
    revision = verified(cast)
    waiver = approvals.ask(subjects.waiver(revision), by=cast.edda, at=NOW)
    for by in (cast.cato, cast.celia):
        signoffs.approve(waiver, by=by, at=NOW)
    story.audit(cast, revision, Verdict.REVIEW)
    with pytest.raises(UnlawfulMove):
        experts.request_activation(revision, by=cast.edda, at=cast.later())


def issue(cast, label="web"):
    return consumers.issue_key(
        cast.dara, label=label, purposes=["research"], by=cast.cato, at=cast.later()
    )


def test_keys_need_approval_once_it_is_switched_on_and_each_approval_serves_once(cast):
    issue(cast)
    step = approvals.Step("Legal", role=Role.LEGAL)
    route(cast, "api-key", ApprovalKind.API_KEY, steps=[step], is_on=True)
    with pytest.raises(NotPermitted):
        issue(cast)
    request = asked_key(cast)
    with pytest.raises(NotPermitted):
        issue(cast)
    signoffs.approve(request, by=cast.celia, at=NOW)
    with pytest.raises(NotPermitted):
        issue(cast, label="another")
    assert issue(cast).api_key.label == "web"
    with pytest.raises(NotPermitted):
        issue(cast)
    route(cast, "api-key", ApprovalKind.API_KEY, steps=[step], is_on=False)
    issue(cast)


# ── Thread, clocks, absence ──────────────────────────────────────────────────────────────────────


def test_a_returned_licence_goes_on_in_the_same_thread(cast):
    request = asked_licence(cast)
    licence = Licence.objects.get(pk=request.subject_id)
    with pytest.raises(InvalidTerms):
        signoffs.send_back(request, by=cast.celia, at=cast.later(), words=" ")
    signoffs.send_back(request, by=cast.celia, at=cast.later(), words="Shorter, please")
    assert request.state == ApprovalState.RETURNED
    former = request.digest
    terms = licences.Terms(uses=["train"], purposes=[], starts_at=NOW, ends_at=after(days=1))
    newer = licences.request(licence.corpus, terms=terms, by=cast.cato, at=cast.later())
    request.refresh_from_db()
    assert (request.state, request.round) == (ApprovalState.OPEN, 2)
    assert request.subject_id == str(newer.pk)
    assert request.digest != former
    signoffs.approve(request, by=cast.celia, at=cast.later())
    newer.refresh_from_db()
    assert newer.state == LicenceState.APPROVED
    said = list(request.acts.values_list("verb", flat=True))
    assert said == ["submit", "return", "submit", "approve"]


def test_the_clock_stands_while_it_is_paused_and_keeps_what_was_left(cast):
    request = asked_key(cast)
    due_at = request.due_at
    with pytest.raises(InvalidTerms):
        approvals.pause(request, words="", by=cast.celia, at=NOW)
    with pytest.raises(FourEyes):
        approvals.pause(request, words="holiday", by=cast.cato, at=NOW)
    approvals.pause(request, words="waiting for the owner", by=cast.celia, at=after(days=1))
    assert not board.overdue(after(days=30)).exists()
    found = approvals.resume(request, by=cast.celia, at=after(days=21))
    assert found.due_at == due_at + timedelta(days=20)
    assert board.overdue(after(days=26)).get() == request
    assert tags()[-2:] == ["approval.paused", "approval.resumed"]


def test_a_delegate_signs_in_the_place_of_an_absent_colleague(cast):
    request = asked_key(cast)
    with pytest.raises(NotPermitted):
        signoffs.approve(request, by=cast.edda, at=NOW)
    row = approvals.record_absence(
        giver=cast.celia,
        taker=cast.edda,
        starts_at=after(days=1),
        ends_at=after(days=3),
        kinds=[ApprovalKind.API_KEY],
        by=cast.celia,
        at=NOW,
    )
    for at in (NOW, after(days=3)):
        with pytest.raises(NotPermitted):
            signoffs.approve(request, by=cast.edda, at=at)
    signoffs.approve(request, by=cast.edda, at=after(days=2))
    act = request.acts.get(verb=ApprovalVerb.APPROVE)
    assert (act.actor, act.on_behalf_of) == (cast.edda, cast.celia)
    approvals.end_absence(row, by=cast.celia, at=after(days=2))
    other = asked_key(cast, "other")
    with pytest.raises(NotPermitted):
        signoffs.approve(other, by=cast.edda, at=after(days=2))


def test_only_the_absent_person_hands_on_their_right(cast):
    with pytest.raises(NotPermitted):
        approvals.record_absence(
            giver=cast.celia,
            taker=cast.edda,
            starts_at=NOW,
            ends_at=after(days=1),
            by=cast.cato,
            at=NOW,
        )
    for taker, ends_at in (
        (cast.ada, after(days=1)),
        (cast.celia, after(days=1)),
        (cast.edda, NOW),
    ):
        with pytest.raises(InvalidTerms):
            approvals.record_absence(
                giver=cast.celia, taker=taker, starts_at=NOW, ends_at=ends_at, by=cast.celia, at=NOW
            )


def test_a_right_that_was_lent_is_not_lent_on(cast):
    request = asked_key(cast)
    approvals.hand_over(request, to=cast.edda, by=cast.celia, at=NOW)
    with pytest.raises(NotPermitted):
        approvals.hand_over(request, to=person("Dan", Role.ENGINEER), by=cast.edda, at=NOW)
    signoffs.approve(request, by=cast.edda, at=NOW)
    assert request.state == ApprovalState.APPROVED


def test_comments_and_files_are_kept_and_marked_for_whom_they_are(cast):
    request = asked_licence(cast)
    approvals.comment(request, words="between us", by=cast.celia, at=NOW)
    approvals.comment(
        request, words="we ask for time", is_visible_to_owner=True, by=cast.celia, at=NOW
    )
    file = documents.store(b"memo", name="memo.txt", media_type="text/plain", by=None, at=NOW)
    approvals.attach(request, document=file, by=cast.cato, at=NOW)
    assert [act.words for act in board.said_to_owners([cast.alder])] == ["we ask for time"]
    assert not board.said_to_owners([cast.birch])
    with pytest.raises(InvalidTerms):
        approvals.comment(
            asked_key(cast), words="x", is_visible_to_owner=True, by=cast.celia, at=NOW
        )


def test_a_requester_takes_their_request_back(cast):
    request = asked_key(cast)
    with pytest.raises(NotPermitted):
        signoffs.take_back(request, by=cast.celia, at=NOW)
    signoffs.take_back(request, by=cast.cato, at=NOW)
    assert request.state == ApprovalState.WITHDRAWN
    activation = an_activation(cast)
    signoffs.take_back(activation, by=cast.cato, at=cast.later())
    assert ExpertRevision.objects.get(pk=activation.subject_id).state == RevisionState.AUDITED


def test_the_same_thing_is_not_asked_for_twice(cast):
    asked_key(cast)
    with pytest.raises(UnlawfulMove, match="already"):
        asked_key(cast)


# ── Bots ─────────────────────────────────────────────────────────────────────────────────────────


def with_rules(cast, *rules):
    step = approvals.Step("Legal", role=Role.LEGAL)
    route(cast, steps=[step], rules=list(rules))


def test_a_rule_rejects_a_licence_while_its_corpus_has_a_gap_and_says_who_it_is(cast):
    with_rules(cast, ApprovalRule.REJECT_OPEN_GAP)
    request = asked_licence(cast)
    assert signoffs.apply_rules(at=NOW) == 0
    licence = Licence.objects.get(pk=request.subject_id)
    expert = factories.expert(corpus=licence.corpus)
    factories.follow_up(FollowUpKind.RESOLVE_GAP, subject_kind="expert", subject_id=expert.pk)
    assert signoffs.apply_rules(at=NOW) == 1
    licence.refresh_from_db()
    assert licence.state == LicenceState.REJECTED
    assert licence.decided_by == bots.account(ApprovalRule.REJECT_OPEN_GAP)
    assert signoffs.apply_rules(at=NOW) == 0


@pytest.mark.parametrize(
    ("change", "is_approved"), [({"ends_at": after(days=800)}, True), ({"notice_days": 1}, False)]
)
def test_a_rule_approves_a_renewal_with_identical_terms_alone(cast, change, is_approved):
    first = asked_licence(cast, ends_at=after(days=400))
    signoffs.approve(first, by=cast.celia, at=NOW)
    with_rules(cast, ApprovalRule.APPROVE_IDENTICAL_RENEWAL)
    former = Licence.objects.get(pk=first.subject_id)
    terms = {"uses": ["train"], "purposes": [], "starts_at": after(days=400), **change}
    renewal = licences.request(
        former.corpus,
        terms=licences.Terms(**terms),
        supersedes=former,
        by=cast.cato,
        at=cast.later(),
    )
    assert signoffs.apply_rules(at=cast.later()) == int(is_approved)
    renewal.refresh_from_db()
    assert (renewal.state == LicenceState.APPROVED) == is_approved


def test_a_rule_that_the_route_does_not_name_may_do_nothing(cast):
    bot = bots.account(ApprovalRule.APPROVE_IDENTICAL_RENEWAL)
    with pytest.raises(NotPermitted):
        signoffs.approve(asked_key(cast), by=bot, at=NOW)


def test_a_bot_never_logs_in(cast, client):
    bot = bots.account(ApprovalRule.REJECT_OPEN_GAP)
    assert not bot.has_usable_password()
    for change in ({"is_active": True}, {"password": "pbkdf2"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Account.objects.filter(pk=bot.pk).update(**change)
    Membership.objects.create(account=bot, role=Role.LEGAL)
    client.force_login(bot, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert client.get("/legal/approvals/").status_code in (302, 404)


# ── One act, one event ───────────────────────────────────────────────────────────────────────────


def test_each_act_of_the_engine_writes_one_event(cast):
    file = documents.store(b"memo", name="memo.txt", media_type="text/plain", by=None, at=NOW)
    key = asked_key(cast, "first")
    acts = {
        "approval.asked": lambda: asked_key(cast),
        "approval.commented": lambda: approvals.comment(key, words="x", by=cast.celia, at=NOW),
        "approval.attached": lambda: approvals.attach(key, document=file, by=cast.celia, at=NOW),
        "approval.delegated": lambda: approvals.hand_over(key, to=cast.edda, by=cast.celia, at=NOW),
        "approval.paused": lambda: approvals.pause(key, words="x", by=cast.celia, at=NOW),
        "approval.resumed": lambda: approvals.resume(key, by=cast.celia, at=NOW),
        "approval.approved": lambda: signoffs.approve(key, by=cast.celia, at=NOW),
        "approval.rejected": lambda: signoffs.reject(
            asked_key(cast, "second"), by=cast.celia, at=NOW
        ),
        "approval.returned": lambda: signoffs.send_back(
            asked_key(cast, "third"), by=cast.celia, at=NOW, words="x"
        ),
        "approval.withdrawn": lambda: signoffs.take_back(
            asked_key(cast, "fourth"), by=cast.cato, at=NOW
        ),
        "approval.voided": lambda: approvals.void(asked_key(cast, "fifth"), at=NOW, words="x"),
        "approval.group_changed": lambda: group(cast, cast.celia),
        "approval.route_proposed": lambda: a_route(cast),
        "approval.absence_recorded": lambda: via_delegation(cast, None),
    }
    for tag, act in acts.items():
        before = len(tags())
        act()
        staged = [one for one in tags()[before:] if one != "approval.asked" or one == tag]
        assert staged == [tag]


# ── The board ────────────────────────────────────────────────────────────────────────────────────


def test_the_board_says_whom_each_request_waits_for(cast):
    key, licence = asked_key(cast), asked_licence(cast)
    mine = {card.request for card in board.board(cast.celia, at=NOW).mine}
    assert mine == {key, licence}
    own = board.board(cast.cato, at=NOW)
    assert own.mine == []
    assert all(card.is_own for card in own.others)
    assert board.waiting_for(cast.edda, NOW) == []
    approvals.hand_over(key, to=cast.edda, by=cast.celia, at=NOW)
    assert board.waiting_for(cast.edda, NOW) == [key]


def test_what_is_overdue_comes_first(cast):
    late, later = asked_licence(cast), asked_key(cast)
    at = after(days=11)
    approvals.pause(later, words="x", by=cast.celia, at=after(days=1))
    shown = [card.request for card in board.board(cast.celia, at=at).mine]
    assert shown == [late, later]
    assert list(board.overdue(at)) == [late]
