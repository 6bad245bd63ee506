"""Decisions: what was asked of policy, what it answered, and why, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from governance import selectors
from governance.models import Account, DecisionRecord
from governance.services import decisions
from governance.vocabulary import Purpose, RecipientClass, Sector, Why
from web import access
from web.ui.lists.decisions import DECISIONS, READERS


@dataclass(frozen=True)
class ExpertLine:
    """What a decision says of one expert: the licence it was charged to, or why it was left out."""

    name: str
    covered: selectors.Covered | None
    why: tuple[Why, ...]


@access.staff_page(*READERS)
def decisions_page(request: HttpRequest) -> HttpResponse:
    """Recorded decisions, newest first."""
    return render(request, "legal/decisions.html", {"shown": DECISIONS.shown(request)})


@access.staff_page(*READERS)
def decision_page(request: HttpRequest, identity: UUID) -> HttpResponse:
    """One decision: the question in words, each expert with its licence or reasons, a replay."""
    found = DecisionRecord.objects.filter(pk=identity).first()
    if found is None:
        raise Http404
    context = {
        "decision": found,
        "asked": _asked(found),
        "person": _person(found),
        "lines": list(_lines(found)),
        "why": [Why(code) for code in found.result.get("why", ())],
        "replay": decisions.replay(found),
    }
    return render(request, "legal/decision.html", context)


def _asked(found: DecisionRecord) -> dict[str, str]:
    """The question in words; a word policy does not know is shown as it was sent."""
    ask = found.input
    words = {
        "purpose": _label(Purpose, ask.get("purpose", "")),
        "recipient_class": _label(RecipientClass, ask.get("recipient_class", "")),
        "sector": _label(Sector, ask.get("sector", "")),
    }
    return {**{name: str(ask.get(name, "")) for name in ("consumer", "territory")}, **words}


def _person(found: DecisionRecord) -> str:
    """Who of our staff asked; empty for an API consumer, of whom the key is all we know."""
    kind, _, number = found.requested_by.partition(":")
    return str(Account.objects.get(pk=number)) if kind == "account" else ""


def _label(words: type[Purpose | RecipientClass | Sector], code: str) -> str:
    return words(code).label if code in set(words) else code


def _lines(found: DecisionRecord) -> Iterator[ExpertLine]:
    covered = {one.expert: one for one in selectors.licences_behind(found.pk)}
    for name in found.result.get("allowed", ()):
        yield ExpertLine(name, covered.get(name), ())
    for name, codes in sorted(found.result.get("denied", {}).items()):
        yield ExpertLine(name, None, tuple(Why(code) for code in codes))


urlpatterns = [
    path("decisions/", decisions_page, name="decisions"),
    path("decisions/<uuid:identity>/", decision_page, name="decision"),
]
