"""The requests board, and one request: what is asked, its steps, its thread, what may be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.errors import GovernanceError
from governance.models import (
    Account,
    ApprovalRequest,
    ExpertRevision,
    Licence,
)
from governance.selectors import approvals as board
from governance.services import approvals, documents, experts, licences, signoffs
from governance.vocabulary import (
    ApprovalKind,
    ApprovalState,
    ApprovalVerb,
    Role,
)
from web import access, approving, stepup
from web.ui import forms
from web.ui.forms.approvals import KINDS_OFFERED, AttachForm, CommentForm, HandOverForm
from web.ui.legal.rows import ROWS_A_PAGE
from web.ui.lists.filters import Words

SEES = (Role.LEGAL, Role.ENGINEER, Role.AUDITOR)
_DECIDING = {
    "approve": signoffs.approve,
    "reject": signoffs.reject,
    "return": signoffs.send_back,
}
_SAID = {"approve": "signed", "reject": "rejected", "return": "returned for change"}


class BoardFilter(django_filters.FilterSet):
    """Requests by words in their titles or owners' names, and by kind."""

    find = Words("Title or owner", over=("title", "owner__legal_name"))
    kind = django_filters.ChoiceFilter(
        choices=[(kind.value, kind.label) for kind in KINDS_OFFERED], empty_label="Any"
    )


@access.staff_page(*SEES)
def approvals_page(request: HttpRequest) -> HttpResponse:
    """What waits: for me, for others, for its requester; and what was decided."""
    account, now = access.staff(request, *SEES), timezone.now()
    found = BoardFilter(request.GET, queryset=board.listed())
    rows = found.qs
    is_overdue_only = request.GET.get("overdue") == "1"
    if is_overdue_only:
        rows = rows.filter(due_at__lt=now, paused_at=None, state=ApprovalState.OPEN)
    decided = Paginator(board.decided(rows).prefetch_related(None), ROWS_A_PAGE).get_page(
        request.GET.get("page")
    )
    context = {
        "board": board.board(account, at=now, rows=rows),
        "decided": decided,
        "form": found.form,
        "is_overdue_only": is_overdue_only,
        "is_legal": access.person(request).has(Role.LEGAL),
    }
    return render(request, "legal/approvals.html", context)


@access.staff_page(*SEES)
def approval_page(request: HttpRequest, identity: str) -> HttpResponse:
    """One request."""
    return _page(request, approving.request_for(request, identity))


def _page(request: HttpRequest, found: ApprovalRequest, **shown: Any) -> HttpResponse:
    """The page of a request, with a form that was refused in place of an empty one."""
    account = access.staff(request, *SEES)
    is_staff_here = access.person(request).has(Role.LEGAL, Role.ENGINEER)
    is_own = account.pk in approvals.requesters(found)
    context = {
        "asked": found,
        "subject": _subject(found),
        "places": board.places(found),
        "thread": board.thread(found),
        "why_not": approving.why_not(request, found),
        "is_own": is_own,
        "is_open": found.state == ApprovalState.OPEN,
        "is_changed": found.state == ApprovalState.OPEN and not approvals.is_unchanged(found),
        "may_speak": is_staff_here,
        "may_take_back": is_own
        and found.kind != ApprovalKind.LICENCE
        and found.state in (ApprovalState.OPEN, ApprovalState.RETURNED),
        "may_issue": found.kind == ApprovalKind.API_KEY
        and found.state == ApprovalState.APPROVED
        and found.spent_at is None
        and access.person(request).has(Role.LEGAL),
        "change_url": _change_url(found) if is_own else "",
        "comment_form": CommentForm(),
        "attach_form": AttachForm(),
        "hand_form": HandOverForm(),
        "is_overdue": bool(found.due_at and not found.paused_at and found.due_at < timezone.now()),
        **shown,
    }
    status = forms.status_of(*(one for one in shown.values() if hasattr(one, "is_bound")))
    return render(request, "legal/approval.html", context, status=status)


def _subject(request: ApprovalRequest) -> dict[str, Any]:
    """What is asked for, in plain words and with the rows a reader decides by."""
    match ApprovalKind(request.kind):
        case ApprovalKind.LICENCE:
            rows = Licence.objects.select_related("corpus__owner", "supersedes")
            licence = rows.filter(pk=request.subject_id).first()
            if licence is None:
                return {}
            words, is_read = licences.plain_words(licence), licences.contract_is_confirmed(licence)
            return {"licence": licence, "words": words, "waits_for_reader": not is_read}
        case ApprovalKind.ACTIVATION | ApprovalKind.WAIVER:
            revisions = ExpertRevision.objects.select_related("expert__owner", "anchor")
            revision = revisions.filter(pk=request.subject_id).first()
            findings = revision.findings.order_by("-found_at") if revision else []
            return {"revision": revision, "findings": findings}
        case ApprovalKind.ROUTE:
            return {"route": request.content}
        case ApprovalKind.PROMOTION | ApprovalKind.EXPORT:
            return {"build": request.content, "recipient": request.content.get("recipient", "")}
        case _:
            return {"facts": [(name, value) for name, value in request.content.items() if value]}


def _change_url(request: ApprovalRequest) -> str:
    """Where a requester whose request came back asks for something changed."""
    if request.state != ApprovalState.RETURNED:
        return ""
    if request.kind == ApprovalKind.LICENCE:
        slug = request.thread.removeprefix("corpus:")
        return f"{reverse('legal:licence-request')}?corpus={slug}"
    if request.kind == ApprovalKind.API_KEY:
        slug = request.thread.removeprefix("consumer:")
        return f"{reverse('legal:key-request')}?consumer={slug}"
    if request.kind == ApprovalKind.ROUTE:
        return reverse("legal:route", args=[request.thread.removeprefix("route:")])
    if request.kind == ApprovalKind.WAIVER:
        return reverse("legal:waiver-request", args=[request.subject_id])
    if request.kind != ApprovalKind.ACTIVATION:
        name = request.thread.partition(":")[2]
        return reverse(f"legal:{request.kind}-request", args=[name])
    return ""


