"""Addresses every listing has: save a filter, forget it, export, act on all rows of a filter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from governance.errors import GovernanceError
from governance.models import SavedFilter
from web import access, stepup
from web.ui.lists import export as exports
from web.ui.lists.listing import BulkAct, Listing, filter_query, find

app_name = "lists"
MAX_ACTED_ON = 200
"""More rows than anybody can have looked at are not acted on in one go."""
TELLING = 3
"""So many columns of the export tell a reader which row is meant."""


@dataclass(frozen=True)
class Outcome:
    """What became of one row; `refusal` is empty where it was done."""

    row: Any
    refusal: str = ""


@access.signed_in_page
@require_POST
def save(request: HttpRequest, name: str) -> HttpResponse:
    """Keep the current filter under a name; the same name again replaces it."""
    listing = find(name)
    listing.rows(request)  # the gate
    called = request.POST.get("called", "").strip()[:100]
    query = filter_query(_query(request))
    if not called:
        messages.error(request, "Give the filter a name.")
    else:
        SavedFilter.objects.update_or_create(
            account=access.person(request).account,
            listing=name,
            name=called,
            defaults={"query": query[:2000], "saved_at": timezone.now()},
        )
        messages.success(request, f"Filter “{called}” is saved.")
    return redirect(_address(listing, query))


@access.signed_in_page
@require_POST
def forget(request: HttpRequest, identity: str) -> HttpResponse:
    """Forget a saved filter of one's own."""
    account = access.person(request).account
    saved = SavedFilter.objects.filter(pk=identity, account=account).first()
    if saved is None:
        raise Http404
    listing = find(saved.listing)
    saved.delete()
    messages.success(request, f"Filter “{saved.name}” is forgotten.")
    return redirect(_address(listing, ""))


@access.signed_in_page
@require_GET
def export(request: HttpRequest, name: str, kind: str) -> HttpResponse:
    """Every row of the filter, not just the page, as a file; too many of them are refused."""
    listing = find(name)
    if kind not in exports.FORMATS:
        raise Http404
    query = filter_query(request.GET)
    rows = listing.matching(request, query)
    if exports.is_too_long(rows):
        messages.error(
            request,
            f"Expected at most {exports.MAX_ROWS:,} rows in a file, found more. Narrow the filter, "
            "or read them page by page over the API.",
        )
        return redirect(_address(listing, query))
    return exports.file_of(listing, rows, kind, timezone.now())


@access.signed_in_page
@require_POST
def act(request: HttpRequest, name: str) -> HttpResponseBase:
    """First say what would happen to which rows; carry it out when that is confirmed."""
    listing = find(name)
    listing.rows(request)  # the gate
    chosen = listing.act(request.POST.get("act", ""))
    carry = stepup.required(_act) if chosen.is_legal_act and "confirmed" in request.POST else _act
    return carry(request, listing, chosen)


def _act(request: HttpRequest, listing: Listing, chosen: BulkAct) -> HttpResponse:
    query = filter_query(_query(request))
    rows = _chosen_rows(listing, request, query)
    count = rows.count()
    context = {
        "listing": listing,
        "act": chosen,
        "query": query,
        "back": _address(listing, query),
        "count": count,
        "limit": MAX_ACTED_ON,
        "reason": request.POST.get("reason", "").strip(),
    }
    # What is confirmed are the rows that were shown, by their keys, whatever the filter finds now.
    is_confirmed = "row" in request.POST and request.POST.get("confirmed") == str(count)
    if not is_confirmed or not 0 < count <= MAX_ACTED_ON or _lacks_reason(chosen, context):
        shown = list(rows[:MAX_ACTED_ON])
        context |= {
            "rows": shown,
            "heads": [column.title for column in listing.columns[:TELLING]],
            "lines": [[column.value(row) for column in listing.columns[:TELLING]] for row in shown],
            "is_pressed": "confirmed" in request.POST,
        }
        return render(request, "lists/confirm.html", context)
    context["outcomes"] = _carried_out(chosen, rows, request, str(context["reason"]))
    return render(request, "lists/done.html", context)


def _lacks_reason(chosen: BulkAct, context: dict[str, Any]) -> bool:
    return bool(chosen.asks_reason) and not context["reason"]


def _carried_out(
    chosen: BulkAct, rows: QuerySet[Any], request: HttpRequest, reason: str
) -> list[Outcome]:
    """Each row on its own: one refusal leaves the others done."""
    by, outcomes = access.person(request).account, []
    for row in list(rows):
        try:
            chosen.act(row, by=by, at=timezone.now(), reason=reason)
            outcomes.append(Outcome(row))
        except GovernanceError as error:
            outcomes.append(Outcome(row, error.message))
    return outcomes


def _chosen_rows(listing: Listing, request: HttpRequest, query: str) -> QuerySet[Any]:
    """All rows of the filter, or those of it that were ticked or confirmed."""
    rows = listing.matching(request, query)
    if request.POST.get("which") == "all" and "confirmed" not in request.POST:
        return rows
    return rows.filter(pk__in=list(_keys(rows, request.POST.getlist("row"))))


def _keys(rows: QuerySet[Any], given: list[str]) -> Iterator[Any]:
    """Those that are keys at all."""
    key = rows.model._meta.pk  # noqa: SLF001 - Django's documented API
    for value in given:
        with suppress(ValidationError):
            yield key.to_python(value)


def _query(request: HttpRequest) -> QueryDict:
    return QueryDict(request.POST.get("query", ""))


def _address(listing: Listing, query: str) -> str:
    address = reverse(listing.address)
    return f"{address}?{query}" if query else address


urlpatterns = [
    path("<slug:name>/save/", save, name="save"),
    path("saved/<uuid:identity>/forget/", forget, name="forget"),
    path("<slug:name>/export.<slug:kind>", export, name="export"),
    path("<slug:name>/act/", act, name="act"),
]
