"""Whether a revision may serve: asked for by one person, decided by others, bound to its audits."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import UnlawfulMove
from governance.log import events
from governance.models import Account, Anchor, ApprovalRequest, ExpertRevision
from governance.services import approvals, builds, eyes, snapshots
from governance.services.approvals import subjects
from governance.services.experts import rows
from governance.services.locks import policy_act
from governance.vocabulary import (
    EventTag,
    ExpertState,
    RevisionState,
    Verdict,
)


@transaction.atomic
def request_activation(revision: ExpertRevision, *, by: Account, at: datetime) -> ExpertRevision:
    """Ask that an audited revision be served; others decide.

    A revision whose audit did not pass needs a waiver for exactly these findings first.

    Raises:
        UnlawfulMove: it has neither passed an audit nor a waiver, or its expert was withdrawn.
    """
    found = rows.locked_revision(revision)
    rows.check_not_ended(found.expert)
    if found.state != RevisionState.AUDITED:
        _check_waived(found)
        _make_ready(found)
    found.state, found.activation_requested_by = RevisionState.ACTIVATION_REQUESTED, by
    found.activation_decided_by, found.activation_decided_at = None, None
    found.save()
    request = approvals.opened(subjects.activation(found), by=by, at=at)
    events.stage(
        EventTag.ACTIVATION_REQUESTED,
        subject=f"expert:{found.expert.name}",
        by=by,
        at=at,
        details={
            "revision": found.number,
            "digest": found.digest,
            "request": str(request.pk),
            "asked_for_digest": request.digest,
        },
    )
    return found


def needs_waiver(revision: ExpertRevision) -> bool:
    """Whether the newest audit of a verified revision stands in the way of its activation."""
    newest = revision.findings.order_by("-found_at").first()
    return (
        revision.state == RevisionState.VERIFIED
        and newest is not None
        and newest.verdict in (Verdict.REVIEW, Verdict.FAIL)
    )


def _check_waived(revision: ExpertRevision) -> None:
    if not needs_waiver(revision):
        raise UnlawfulMove(
            f"expected a revision that passed its audit, found {revision} {revision.state}. "
            "Audit it."
        )
    if approvals.approved(subjects.waiver(revision)) is None:
        raise UnlawfulMove(
            f"expected a revision that passed its audit, or a waiver for exactly these findings, "
            f"found {revision} with neither. Audit it again, or ask for a waiver."
        )


def _make_ready(revision: ExpertRevision) -> None:
    """Move the expert of a waived revision to where a pass would have put it."""
    expert = revision.expert
    if expert.state == ExpertState.REJECTED:
        rows.move(expert, ExpertState.IN_REVIEW)
    if expert.state == ExpertState.IN_REVIEW:
        rows.move(expert, ExpertState.READY)


def approve_activation(
    revision: ExpertRevision, *, by: Account, at: datetime, note: str = ""
) -> ExpertRevision:
    """Sign an activation; the last signature lets the revision into the next build, and plans it.

    Raises:
        FourEyes: the requester may not approve, nor one person twice.
        NotPermitted: the step it is at asks for somebody else.
        NotCovered: consent no longer stands, or no licence in force covers it.
        UnlawfulMove: activation was not requested, what was asked for has changed since (then the
            request is void), or the anchor is not the newest.
    """
    request = _request_for(revision, by, at)
    with policy_act():
        found = _second_look(revision, by)
        rows.check_covered(found.expert, at)
        newest = Anchor.objects.order_by("-registered_at").first()
        if newest is None or found.anchor_id != newest.pk:
            raise UnlawfulMove(
                f"expected a revision trained beside the newest anchor, found {found} beside "
                f"{found.anchor}. Train it again."
            )
        if approvals.sign(request, by=by, at=at, words=note).is_complete:
            _activate(found, request, by, at)
    return found


def _activate(
    revision: ExpertRevision, request: ApprovalRequest, by: Account, at: datetime
) -> None:
    expert = revision.expert
    expert.revisions.filter(state=RevisionState.ACTIVATED).update(state=RevisionState.SUPERSEDED)
    revision.state = RevisionState.ACTIVATED
    revision.activation_decided_by, revision.activation_decided_at = by, at
    revision.save()
    if expert.state not in rows.SERVING:
        rows.move(expert, ExpertState.ACTIVE)
    build, _ = builds.draft(reason=f"{revision} activated", at=at)
    events.stage(
        EventTag.ACTIVATION_APPROVED,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={
            "revision": revision.number,
            "digest": revision.digest,
            "build": build.number,
            "request": str(request.pk),
        },
    )
    snapshots.publish(reason=f"{revision} activated", at=at)


def reject_activation(
    revision: ExpertRevision, *, by: Account, at: datetime, note: str = ""
) -> ExpertRevision:
    """Refuse to serve a revision; it may be asked for again.

    Raises:
        FourEyes: the requester may not decide.
        NotPermitted: the step it is at asks for somebody else.
        UnlawfulMove: activation was not requested, or what was asked for has changed since.
    """
    request = _request_for(revision, by, at)
    with transaction.atomic():
        found = _second_look(revision, by)
        approvals.refuse(request, by=by, at=at, words=note)
        _step_back(found, by, at)
        _tell(EventTag.ACTIVATION_REJECTED, found, request, by, at)
    return found


def return_activation(
    revision: ExpertRevision, *, by: Account, at: datetime, note: str
) -> ExpertRevision:
    """Send an activation back for change; the thread goes on when it is asked for again.

    Raises:
        InvalidTerms: no words on what to change.
        FourEyes, NotPermitted, UnlawfulMove: as for `reject_activation`.
    """
    request = _request_for(revision, by, at)
    with transaction.atomic():
        found = _second_look(revision, by)
        approvals.send_back(request, by=by, at=at, words=note)
        _step_back(found, by, at)
        _tell(EventTag.APPROVAL_RETURNED, found, request, by, at)
    return found


def take_back_activation(revision: ExpertRevision, *, by: Account, at: datetime) -> ExpertRevision:
    """Withdraw one's own request for an activation.

    Raises:
        NotPermitted: somebody else asked for it.
        UnlawfulMove: activation was not requested, or is decided.
    """
    with transaction.atomic():
        found = rows.locked_revision(revision)
        if found.state != RevisionState.ACTIVATION_REQUESTED:
            raise _not_waiting(found)
        request = _standing(found)
        approvals.take_back(request, by=by, at=at)
        _step_back(found, None, None)
        _tell(EventTag.APPROVAL_WITHDRAWN, found, request, by, at)
    return found


def _request_for(revision: ExpertRevision, by: Account, at: datetime) -> ApprovalRequest:
    """The request about a revision. If what it asks for has changed, the revision steps back."""
    row = ExpertRevision.objects.select_related("expert__owner", "anchor").get(pk=revision.pk)
    _check_decidable(row, by)
    request = _standing(row)
    try:
        approvals.check_unchanged(request, at=at)
    except UnlawfulMove:
        with transaction.atomic():
            found = rows.locked_revision(row)
            if found.state == RevisionState.ACTIVATION_REQUESTED:
                _step_back(found, None, None)
        raise
    return request


def _standing(revision: ExpertRevision) -> ApprovalRequest:
    by = revision.activation_requested_by
    return approvals.standing(
        subjects.activation(revision), requested_by=by, requested_at=revision.submitted_at
    )


def _step_back(revision: ExpertRevision, by: Account | None, at: datetime | None) -> None:
    """To where the newest audit puts a revision that is not asked for."""
    newest = revision.findings.order_by("-found_at").first()
    is_passed = newest is None or newest.verdict == Verdict.PASS
    revision.state = RevisionState.AUDITED if is_passed else RevisionState.VERIFIED
    revision.activation_decided_by, revision.activation_decided_at = by, at
    revision.save()


def _second_look(revision: ExpertRevision, by: Account) -> ExpertRevision:
    found = rows.locked_revision(revision)
    rows.check_not_ended(found.expert)
    _check_decidable(found, by)
    return found


def _check_decidable(revision: ExpertRevision, by: Account) -> None:
    if revision.state != RevisionState.ACTIVATION_REQUESTED:
        raise _not_waiting(revision)
    eyes.check(by, asked=[revision.activation_requested_by_id], to=f"decide on {revision}")


def _not_waiting(revision: ExpertRevision) -> UnlawfulMove:
    return UnlawfulMove(
        f"expected {revision} to await a decision, found it {revision.state}. Request activation."
    )


def _tell(
    tag: EventTag, revision: ExpertRevision, request: ApprovalRequest, by: Account, at: datetime
) -> None:
    events.stage(
        tag,
        subject=f"expert:{revision.expert.name}",
        by=by,
        at=at,
        details={
            "revision": revision.number,
            "digest": revision.digest,
            "request": str(request.pk),
        },
    )
