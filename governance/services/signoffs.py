"""Deciding on any request, whatever it is for: the lawful effect follows in one transaction.

Licences and activations are decided by their own services; what has no service of its own is
decided here. Rules that act by themselves go through the same doors as people.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import GovernanceError, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    ApprovalRequest,
    Consumer,
    DataOwner,
    ExpertRevision,
    Licence,
)
from governance.services import approvals, consumers, experts, licences, owners
from governance.services.approvals import bots
from governance.vocabulary import (
    ApprovalKind,
    ApprovalRule,
    ApprovalState,
    ApprovalVerb,
    ConsumerStatus,
    EventTag,
    OwnerStatus,
)


def approve(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str = ""
) -> ApprovalRequest:
    """Sign a request. The last signature puts it into effect.

    Raises:
        FourEyes: by or for whoever asked for it, or one person twice.
        NotPermitted: the step it is at asks for somebody else.
        UnlawfulMove: decided already, or changed since (then it is void).
    """
    approvals.check_unchanged(request, at=at)
    match ApprovalKind(request.kind):
        case ApprovalKind.LICENCE:
            licences.approve(_licence(request), by=by, at=at, note=words)
        case ApprovalKind.ACTIVATION:
            experts.approve_activation(_revision(request), by=by, at=at, note=words)
        case _:
            with transaction.atomic():
                signed = approvals.sign(request, by=by, at=at, words=words)
                if signed.is_complete:
                    _effect(signed.request, by, at, words)
    request.refresh_from_db()
    return request


def _effect(request: ApprovalRequest, by: Account, at: datetime, words: str) -> None:
    """What follows from the last signature; some approvals wait for the act that spends them."""
    key = request.subject_id
    match ApprovalKind(request.kind):
        case ApprovalKind.ROUTE:
            approvals.adopt(request, by=by, at=at)
        case ApprovalKind.OWNER:
            owner = DataOwner.objects.get(pk=key)
            owners.move(owner, to=OwnerStatus.ACTIVE, reason=words, by=by, at=at)
        case ApprovalKind.CONSUMER:
            consumer = Consumer.objects.get(pk=key)
            consumers.move(consumer, to=ConsumerStatus.ACTIVE, reason=words, by=by, at=at)
        case _:
            _tell(EventTag.APPROVAL_APPROVED, request, by, at, words)


def reject(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str = ""
) -> ApprovalRequest:
    """Refuse a request for good.

    Raises:
        FourEyes, NotPermitted, UnlawfulMove: as for `approve`.
    """
    approvals.check_unchanged(request, at=at)
    match ApprovalKind(request.kind):
        case ApprovalKind.LICENCE:
            licences.reject(_licence(request), by=by, at=at, note=words)
        case ApprovalKind.ACTIVATION:
            experts.reject_activation(_revision(request), by=by, at=at, note=words)
        case _:
            with transaction.atomic():
                found = approvals.refuse(request, by=by, at=at, words=words)
                _tell(EventTag.APPROVAL_REJECTED, found, by, at, words)
    request.refresh_from_db()
    return request


def send_back(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str
) -> ApprovalRequest:
    """Return a request for change; what its requester asks for next goes on in its thread.

    Raises:
        InvalidTerms: no words on what to change.
        FourEyes, NotPermitted, UnlawfulMove: as for `approve`.
    """
    approvals.check_unchanged(request, at=at)
    match ApprovalKind(request.kind):
        case ApprovalKind.LICENCE:
            licences.send_back(_licence(request), by=by, at=at, note=words)
        case ApprovalKind.ACTIVATION:
            experts.return_activation(_revision(request), by=by, at=at, note=words)
        case _:
            with transaction.atomic():
                found = approvals.send_back(request, by=by, at=at, words=words)
                _tell(EventTag.APPROVAL_RETURNED, found, by, at, words)
    request.refresh_from_db()
    return request


def take_back(
    request: ApprovalRequest, *, by: Account, at: datetime, words: str = ""
) -> ApprovalRequest:
    """Withdraw one's own request.

    Raises:
        NotPermitted: it is somebody else's.
        UnlawfulMove: it is decided, or a licence's: those a second person rejects, so that every
            version of terms ever asked for has been looked at.
    """
    match ApprovalKind(request.kind):
        case ApprovalKind.LICENCE:
            raise UnlawfulMove(
                f"expected a request its requester may take back, found {request.title}. "
                "A colleague rejects it."
            )
        case ApprovalKind.ACTIVATION if request.state == ApprovalState.OPEN:
            experts.take_back_activation(_revision(request), by=by, at=at)
        case _:
            with transaction.atomic():
                found = approvals.take_back(request, by=by, at=at, words=words)
                _tell(EventTag.APPROVAL_WITHDRAWN, found, by, at, words)
    request.refresh_from_db()
    return request


def apply_rules(*, at: datetime) -> int:
    """Let the rules that routes name act on what is open; how often one did.

    A rule acts once a round, as its own bot. What it may not do it is refused like a person, and a
    person decides.
    """
    waiting = ApprovalRequest.objects.filter(state=ApprovalState.OPEN).exclude(rules=[])
    return sum(
        _apply(ApprovalRule(name), request, at)
        for request in waiting.order_by("opened_at")
        for name in request.rules
    )


def _apply(rule: ApprovalRule, request: ApprovalRequest, at: datetime) -> bool:
    bot = bots.account(rule)
    if request.state != ApprovalState.OPEN:
        return False
    if request.acts.filter(
        actor=bot,
        round=request.round,
        verb__in=(ApprovalVerb.APPROVE, ApprovalVerb.REJECT),
    ).exists():
        return False
    words = bots.reason(rule, request)
    if not words:
        return False
    act = reject if rule == ApprovalRule.REJECT_OPEN_GAP else approve
    try:
        act(request, by=bot, at=at, words=words)
    except GovernanceError:
        request.refresh_from_db()
        return False
    return True


def void_changed(*, at: datetime) -> list[ApprovalRequest]:
    """Void every open request whose subject has changed; those that were voided."""
    changed = []
    for request in ApprovalRequest.objects.filter(state=ApprovalState.OPEN):
        if not approvals.is_unchanged(request):
            approvals.void(request, at=at, words="What was asked for has changed since.")
            changed.append(request)
    return changed


def _licence(request: ApprovalRequest) -> Licence:
    return Licence.objects.get(pk=request.subject_id)


def _revision(request: ApprovalRequest) -> ExpertRevision:
    return ExpertRevision.objects.select_related("expert").get(pk=request.subject_id)


def _tell(tag: EventTag, request: ApprovalRequest, by: Account, at: datetime, words: str) -> None:
    events.stage(
        tag,
        subject=f"approval:{request.pk}",
        by=by,
        at=at,
        details={
            "kind": request.kind,
            "digest": request.digest,
            "round": request.round,
            "words": words,
        },
    )
