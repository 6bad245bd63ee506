"""Pages of a data owner about money and duties: statements to check, and what is owed to it."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.models import Duty, Statement
from governance.services import statements
from governance.vocabulary import RemarkKind
from web import access
from web.ui import downloads, forms
from web.ui.forms.money import RemarkForm

ROWS_A_PAGE = 25
FORMATS = {
    "statement.json": downloads.statement_json,
    "rows.jsonl": downloads.rows_json_lines,
    "rows.csv": downloads.rows_csv,
}


@access.owner_page
def statements_page(request: HttpRequest) -> HttpResponse:
    """Every statement of the owners this person speaks for, newest first."""
    rows = Statement.objects.filter(owner__in=access.owners_of(request))
    rows = rows.select_related("owner").prefetch_related("remarks")
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "owner/statements.html", {"page": page})


@access.owner_page
def statement_page(request: HttpRequest, identity: str) -> HttpResponse:
    """One statement: lines, totals, how to check it, and what was said about it."""
    statement = _statement(request, identity)
    return _shown(request, statement, RemarkForm())


@access.owner_page
@require_POST
def remark(request: HttpRequest, identity: str) -> HttpResponseBase:
    """Dispute a statement, or comment on it."""
    statement = _statement(request, identity)
    form = RemarkForm(request.POST)
    wanted = RemarkKind.DISPUTED if "dispute" in request.POST else RemarkKind.COMMENTED
    if form.is_valid():
        by = access.person(request).account
        with forms.refusals_shown(form):
            text = form.cleaned_data["text"]
            statements.remark(statement, kind=wanted, text=text, by=by, at=timezone.now())
            messages.success(request, "Your words are recorded; legal staff see them at once.")
            return redirect("owner:statement", identity)
    return _shown(request, statement, form)


@access.owner_page
def statement_file(request: HttpRequest, identity: str, name: str) -> HttpResponseBase:
    """The statement or its rows as a file."""
    if name not in FORMATS:
        raise Http404
    return FORMATS[name](_statement(request, identity))


@access.owner_page
def script(request: HttpRequest) -> HttpResponse:  # noqa: ARG001 - the same for everyone
    """The script that recomputes a statement without us."""
    return downloads.script()


@access.owner_page
def duties_page(request: HttpRequest) -> HttpResponse:
    """What we owe to the owners this person speaks for, and what was done."""
    rows = Duty.objects.filter(owner__in=access.owners_of(request))
    rows = rows.select_related("licence", "expert", "proof_document")
    done = Paginator(rows.exclude(done_at=None).order_by("-done_at"), ROWS_A_PAGE)
    context = {
        "undone": rows.filter(done_at=None),
        "page": done.get_page(request.GET.get("page")),
    }
    return render(request, "owner/duties.html", context)


def _statement(request: HttpRequest, identity: str) -> Statement:
    rows = Statement.objects.filter(owner__in=access.owners_of(request)).select_related("owner")
    found = rows.filter(pk=identity).first()
    if found is None:
        raise Http404
    return found


def _shown(request: HttpRequest, statement: Statement, form: RemarkForm) -> HttpResponse:
    context = {
        "statement": statement,
        "standing": statements.standing(statement),
        "remarks": statement.remarks.select_related("written_by"),
        "form": form,
    }
    return render(request, "owner/statement.html", context, status=forms.status_of(form))


urlpatterns = [
    path("statements/", statements_page, name="statements"),
    path("statements/check.py", script, name="statement-script"),
    path("statements/<uuid:identity>/", statement_page, name="statement"),
    path("statements/<uuid:identity>/remark/", remark, name="statement-remark"),
    path("statements/<uuid:identity>/<str:name>", statement_file, name="statement-file"),
    path("duties/", duties_page, name="duties"),
]