@access.staff_page(*SEES)
@require_POST
@stepup.required
def decide(request: HttpRequest, identity: str, verb: str) -> HttpResponseBase:
    """Approve, reject or return; never one's own request."""
    found = approving.request_for(request, identity)
    words = request.POST.get("words", "")
    try:
        by = approving.decider(request, found)
        _DECIDING[verb](found, by=by, at=timezone.now(), words=words)
        done = "approved" if found.state == ApprovalState.APPROVED else _SAID[verb]
        messages.success(request, f"{found} is {done}.")
    except GovernanceError as error:
        messages.error(request, error.message)
        found.refresh_from_db()
        return _page(request, found, words=words)
    return redirect("legal:approval", found.pk)


@access.staff_page(*SEES)
@require_POST
def comment(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Say something in the thread."""

    def act(found: ApprovalRequest, by: Account, form: CommentForm) -> None:
        approvals.comment(found, **form.cleaned_data, by=by, at=timezone.now())

    return _said(request, identity, CommentForm(request.POST), "comment_form", act)


@access.staff_page(*SEES)
@require_POST
def attach(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Put a file beside a request."""

    def act(found: ApprovalRequest, by: Account, form: AttachForm) -> None:
        given = form.cleaned_data
        file, now = given.pop("file"), timezone.now()
        document = documents.store(
            file.read(), name=file.name, media_type=file.content_type, by=by, at=now
        )
        approvals.attach(found, document=document, **given, by=by, at=now)

    return _said(request, identity, AttachForm(request.POST, request.FILES), "attach_form", act)


@access.staff_page(*SEES)
@require_POST
def hand_over(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Let a colleague decide this one in my place."""

    def act(found: ApprovalRequest, by: Account, form: HandOverForm) -> None:
        approvals.hand_over(found, **form.cleaned_data, by=by, at=timezone.now())

    return _said(request, identity, HandOverForm(request.POST), "hand_form", act)


def _said(
    request: HttpRequest,
    identity: str,
    form: Any,
    name: str,
    act: Callable[[ApprovalRequest, Account, Any], None],
) -> HttpResponseBase:
    by = access.staff(request, Role.LEGAL, Role.ENGINEER)
    found = approving.request_for(request, identity)
    if form.is_valid():
        with forms.refusals_shown(form):
            act(found, by, form)
            return redirect("legal:approval", found.pk)
    return _page(request, found, **{name: form})


_CLOCK: dict[str, Callable[..., ApprovalRequest]] = {
    "pause": approvals.pause,
    "resume": approvals.resume,
    "take-back": signoffs.take_back,
}


@access.staff_page(*SEES)
@require_POST
def move(request: HttpRequest, identity: str, verb: str) -> HttpResponseBase:
    """Stop the clock, let it go on, or take one's own request back."""
    by = access.staff(request, Role.LEGAL, Role.ENGINEER)
    found = approving.request_for(request, identity)
    try:
        _CLOCK[verb](found, by=by, at=timezone.now(), words=request.POST.get("words", ""))
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:approval", found.pk)


@access.staff_page(*SEES)
def attachment(request: HttpRequest, identity: str, digest: str) -> HttpResponse:
    """A file beside a request, as it was handed in."""
    found = approving.request_for(request, identity)
    act = found.acts.filter(verb=ApprovalVerb.ATTACH, document=digest).first()
    if act is None or act.document is None:
        raise Http404
    response = HttpResponse(bytes(act.document.content), content_type=act.document.media_type)
    response["Content-Disposition"] = f'attachment; filename="{act.document.digest[:12]}"'
    return response


@access.staff_page(Role.LEGAL)
@require_POST
@stepup.required
def decide_activation(request: HttpRequest, identity: str, verb: str) -> HttpResponseBase:
    """Approve or reject the activation of a revision."""
    by = access.staff(request, Role.LEGAL)
    revision = ExpertRevision.objects.select_related("expert").filter(pk=identity).first()
    act = {"approve": experts.approve_activation, "reject": experts.reject_activation}.get(verb)
    if revision is None or act is None:
        raise Http404
    try:
        act(revision, by=by, at=timezone.now())
        said = "signed" if verb == "approve" else "rejected"
        messages.success(request, f"Activation of {revision} is {said}.")
    except GovernanceError as error:
        messages.error(request, error.message)
    return redirect("legal:approvals")


urlpatterns = [
    path("approvals/", approvals_page, name="approvals"),
    path("approvals/<uuid:identity>/", approval_page, name="approval"),
    path("approvals/<uuid:identity>/comment/", comment, name="approval-comment"),
    path("approvals/<uuid:identity>/attach/", attach, name="approval-attach"),
    path("approvals/<uuid:identity>/hand-over/", hand_over, name="approval-hand-over"),
    path("approvals/<uuid:identity>/files/<slug:digest>/", attachment, name="approval-file"),
    *(
        path(f"approvals/<uuid:identity>/{verb}/", move, {"verb": verb}, name=f"approval-{verb}")
        for verb in _CLOCK
    ),
    *(
        path(f"approvals/<uuid:identity>/{verb}/", decide, {"verb": verb}, name=f"approval-{verb}")
        for verb in _DECIDING
    ),
    path("revisions/<uuid:identity>/<slug:verb>/", decide_activation, name="activation-decide"),
]
