"""Routes that an organisation adopts: taking on owners and consumers, promotion, exports.

Each guards nothing until it is switched on, and everything from then on.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import pytest

from governance.errors import FourEyes, InvalidTerms, NotPermitted, UnlawfulMove
from governance.models import ApprovalRequest, Build, HandOut, StagedEvent
from governance.services import (
    approvals,
    builds,
    consent,
    consumers,
    corpora,
    experts,
    exports,
    licences,
    owners,
    signoffs,
)
from governance.services.approvals import subjects
from governance.vocabulary import (
    ApprovalKind,
    ApprovalState,
    BuildState,
    ConsumerStatus,
    LicenceState,
    OwnerStatus,
    Role,
    Use,
)
from tests import cast as story
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast():
    return story.meet()


def switch(cast, kind, *, is_on=True) -> None:
    """A route proposed by Cato and approved by Celia."""
    proposed = approvals.propose(
        kind.value,
        kind=kind,
        title="Legal looks",
        steps=[approvals.Step("Legal", role=Role.LEGAL)],
        is_on=is_on,
        by=cast.cato,
        at=cast.later(),
    )
    signoffs.approve(proposed, by=cast.celia, at=cast.later())


def an_owner(cast, **told):
    return owners.register("Cedar House", jurisdiction="FR", by=cast.cato, at=cast.later(), **told)


def a_consumer(cast):
    return consumers.register("Nova", territory="FR", by=cast.cato, at=cast.later())


def move(row, to, cast):
    service = owners if isinstance(to, OwnerStatus) else consumers
    return service.move(row, to=to, by=cast.cato, at=cast.later())


def change(row, cast):
    told = {"contact_name": "Somebody else"}
    service = owners if hasattr(row, "legal_name") else consumers
    service.change(row, facts=told, by=cast.cato, at=cast.later())


def staged(act) -> list[str]:
    before = StagedEvent.objects.count()
    act()
    rows = StagedEvent.objects.order_by("id")[before:]
    return [json.loads(bytes(row.body))["tag"] for row in rows]


def about(row) -> ApprovalRequest:
    return ApprovalRequest.objects.get(subject_id=row.pk)


PARTIES = pytest.mark.parametrize(
    ("kind", "register", "status", "ask", "moved"),
    [
        (ApprovalKind.OWNER, an_owner, OwnerStatus, subjects.owner, "owner.moved"),
        (ApprovalKind.CONSUMER, a_consumer, ConsumerStatus, subjects.consumer, "consumer.moved"),
    ],
)


# ── Taking on ────────────────────────────────────────────────────────────────────────────────────


@PARTIES
def test_without_a_route_parties_are_taken_on_at_once(cast, kind, register, status, ask, moved):
    assert register(cast).status == status.ACTIVE
    assert not ApprovalRequest.objects.exists()


@PARTIES
def test_with_a_route_the_last_signature_takes_them_on(cast, kind, register, status, ask, moved):
    switch(cast, kind)
    row = register(cast)
    request = about(row)
    assert (row.status, request.kind, request.requested_by) == (status.PROSPECT, kind, cast.cato)
    with pytest.raises(FourEyes):
        signoffs.approve(request, by=cast.cato, at=cast.later())
    assert staged(lambda: signoffs.approve(request, by=cast.celia, at=cast.later())) == [moved]
    row.refresh_from_db()
    request.refresh_from_db()
    assert (row.status, request.state) == (status.ACTIVE, ApprovalState.APPROVED)
    assert request.spent_at is not None


@PARTIES
def test_nobody_takes_them_on_by_hand(cast, kind, register, status, ask, moved):
    """Mutant caught: `move` that does not spend."""
    switch(cast, kind)
    row = register(cast)
    with pytest.raises(NotPermitted, match="requests board"):
        move(row, status.ACTIVE, cast)
    row.refresh_from_db()
    assert row.status == status.PROSPECT
    switch(cast, kind, is_on=False)
    assert move(row, status.ACTIVE, cast).status == status.ACTIVE


@PARTIES
def test_a_changed_fact_voids_the_request(cast, kind, register, status, ask, moved):
    switch(cast, kind)
    row = register(cast)
    change(row, cast)
    with pytest.raises(UnlawfulMove, match="changed"):
        signoffs.approve(about(row), by=cast.celia, at=cast.later())
    row.refresh_from_db()
    assert (about(row).state, row.status) == (ApprovalState.VOID, status.PROSPECT)
    again = approvals.ask(ask(row), by=cast.cato, at=cast.later())
    signoffs.approve(again, by=cast.celia, at=cast.later())
    row.refresh_from_db()
    assert row.status == status.ACTIVE


@PARTIES
def test_one_that_is_taken_on_is_not_asked_for(cast, kind, register, status, ask, moved):
    with pytest.raises(UnlawfulMove, match="still to come"):
        approvals.ask(ask(register(cast)), by=cast.cato, at=cast.later())


def test_who_went_meanwhile_is_not_taken_on(cast):
    switch(cast, ApprovalKind.CONSUMER)
    row = a_consumer(cast)
    move(row, ConsumerStatus.CLOSED, cast)
    with pytest.raises(UnlawfulMove, match="changed"):
        signoffs.approve(about(row), by=cast.celia, at=cast.later())


def test_an_owner_that_comes_back_is_approved_anew(cast):
    switch(cast, ApprovalKind.OWNER)
    row = an_owner(cast)
    signoffs.approve(about(row), by=cast.celia, at=cast.later())
    move(row, OwnerStatus.LEFT, cast)
    move(row, OwnerStatus.PROSPECT, cast)
    with pytest.raises(NotPermitted):
        move(row, OwnerStatus.ACTIVE, cast)


def test_an_approval_given_while_the_route_was_off_serves_once(cast):
    row = an_owner(cast, status=OwnerStatus.PROSPECT)
    request = approvals.ask(subjects.owner(row), by=cast.cato, at=cast.later())
    signoffs.approve(request, by=cast.celia, at=cast.later())
    switch(cast, ApprovalKind.OWNER)
    move(row, OwnerStatus.LEFT, cast)
    move(row, OwnerStatus.PROSPECT, cast)
    with pytest.raises(NotPermitted):
        move(row, OwnerStatus.ACTIVE, cast)


@PARTIES
def test_what_the_system_registers_is_active(cast, kind, register, status, ask, moved):
    switch(cast, kind)
    cast.cato = None
    assert register(cast).status == status.ACTIVE


def test_a_prospect_consumer_gets_no_key(cast):
    switch(cast, ApprovalKind.CONSUMER)
    key = {"label": "web", "purposes": ["research"], "by": cast.cato}
    with pytest.raises(UnlawfulMove, match="prospect"):
        consumers.issue_key(a_consumer(cast), at=cast.later(), **key)


def a_licence(cast, owner, **told):
    corpus = corpora.describe(
        owner, slug="plays", title="Plays", source_licence="own", languages=["fr"],
        document_count=1, text_bytes=1, by=cast.cato, at=cast.later(),
    )  # fmt: skip
    terms = licences.Terms(uses=["answer"], purposes=["research"], starts_at=NOW)
    return licences.request(corpus, terms=terms, by=cast.cato, at=cast.later(), **told)


def test_a_prospect_signs_nothing(cast):
    owner = an_owner(cast, status=OwnerStatus.PROSPECT)
    licence = a_licence(cast, owner)
    with pytest.raises(UnlawfulMove, match="prospect"):
        licences.approve(licence, by=cast.celia, at=cast.later())
    licence.refresh_from_db()
    assert licence.state == LicenceState.REQUESTED
    move(owner, OwnerStatus.ACTIVE, cast)
    assert licences.approve(licence, by=cast.celia, at=cast.later()).state == LicenceState.APPROVED


def test_what_was_approved_for_an_owner_that_is_a_prospect_again_stays_out_of_force(cast):
    owner = an_owner(cast)
    owners.add_member(owner, account=cast.mallory, by=cast.cato, at=cast.later())
    licence = a_licence(cast, owner, needs_countersignature=True)
    licences.approve(licence, by=cast.celia, at=cast.later())
    expert = experts.propose(
        "plays", title="Plays", owner=owner, corpus=licence.corpus, by=cast.edda, at=cast.later()
    )
    owner.status = OwnerStatus.PROSPECT
    owner.save()
    with pytest.raises(UnlawfulMove, match="prospect"):
        licences.countersign(licence, by=cast.mallory, at=cast.later())
    with pytest.raises(UnlawfulMove, match="prospect"):
        consent.give(expert, licence=licence, by=cast.mallory, at=cast.later(), method="page")


# ── Promotion ────────────────────────────────────────────────────────────────────────────────────


def an_assembled_build(cast) -> Build:
    return story.assemble(
        cast, story.activate(cast, story.contribute(cast, story.grant(cast, "code")))
    )


def test_a_promotion_spends_the_approval_of_exactly_this_build(cast):
    """Mutant caught: `promote` that does not spend."""
    build = an_assembled_build(cast)
    assert not builds.waits_for_approval(build)
    switch(cast, ApprovalKind.PROMOTION)
    assert builds.waits_for_approval(build)
    with pytest.raises(NotPermitted, match="approved request"):
        builds.promote(build, at=cast.later())
    request = approvals.ask(subjects.promotion(build), by=cast.edda, at=cast.later())
    assert builds.waits_for_approval(build)
    signoffs.approve(request, by=cast.celia, at=cast.later())
    assert not builds.waits_for_approval(build)
    builds.promote(build, at=cast.later())
    build.refresh_from_db()
    request.refresh_from_db()
    assert build.state == BuildState.PROMOTED
    assert request.spent_at is not None


def test_another_build_is_not_promoted_on_the_approval_of_the_first(cast):
    build = an_assembled_build(cast)
    switch(cast, ApprovalKind.PROMOTION)
    request = approvals.ask(subjects.promotion(build), by=cast.edda, at=cast.later())
    signoffs.approve(request, by=cast.celia, at=cast.later())
    other = builds.plan_current(reason="again", by=cast.edda, at=cast.later())
    with pytest.raises(NotPermitted):
        builds.promote(story.assemble(cast, other), at=cast.later())


def test_taking_an_expert_out_never_waits_for_people(cast):
    story.served(cast, "code", "languages")
    switch(cast, ApprovalKind.PROMOTION)
    withdrawal = story.withdraw(cast, "code")
    build = story.assemble(cast, withdrawal.builds.get())
    assert not builds.waits_for_approval(build)
    builds.promote(build, at=cast.later())
    build.refresh_from_db()
    assert build.state == BuildState.PROMOTED


# ── Exports ──────────────────────────────────────────────────────────────────────────────────────

LETTING = {"uses": [Use.TRAIN, Use.ANSWER, Use.REDISTRIBUTE]}


def with_files(build, folder) -> Build:
    (folder / "config.json").write_bytes(b"{}")
    build.export_path = str(folder)
    build.export_files = {"config.json": hashlib.sha256(b"{}").hexdigest()}
    build.save()
    return build


@pytest.fixture
def build(cast, tmp_path) -> Build:
    """Served, of one expert that may be redistributed."""
    story.grant(cast, "code", **LETTING)
    return with_files(story.served(cast, "code"), tmp_path)


def hand_out(cast, build, recipient="Northern Computing Centre"):
    return exports.hand_out(build, recipient=recipient, by=cast.edda, at=cast.later())


def test_a_hand_out_is_written_down_once(cast, build):
    assert staged(lambda: hand_out(cast, build, "  Northern  Centre ")) == ["build.handed_out"]
    row = HandOut.objects.get()
    assert (row.build, row.recipient, row.by) == (build, "Northern Centre", cast.edda)
    said = json.loads(bytes(StagedEvent.objects.latest("id").body))["details"]
    assert (said["recipient"], said["digest"]) == ("Northern Centre", build.digest)
    assert said["experts"] == build.experts


@pytest.mark.parametrize("terms", [{}, {"prohibited_uses": [Use.REDISTRIBUTE]}])
def test_what_no_licence_lets_go_is_named(cast, tmp_path, terms):
    story.grant(cast, "code", **LETTING)
    story.grant(cast, "languages", **terms)
    build = with_files(story.served(cast, "code", "languages"), tmp_path)
    with pytest.raises(NotPermitted, match="found none for languages"):
        hand_out(cast, build)
    assert not HandOut.objects.exists()


def test_a_licence_that_ran_out_lets_nothing_go(cast, tmp_path):
    story.grant(cast, "code", ends_at=NOW + timedelta(days=1), **LETTING)
    build = with_files(story.served(cast, "code"), tmp_path)
    cast.later(2 * 86_400)
    with pytest.raises(NotPermitted, match="code"):
        hand_out(cast, build)


def test_a_licence_of_another_revision_lets_nothing_go(cast, tmp_path):
    other = factories.digest_of("another revision")
    story.grant(cast, "code", expert_digest=other, **LETTING)
    build = factories.build(story.contribute(cast, cast.experts["code"]), export_path=str(tmp_path))
    with pytest.raises(NotPermitted, match="code"):
        hand_out(cast, with_files(build, tmp_path))


def test_a_suspended_expert_is_not_handed_out(cast, build):
    experts.suspend(cast.experts["code"], by=cast.cato, at=cast.later(), reason="dispute")
    with pytest.raises(NotPermitted, match="code"):
        hand_out(cast, build)


@pytest.mark.parametrize("state", subjects.NOT_EXPORTED)
def test_what_is_no_build_to_serve_is_not_handed_out(cast, build, state):
    Build.objects.filter(pk=build.pk).update(state=state)
    with pytest.raises(UnlawfulMove, match=state):
        hand_out(cast, build)


def test_a_withdrawn_expert_is_not_handed_out(cast, build):
    story.withdraw(cast, "code")
    with pytest.raises(NotPermitted, match="code"):
        hand_out(cast, build)


def test_files_that_are_not_there_are_not_handed_out(cast, build, tmp_path):
    (tmp_path / "config.json").unlink()
    with pytest.raises(UnlawfulMove, match=r"config\.json"):
        hand_out(cast, build)


@pytest.mark.parametrize("recipient", [" ", "x" * 201])
def test_a_hand_out_says_to_whom(cast, build, recipient):
    with pytest.raises(InvalidTerms) as refusal:
        hand_out(cast, build, recipient)
    assert list(refusal.value.fields) == ["recipient"]


def test_an_export_is_approved_for_one_recipient_and_once(cast, build):
    """Mutant caught: `hand_out` that does not spend."""
    switch(cast, ApprovalKind.EXPORT)
    with pytest.raises(NotPermitted, match="approved request"):
        hand_out(cast, build, "A")
    request = approvals.ask(subjects.export(build, "A"), by=cast.cato, at=cast.later())
    with pytest.raises(FourEyes):
        signoffs.approve(request, by=cast.cato, at=cast.later())
    signoffs.approve(request, by=cast.celia, at=cast.later())
    with pytest.raises(NotPermitted, match="approved request"):
        hand_out(cast, build, "B")
    hand_out(cast, build, "A")
    with pytest.raises(NotPermitted, match="approved request"):
        hand_out(cast, build, "A")
    assert HandOut.objects.count() == 1


def test_an_export_request_ends_with_its_build(cast, build):
    request = approvals.ask(subjects.export(build, "A"), by=cast.cato, at=cast.later())
    Build.objects.filter(pk=build.pk).update(state=BuildState.TOMBSTONED)
    with pytest.raises(UnlawfulMove, match="changed"):
        signoffs.approve(request, by=cast.celia, at=cast.later())
