"""Pages of legal staff about duties, statements and quotas."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.models import Document, Duty, Licence, Statement
from governance.services import documents, duties, quotas, statements
from governance.vocabulary import RemarkKind, Role
from web import access
from web.ui import forms
from web.ui.forms.money import IssueForm, ProofForm, RemarkForm
from web.ui.legal.rows import ROWS_A_PAGE
from web.ui.lists.money import DUTIES, STATEMENTS
from web.ui.money import FORMATS


@access.staff_page(Role.LEGAL)
def duties_page(request: HttpRequest) -> HttpResponse:
    """What we owe under licences: the most urgent first, with their clocks."""
    undone = duties.undone()
    context = {
        "shown": DUTIES.shown(request),
        "overdue": undone.filter(due_at__lte=timezone.now()).count(),
        "undone": undone.count(),
    }
    return render(request, "legal/duties.html", context)


@access.staff_page(Role.LEGAL)
def duty_page(request: HttpRequest, identity: str) -> HttpResponseBase:
    """One duty, and the form that closes it with proof."""
    rows = Duty.objects.select_related("owner", "licence", "expert", "done_by", "proof_document")
    duty = rows.filter(pk=identity).first()
    if duty is None:
        raise Http404
    is_post = request.method == "POST"
    form = ProofForm(request.POST, request.FILES) if is_post else ProofForm()
    if is_post and form.is_valid():
        by, at = access.staff(request, Role.LEGAL), timezone.now()
        with forms.refusals_shown(form):
            duties.mark_done(
                duty, by=by, at=at, proof=form.cleaned_data["proof"], document=_kept(request, form)
            )
            messages.success(request, "The duty is marked as done; the owner sees the proof.")
            return redirect("legal:duties")
    context = {"duty": duty, "form": form}
    return render(request, "legal/duty.html", context, status=forms.status_of(form))


def _kept(request: HttpRequest, form: ProofForm) -> Document | None:
    file = form.cleaned_data["document"]
    if not file:
        return None
    by = access.staff(request, Role.LEGAL)
    return documents.store(
        file.read(),
        name=file.name,
        media_type=file.content_type or "",
        by=by,
        at=timezone.now(),
    )


@access.staff_page(Role.LEGAL)
def statements_page(request: HttpRequest) -> HttpResponse:
    """Every statement, and the form that issues one."""
    form = IssueForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        by = access.staff(request, Role.LEGAL)
        with forms.refusals_shown(form):
            issued = statements.issue(**form.cleaned_data, by=by, at=timezone.now())
            return redirect("legal:statement", issued.pk)
    context = {
        "shown": STATEMENTS.shown(request),
        "form": form,
        # Only when asked for: it lists every owner.
        "is_new": form.is_bound or "new" in request.GET,
    }
    return render(request, "legal/statements.html", context, status=forms.status_of(form))


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def statement_page(request: HttpRequest, identity: str) -> HttpResponse:
    """One statement, and what was said about it."""
    return _statement_page(request, _statement(identity), RemarkForm())


@access.staff_page(Role.LEGAL)
@require_POST
def answer(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Answer a dispute, or settle it."""
    statement, form = _statement(identity), RemarkForm(request.POST)
    kind = RemarkKind.SETTLED if "settle" in request.POST else RemarkKind.ANSWERED
    if form.is_valid():
        by, text = access.staff(request, Role.LEGAL), form.cleaned_data["text"]
        with forms.refusals_shown(form):
            statements.remark(statement, kind=kind, text=text, by=by, at=timezone.now())
            return redirect("legal:statement", identity)
    return _statement_page(request, statement, form)


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def statement_file(request: HttpRequest, identity: str, name: str) -> HttpResponseBase:  # noqa: ARG001
    """The statement or its rows as a file."""
    if name not in FORMATS:
        raise Http404
    return FORMATS[name](_statement(identity))


@access.staff_page(Role.LEGAL)
def quotas_page(request: HttpRequest) -> HttpResponse:
    """How far each quota of a licence in force is used in its period."""
    now = timezone.now()
    limited = Licence.objects.in_force(now).exclude(max_tokens=None, max_answers=None)
    references = list(limited.values_list("reference", flat=True))
    rows = sorted(quotas.standings(references, at=now).values(), key=lambda row: -row.share)
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "legal/quotas.html", {"page": page})


def _statement(identity: str) -> Statement:
    found = Statement.objects.select_related("owner", "issued_by").filter(pk=identity).first()
    if found is None:
        raise Http404
    return found


def _statement_page(request: HttpRequest, statement: Statement, form: RemarkForm) -> HttpResponse:
    context = {
        "statement": statement,
        "standing": statements.standing(statement),
        "remarks": statement.remarks.select_related("written_by"),
        "form": form,
    }
    return render(request, "legal/statement.html", context, status=forms.status_of(form))


urlpatterns = [
    path("duties/", duties_page, name="duties"),
    path("duties/<uuid:identity>/", duty_page, name="duty"),
    path("statements/", statements_page, name="statements"),
    path("statements/<uuid:identity>/", statement_page, name="statement"),
    path("statements/<uuid:identity>/answer/", answer, name="statement-answer"),
    path("statements/<uuid:identity>/<str:name>", statement_file, name="statement-file"),
    path("quotas/", quotas_page, name="quotas"),
]
