"""Rights data of other vocabularies: what of a file would be taken over, and what not."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone

from governance import exchange
from governance.errors import InvalidTerms
from governance.exchange.rights import spoken
from governance.services import terms as terms_of
from governance.vocabulary import Role
from web import access
from web.ui.forms.corpora import ExchangeForm
from web.ui.forms.fields import refusals_shown, status_of


@access.staff_page(Role.LEGAL)
def exchange_page(request: HttpRequest) -> HttpResponse:
    """Read a file and show what it proposes. Nothing is stored; the request is another page."""
    form = ExchangeForm(request.POST or None, request.FILES or None)
    context: dict[str, Any] = {"form": form, "formats": exchange.FORMATS.values()}
    if request.method == "POST" and form.is_valid():
        with refusals_shown(form):
            context |= _read(form.cleaned_data["format"], form.cleaned_data["body"])
    return render(request, "legal/exchange.html", context, status=status_of(form))


def _read(code: str, body: bytes) -> dict[str, Any]:
    """What the file says, in words.

    Raises:
        InvalidTerms: it is not of this vocabulary.
    """
    found = exchange.load(code, body)
    fields = {"starts_at": timezone.now(), **found.terms_fields}
    terms = terms_of.Terms(**fields)
    said = spoken(found.terms_fields)
    try:
        sentences = terms_of.sentences(terms)
    except InvalidTerms:
        sentences = ()
    return {
        "was_read": True,
        "grants": bool(found.terms_fields["uses"]),
        "sentences": sentences,
        "terms": [
            (terms_of.LABELS.get(name, name), terms_of.said(name, terms))
            for name in terms_of.LABELS
            if name in said
        ],
        "losses": found.losses,
        "read_format": exchange.FORMATS[code],
        "content": body.decode("utf-8", "replace"),
    }


urlpatterns = [path("exchange/", exchange_page, name="exchange")]
