"""What pages and REST share about requests: who may see one, and who may decide it here."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest
from django.utils import timezone

from governance.errors import NotPermitted
from governance.models import Account, ApprovalRequest, Build, Consumer, DataOwner
from governance.services import approvals
from governance.services.approvals import Subject, subjects
from governance.vocabulary import ApprovalState, BuildState, ConsumerStatus, OwnerStatus, Role
from web import access


def request_for(http: HttpRequest, identity: UUID | str) -> ApprovalRequest:
    """One request, for our staff.

    Raises:
        Http404: no such request, or not for this person.
    """
    access.staff(http)
    found = (
        ApprovalRequest.objects.select_related("owner", "requested_by").filter(pk=identity).first()
    )
    if found is None:
        raise Http404
    return found


def decider(http: HttpRequest, request: ApprovalRequest) -> Account:
    """Whoever is asking, if this door lets them decide; the engine looks at the step itself.

    Raises:
        Http404: an auditor, or no staff at all: they read, or do not see it.
        NotPermitted: a step that names nobody is for legal staff.
    """
    account = access.staff(http, Role.LEGAL, Role.ENGINEER)
    step = request.steps.filter(round=request.round, number=request.step_number).first()
    is_open_step = step is not None and not step.role and not step.group
    if is_open_step and not access.person(http).has(Role.LEGAL):
        raise NotPermitted(f"expected legal staff for {request.title}, found {account}.")
    return account


def prospect(kind: str, slug: str) -> Subject:
    """Taking on an owner or a consumer that is a prospect.

    Raises:
        Http404: no such one, or it is none.
    """
    if kind == "owner":
        owner = DataOwner.objects.filter(slug=slug, status=OwnerStatus.PROSPECT).first()
        found = subjects.owner(owner) if owner else None
    else:
        consumer = Consumer.objects.filter(slug=slug, status=ConsumerStatus.PROSPECT).first()
        found = subjects.consumer(consumer) if consumer else None
    if found is None:
        raise Http404
    return found


def promotion(number: int) -> Subject:
    """Promoting an assembled build.

    Raises:
        Http404: no such build, or it is not assembled.
    """
    rows = Build.objects.select_related("anchor").filter(state=BuildState.ASSEMBLED)
    build = rows.filter(number=number).first()
    if build is None:
        raise Http404
    return subjects.promotion(build)


def exported(number: int) -> Build:
    """A build that may be handed out as far as its state goes.

    Raises:
        Http404: no such build, or it is planned, failed or tombstoned.
    """
    rows = Build.objects.select_related("anchor").exclude(state__in=subjects.NOT_EXPORTED)
    build = rows.filter(number=number).first()
    if build is None:
        raise Http404
    return build


def why_not(http: HttpRequest, request: ApprovalRequest) -> str:
    """Why the person asking may not decide now, as a sentence for them; "" where they may."""
    account = access.person(http).account
    said = approvals.may_decide(request, account, timezone.now())
    if said or request.state != ApprovalState.OPEN:
        return said
    try:
        decider(http, request)
    except NotPermitted:
        return "This step waits for legal staff."
    except Http404:
        return "Auditors read; they do not decide."
    return ""
