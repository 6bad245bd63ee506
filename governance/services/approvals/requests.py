"""Requests: opened, bound to a digest, voided by any changed byte, taken back, used once."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from governance.errors import NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, ApprovalAct, ApprovalRequest, ApprovalStep
from governance.services.approvals import routes, subjects
from governance.services.approvals.subjects import Subject
from governance.vocabulary import ApprovalKind, ApprovalState, ApprovalVerb, EventTag


@transaction.atomic
def ask(subject: Subject, *, by: Account, at: datetime, words: str = "") -> ApprovalRequest:
    """Ask for something. A request of the same person that was returned goes on, in a new round.

    Raises:
        UnlawfulMove: exactly this is asked for already.
    """
    request = opened(subject, by=by, at=at, words=words)
    events.stage(
        EventTag.APPROVAL_ASKED,
        subject=about(request),
        by=by,
        at=at,
        details={"request": str(request.pk), "digest": request.digest, "round": request.round},
    )
    return request


@transaction.atomic
def opened(subject: Subject, *, by: Account, at: datetime, words: str = "") -> ApprovalRequest:
    """Open a request as part of the act that asks (a licence request stages its own event).

    Raises:
        UnlawfulMove: exactly this is asked for already, or needs no approval any more.
    """
    digest = subject.digest
    if ApprovalRequest.objects.filter(
        kind=subject.kind, digest=digest, state=ApprovalState.OPEN
    ).exists():
        raise UnlawfulMove(
            f"expected something new, found that {subject.title} is asked for already. "
            "See the requests board."
        )
    request = _returned(subject, by) or ApprovalRequest(requested_by=by, opened_at=at)
    if not request._state.adding:  # noqa: SLF001 - Django's own flag of a row not yet written
        request.round += 1
    route = routes.chosen(subject.kind, subject.facts)
    request.kind, request.subject_kind = subject.kind, subject.subject_kind
    request.subject_id, request.thread = subject.subject_id, subject.thread
    request.title, request.owner = subject.title[:200], subject.owner
    request.content, request.digest = dict(subject.content), digest
    request.route_key, request.route_version = route.key, route.version
    if not is_unchanged(request):
        raise UnlawfulMove(f"expected {subject.title} to be still to come, found it is not.")
    request.rules = list(route.rules)
    request.state, request.step_number = ApprovalState.OPEN, 1
    request.due_at, request.paused_at = due(at, route.steps[0].days), None
    request.save()
    ApprovalStep.objects.bulk_create(
        ApprovalStep(request=request, round=request.round, number=number, **vars(step))
        for number, step in enumerate(route.steps, 1)
    )
    write(request, ApprovalVerb.SUBMIT, by=by, at=at, words=words)
    return request


def _returned(subject: Subject, by: Account) -> ApprovalRequest | None:
    return (
        ApprovalRequest.objects.select_for_update()
        .filter(
            kind=subject.kind,
            thread=subject.thread,
            requested_by=by,
            state=ApprovalState.RETURNED,
        )
        .order_by("-opened_at")
        .first()
    )


def due(at: datetime, days: int | None) -> datetime | None:
    """The deadline of a step that begins at `at`."""
    return None if days is None else at + timedelta(days=days)


def write(
    request: ApprovalRequest,
    verb: ApprovalVerb,
    *,
    by: Account | None,
    at: datetime,
    **more: object,
) -> ApprovalAct:
    """Write what somebody did, at the round, step and digest the request is at."""
    return ApprovalAct.objects.create(
        request=request,
        round=request.round,
        step_number=request.step_number,
        verb=verb,
        actor=by,
        digest=request.digest,
        acted_at=at,
        **more,
    )


def about(request: ApprovalRequest) -> str:
    """The subject of a request's events."""
    return f"approval:{request.pk}"


def standing(
    subject: Subject, *, requested_by: Account | None, requested_at: datetime
) -> ApprovalRequest:
    """The newest request about a row; one is opened for a row that was asked for without.

    Raises:
        UnlawfulMove: nobody is known to have asked for it.
    """
    found = (
        ApprovalRequest.objects.filter(kind=subject.kind, subject_id=subject.subject_id)
        .order_by("-opened_at")
        .first()
    )
    if found is not None:
        return found
    if requested_by is None:
        raise UnlawfulMove(
            f"expected somebody to have asked for {subject.title}, found nobody. Request it."
        )
    return opened(subject, by=requested_by, at=requested_at)


def is_unchanged(request: ApprovalRequest) -> bool:
    """Whether what was asked for is still, byte for byte, what the rows say."""
    now = subjects.again(request)
    return now is not None and now.digest == request.digest


def check_unchanged(request: ApprovalRequest, *, at: datetime) -> None:
    """Void an open request whose subject has changed, and refuse.

    Called before the act's own transaction, so that the void stays when the act is refused.

    Raises:
        UnlawfulMove: it had changed; the request is void now, or was already.
    """
    if request.state == ApprovalState.VOID:
        raise _changed(request)
    if request.state == ApprovalState.OPEN and not is_unchanged(request):
        void(request, at=at, words="What was asked for has changed since.")
        raise _changed(request)


def _changed(request: ApprovalRequest) -> UnlawfulMove:
    return UnlawfulMove(
        f"expected {request.title} as it was asked for ({request.digest[:12]}), found it changed "
        "since. The request is void and nothing was approved; ask anew."
    )


@transaction.atomic
def void(request: ApprovalRequest, *, at: datetime, words: str) -> ApprovalRequest:
    """End an open request that asks for what is no more. Repeating it changes nothing."""
    found = ApprovalRequest.objects.select_for_update().get(pk=request.pk)
    if found.state not in (ApprovalState.OPEN, ApprovalState.RETURNED):
        return found
    write(found, ApprovalVerb.VOID, by=None, at=at, words=words)
    close(found, ApprovalState.VOID, at=at, words=words)
    events.stage(
        EventTag.APPROVAL_VOIDED,
        subject=about(found),
        by=None,
        at=at,
        details={"digest": found.digest, "reason": words},
    )
    request.state, request.closed_at = found.state, found.closed_at
    return found


def close(request: ApprovalRequest, state: ApprovalState, *, at: datetime, words: str = "") -> None:
    """Put a request into a final state."""
    request.state, request.closed_at, request.closing_words = state, at, words
    request.paused_at = None
    request.save(update_fields=["state", "closed_at", "closing_words", "paused_at"])


def required(subject: Subject) -> bool:
    """Whether the act needs an approved request first."""
    return routes.is_on(subject.kind, subject.facts)


def approved(subject: Subject) -> ApprovalRequest | None:
    """The unspent approval of exactly this, if there is one."""
    return (
        ApprovalRequest.objects.filter(
            kind=subject.kind,
            digest=subject.digest,
            state=ApprovalState.APPROVED,
            spent_at=None,
        )
        .order_by("closed_at")
        .first()
    )


@transaction.atomic
def spend(subject: Subject, *, at: datetime) -> ApprovalRequest | None:
    """Use up the approval of an act, inside its transaction. None where none is needed or there.

    Raises:
        NotPermitted: an approval is needed, and exactly this was not approved or was used.
    """
    found = approved(subject)
    if found and ApprovalRequest.objects.filter(pk=found.pk, spent_at=None).update(spent_at=at):
        return found
    if required(subject):
        raise NotPermitted(
            f"expected an approved request for {subject.title}, found none for exactly this. "
            "Ask for it on the requests board."
        )
    return None


def kind_of(request: ApprovalRequest) -> ApprovalKind:
    """The kind as a word of the vocabulary."""
    return ApprovalKind(request.kind)
