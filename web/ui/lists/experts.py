"""The list of experts, for engineers."""

from __future__ import annotations

import django_filters
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest

from governance.models import Expert, ExpertRevision
from governance.vocabulary import ExpertState, Role
from web import access
from web.ui.lists.filters import Words
from web.ui.lists.listing import Column, Listing


class ExpertFilter(django_filters.FilterSet):
    """Experts by words in their names and by state."""

    find = Words("Name, title or owner", over=("name", "title", "owner__legal_name"))
    state = django_filters.ChoiceFilter(choices=ExpertState.choices(), empty_label="Any")


def _rows(request: HttpRequest) -> QuerySet[Expert]:
    access.staff(request, Role.ENGINEER)
    revisions = ExpertRevision.objects.order_by("-number").prefetch_related("findings")
    return Expert.objects.select_related("owner", "corpus").prefetch_related(
        Prefetch("revisions", queryset=revisions)
    )


def _newest(expert: Expert) -> ExpertRevision | None:
    return next(iter(expert.revisions.all()), None)


def _rate(expert: Expert) -> float | None:
    revision = _newest(expert)
    finding = next(iter(revision.findings.all()), None) if revision else None
    return finding.rate_high if finding else None


EXPERTS = Listing(
    name="experts",
    noun="experts",
    address="engineer:experts",
    rows=_rows,
    filters=ExpertFilter,
    sorts={"name": "name", "owner": "owner__legal_name", "state": "state", "since": "proposed_at"},
    default_sort="name",
    columns=(
        Column("Name", lambda expert: expert.name),
        Column("Title", lambda expert: expert.title),
        Column("Owner", lambda expert: expert.owner.legal_name),
        Column("Corpus", lambda expert: expert.corpus.slug),
        Column("State", lambda expert: expert.state),
        Column("Newest revision", lambda expert: getattr(_newest(expert), "number", None)),
        Column("Digest", lambda expert: getattr(_newest(expert), "digest", None)),
        Column("Extraction rate, upper bound", _rate),
        Column("Proposed", lambda expert: expert.proposed_at),
    ),
)
