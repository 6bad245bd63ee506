"""The design system's own page: every component in every state, with invented contents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from governance.vocabulary import ExpertState, Purpose
from web import access


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


@access.open_page
def design(request: HttpRequest) -> HttpResponse:
    """Open to all: it shows no one's rows."""
    now = timezone.now()
    return render(
        request,
        "design.html",
        {
            "rows": _rows(now),
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
