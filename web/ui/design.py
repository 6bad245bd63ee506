"""The design system's own page: every component in every state, with invented contents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from django import forms
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from governance.models import Expert, SavedFilter
from governance.vocabulary import ExpertState, Purpose
from web import access
from web.ui.lists import BulkAct, Listing, Shown
from web.ui.lists.experts import ExpertFilter
from web.ui.lists.paging import Stretch


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One invented licence for the tables."""

    owner: str
    expert: str
    state: ExpertState
    tokens: int
    ends_at: datetime
    digest: str

    @property
    def has_ended(self) -> bool:
        """Whether the end binds nobody any more."""
        return self.state in {ExpertState.WITHDRAWN, ExpertState.ERASED}


class SampleForm(forms.Form):
    """One field of each kind; filled wrongly on purpose to show the errors."""

    legal_name = forms.CharField(help_text="As the company register has it.")
    contact = forms.EmailField(label="Contact e-mail", required=False)
    purpose = forms.ChoiceField(choices=Purpose.choices())
    ends_on = forms.DateField(
        label="Ends on", widget=forms.DateInput(attrs={"type": "date"}), required=False
    )
    terms = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    scope = forms.MultipleChoiceField(
        label="What may be done",
        choices=[("train", "Train an expert"), ("answer", "Answer requests")],
        widget=forms.CheckboxSelectMultiple,
    )
    has_read = forms.BooleanField(
        label="I have read the licence", help_text="The signed file is the one that binds."
    )


def _nobody(_request: HttpRequest) -> None:
    raise Http404


def _sample(name: str, noun: str, *, acts: tuple[BulkAct, ...] = ()) -> Listing:
    return Listing(
        name=name, noun=noun, address="design", rows=_nobody,  # type: ignore[arg-type]
        filters=ExpertFilter, sorts={}, default_sort="", columns=(), acts=acts,
    )  # fmt: skip


_WITH_ACTS = _sample("sample", "experts", acts=(BulkAct("suspend", "Suspend", "", _nobody),))
_WITHOUT_END = _sample("sample-endless", "decisions")
_EMPTY = _sample("sample-empty", "runs")


def _listings(rows: list[SampleRow]) -> dict[str, Shown]:
    """A list in its states: filtered, with acts; without end; with nothing in it."""

    def shown(listing: Listing, page: object, number: int, **asked: str) -> Shown:
        filters = ExpertFilter(asked, queryset=Expert.objects.none())
        filters.form.auto_id = f"list{number}-%s"
        query = "&".join("=".join(pair) for pair in asked.items())
        saved = tuple(SavedFilter(name=name, query=text) for name, text in _SAVED if asked)
        return Shown(listing, page, filters.form, saved, query, bool(asked))  # type: ignore[arg-type]

    stretch = Stretch(rows[:2], 1_001, "?from_row=a#lists", "?from_row=b#lists")
    return {
        "filtered": shown(_WITH_ACTS, Paginator(rows * 20, 5).get_page(3), 1, state="active"),
        "endless": shown(_WITHOUT_END, stretch, 2),
        "empty": shown(_EMPTY, Paginator([], 5).get_page(1), 3, find="nothing of the kind"),
    }


_SAVED = (("Serving", "state=active"), ("Taken back", "state=withdrawn"))


@access.open_page
def design(request: HttpRequest) -> HttpResponse:
    """Open to all: it shows no one's rows."""
    now = timezone.now()
    rows = _rows(now)
    return render(
        request,
        "design.html",
        {
            "rows": rows,
            "lists": _listings(rows),
            "states": list(ExpertState),
            "empty_form": SampleForm(prefix="blank"),
            "wrong_form": SampleForm(
                {"wrong-legal_name": "", "wrong-contact": "editor@alder", "wrong-purpose": "sale"},
                prefix="wrong",
            ),
            "page": Paginator(range(412), 25).page(7),
            "instants": {
                "soon": now + timedelta(minutes=42, seconds=20),
                "near": now + timedelta(days=2, hours=3),
                "far": now + timedelta(days=212),
                "late": now - timedelta(hours=5),
                "just_now": now - timedelta(seconds=2),
                "before": now - timedelta(minutes=11),
                "earlier": now - timedelta(days=1, hours=4),
            },
            "digest": sha256(b"design").hexdigest(),
            "request_example": _REQUEST_EXAMPLE,
        },
    )


_REQUEST_EXAMPLE = """\
curl "$RECLAIM/v1/chat/completions" \\
  -H "Authorization: Bearer $KEY" \\
  -d '{"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}]}'"""


def _rows(now: datetime) -> list[SampleRow]:
    samples = (
        ("Alder Press", "news", ExpertState.ACTIVE, 1_204_118, 212),
        ("Alder Press", "sports", ExpertState.SUSPENDED, 88_204, 2),
        ("Birch Archive", "letters", ExpertState.IN_REVIEW, 0, 365),
        ("Cedar Law Reports", "judgments", ExpertState.WITHDRAWN, 540_977, -1),
        ("Dogwood Institute of Geology", "minerals", ExpertState.ERASED, 12_006, -40),
    )
    return [
        SampleRow(
            owner=owner,
            expert=expert,
            state=state,
            tokens=tokens,
            ends_at=now + timedelta(days=days, hours=1),
            digest=sha256(expert.encode()).hexdigest(),
        )
        for owner, expert, state, tokens, days in samples
    ]
