"""What people do with a request: sign, refuse, send back, speak, attach, hand on, pause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from governance.errors import FourEyes, InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, ApprovalAct, ApprovalRequest, ApprovalStep, Document
from governance.services.approvals import requests, seats
from governance.vocabulary import ApprovalState, ApprovalVerb, EventTag


@dataclass(frozen=True)
class Signed:
    """A request after somebody signed; complete when no signature is missing any more."""

    request: ApprovalRequest
    is_complete: bool


@transaction.atomic
def sign(request: ApprovalRequest, *, by: Account, at: datetime, words: str = "") -> Signed:
    """Approve, as one person, at the step the request is at.

    While signatures are missing this stages an event of its own; the last one leaves that to the
    lawful act it completes, in the same transaction.

    Raises:
        FourEyes: by or for somebody who asked for it, or who approved it before.
        NotPermitted: the step asks for somebody else.
        UnlawfulMove: not open, or no longer what was asked for.
    """
    found, step = locked(request)
    _decide(found, step, ApprovalVerb.APPROVE, by=by, at=at, words=words)
    given = found.acts.filter(
        verb=ApprovalVerb.APPROVE, round=found.round, step_number=step.number
    ).count()
    if given >= step.needed:
        following = found.steps.filter(round=found.round, number=step.number + 1).first()
        if following is None:
            requests.close(found, ApprovalState.APPROVED, at=at, words=words)
            return Signed(found, is_complete=True)
        found.step_number = following.number
        found.due_at, found.paused_at = requests.due(at, following.days), None
        found.save(update_fields=["step_number", "due_at", "paused_at"])
    _tell(EventTag.APPROVAL_SIGNED, found, by, at, {"step": step.number, "given": given})
    return Signed(found, is_complete=False)


@transaction.atomic
def refuse(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str = ""
) -> ApprovalRequest:
    """Reject, as part of the act that stages the event. One person on the step's side is enough.

    Raises:
        FourEyes, NotPermitted, UnlawfulMove: as for `sign`.
    """
    found, step = locked(request)
    _decide(found, step, ApprovalVerb.REJECT, by=by, at=at, words=words)
    requests.close(found, ApprovalState.REJECTED, at=at, words=words)
    return found


@transaction.atomic
def send_back(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str
) -> ApprovalRequest:
    """Return for change, as part of the act that stages the event. Its thread goes on.

    Raises:
        InvalidTerms: no words on what to change.
        FourEyes, NotPermitted, UnlawfulMove: as for `sign`.
    """
    _need(words, "words", "Say what is to be changed.")
    found, step = locked(request)
    _decide(found, step, ApprovalVerb.RETURN, by=by, at=at, words=words)
    found.state, found.due_at, found.paused_at = ApprovalState.RETURNED, None, None
    found.save(update_fields=["state", "due_at", "paused_at"])
    return found


def locked(request: ApprovalRequest) -> tuple[ApprovalRequest, ApprovalStep]:
    """An open request and the step it is at, locked.

    Raises:
        UnlawfulMove: it is not open, or no longer what was asked for.
    """
    found = ApprovalRequest.objects.select_for_update().get(pk=request.pk)
    if found.state != ApprovalState.OPEN:
        raise UnlawfulMove(
            f"expected {found.title} to await a decision, found it {found.state}. Ask anew."
        )
    if not requests.is_unchanged(found):
        raise UnlawfulMove(
            f"expected {found.title} as it was asked for, found it changed since. Ask anew."
        )
    return found, found.steps.get(round=found.round, number=found.step_number)


def _decide(
    request: ApprovalRequest,
    step: ApprovalStep,
    verb: ApprovalVerb,
    *,
    by: Account,
    at: datetime,
    words: str,
) -> None:
    approves = verb == ApprovalVerb.APPROVE
    seats.check_eyes(request, [by], approves=approves)
    giver = seats.seat(request, step, by, at)
    seats.check_eyes(request, [giver] if giver else [], approves=approves)
    # What was returned is the requester's to change, the owner's to read.
    requests.write(request, verb, by=by, at=at, on_behalf_of=giver, words=words)


@transaction.atomic
def comment(
    request: ApprovalRequest,
    *,
    words: str,
    is_visible_to_owner: bool = False,
    by: Account,
    at: datetime,
) -> ApprovalAct:
    """Say something in the thread, for colleagues or for the owner too. Decided threads go on.

    Raises:
        InvalidTerms: no words, or for an owner where the request has none.
    """
    _need(words, "words", "Write something.")
    if is_visible_to_owner and request.owner_id is None:
        raise InvalidTerms(
            f"expected a request about an owner, found {request.title}.",
            fields={"is_visible_to_owner": "This request is about no owner."},
        )
    found = _any(request)
    act = requests.write(
        found,
        ApprovalVerb.COMMENT,
        by=by,
        at=at,
        words=words,
        is_visible_to_owner=is_visible_to_owner,
    )
    details = {"act": str(act.pk), "is_visible_to_owner": is_visible_to_owner}
    _tell(EventTag.APPROVAL_COMMENTED, found, by, at, details)
    return act


@transaction.atomic
def attach(
    request: ApprovalRequest,
    *,
    document: Document,
    words: str = "",
    is_visible_to_owner: bool = False,
    by: Account,
    at: datetime,
) -> ApprovalAct:
    """Put a stored file beside a request."""
    found = _any(request)
    act = requests.write(
        found,
        ApprovalVerb.ATTACH,
        by=by,
        at=at,
        words=words,
        document=document,
        is_visible_to_owner=is_visible_to_owner and found.owner_id is not None,
    )
    details = {"act": str(act.pk), "document": document.digest}
    _tell(EventTag.APPROVAL_ATTACHED, found, by, at, details)
    return act


@transaction.atomic
def hand_over(
    request: ApprovalRequest, *, to: Account, words: str = "", by: Account, at: datetime
) -> ApprovalAct:
    """Let a colleague decide this one request in one's place.

    Raises:
        FourEyes: the colleague asked for it; or oneself did.
        NotPermitted: the step does not ask for oneself; a right lent is not lent on.
        InvalidTerms: not a colleague.
    """
    found, step = locked(request)
    seats.check_eyes(found, [by, to], approves=False)
    if seats.seat(found, step, by, at) is not None:
        raise NotPermitted(
            f"expected a right of {by}'s own, found one lent to them. Ask whoever lent it."
        )
    if to.pk == by.pk or not seats.is_staff(to):
        raise InvalidTerms(
            f"expected a colleague on our staff, found {to}.",
            fields={"to": "A colleague on our staff, not yourself."},
        )
    act = requests.write(found, ApprovalVerb.DELEGATE, by=by, at=at, delegate=to, words=words)
    _tell(EventTag.APPROVAL_DELEGATED, found, by, at, {"to": to.pk})
    return act


@transaction.atomic
def pause(request: ApprovalRequest, *, words: str, by: Account, at: datetime) -> ApprovalRequest:
    """Stop the clock, with a reason.

    Raises:
        InvalidTerms: no reason.
        UnlawfulMove: the clock stands already, or there is none.
        FourEyes, NotPermitted: as for `sign`; a requester does not stop their own clock.
    """
    _need(words, "words", "Say why the clock is to stand.")
    found = _clocked(request, by, at)
    if found.paused_at is not None or found.due_at is None:
        raise UnlawfulMove(f"expected a running clock, found none on {found.title}.")
    requests.write(found, ApprovalVerb.PAUSE, by=by, at=at, words=words)
    found.paused_at = at
    found.save(update_fields=["paused_at"])
    left_s = (found.due_at - at).total_seconds()
    _tell(EventTag.APPROVAL_PAUSED, found, by, at, {"reason": words, "left_s": left_s})
    return found


@transaction.atomic
def resume(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str = ""
) -> ApprovalRequest:
    """Let the clock go on with the time that was left.

    Raises:
        UnlawfulMove: it does not stand.
        FourEyes, NotPermitted: as for `sign`.
    """
    found = _clocked(request, by, at)
    if found.paused_at is None or found.due_at is None:
        raise UnlawfulMove(f"expected a clock that stands, found it running on {found.title}.")
    requests.write(found, ApprovalVerb.RESUME, by=by, at=at, words=words)
    found.due_at, found.paused_at = found.due_at + (at - found.paused_at), None
    found.save(update_fields=["due_at", "paused_at"])
    _tell(EventTag.APPROVAL_RESUMED, found, by, at, {"due_at": found.due_at})
    return found


def _clocked(request: ApprovalRequest, by: Account, at: datetime) -> ApprovalRequest:
    found, step = locked(request)
    seats.check_eyes(found, [by], approves=False)
    seats.seat(found, step, by, at)
    return found


@transaction.atomic
def take_back(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str = ""
) -> ApprovalRequest:
    """Withdraw one's own request, as part of the act that stages the event.

    Raises:
        NotPermitted: it is somebody else's.
        UnlawfulMove: it is decided.
    """
    found = _any(request)
    if found.state not in (ApprovalState.OPEN, ApprovalState.RETURNED):
        raise UnlawfulMove(f"expected an undecided request, found it {found.state}.")
    if by.pk not in seats.requesters(found):
        raise NotPermitted(
            f"expected {found.requested_by} to take their request back, found {by}. Reject it."
        )
    requests.write(found, ApprovalVerb.WITHDRAW, by=by, at=at, words=words)
    requests.close(found, ApprovalState.WITHDRAWN, at=at, words=words)
    return found


def may_decide(request: ApprovalRequest, account: Account, at: datetime) -> str:
    """Why the account may not decide now, in a sentence for its page; "" where it may."""
    if request.state != ApprovalState.OPEN:
        return "It is not open."
    step = request.steps.get(round=request.round, number=request.step_number)
    if account.pk in seats.requesters(request):
        return "You asked for this. A colleague decides; nobody decides their own request."
    if account.pk in seats.counted(request):
        return "You have approved this already. One person counts once over all steps."
    try:
        giver = seats.seat(request, step, account, at)
        seats.check_eyes(request, [giver] if giver else [], approves=True)
    except FourEyes:
        return "The colleague you stand in for asked for this or has approved it already."
    except NotPermitted:
        return f"This step waits for {seats.whom(step)}."
    return ""


def _any(request: ApprovalRequest) -> ApprovalRequest:
    return ApprovalRequest.objects.select_for_update().get(pk=request.pk)


def _need(words: str, field: str, message: str) -> None:
    if not words.strip():
        raise InvalidTerms(f"expected words, found none. {message}", fields={field: message})


def _tell(
    tag: EventTag,
    request: ApprovalRequest,
    by: Account,
    at: datetime,
    details: Mapping[str, object],
) -> None:
    found = {"digest": request.digest, "round": request.round, **details}
    events.stage(tag, subject=requests.about(request), by=by, at=at, details=found)
