"""The list of corpora, for legal staff and auditors."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from django.http import HttpRequest

from governance.models import Corpus, CorpusSketch, Licence, ReservationSignal
from governance.vocabulary import Role
from web import access
from web.ui.lists.filters import Words, count_of
from web.ui.lists.listing import Column, Listing

READERS = (Role.LEGAL, Role.AUDITOR)
_RESERVING = ReservationSignal.objects.filter(reserves=True)
_ABOUT = [
    ("no_sketch", "No sketch"),
    ("no_licence", "No licence"),
    ("reserved", "A reservation seen"),
]


class CorpusFilter(django_filters.FilterSet):
    """Corpora by words and by what is missing or seen."""

    find = Words("Title or owner", over=("title", "slug", "owner__legal_name"))
    language = django_filters.CharFilter(label="Language", method="in_language", max_length=8)
    about = django_filters.ChoiceFilter(
        label="Shows", choices=_ABOUT, empty_label="Any", method="that_shows"
    )

    def in_language(self, rows: QuerySet[Corpus], _name: str, code: str) -> QuerySet[Corpus]:
        """Those that name the language."""
        return rows.filter(languages__contains=[code.lower()])

    def that_shows(self, rows: QuerySet[Corpus], _name: str, code: str) -> QuerySet[Corpus]:
        """Those that lack something, or on which something was seen."""
        match code:
            case "no_sketch":
                return rows.exclude(pk__in=CorpusSketch.objects.values("corpus"))
            case "no_licence":
                return rows.exclude(pk__in=Licence.objects.values("corpus"))
            case _:
                return rows.filter(pk__in=_RESERVING.values("corpus"))


def _rows(request: HttpRequest) -> QuerySet[Corpus]:
    access.staff(request, *READERS)
    return Corpus.objects.select_related("owner").annotate(
        licence_count=count_of(Licence.objects.all(), "corpus"),
        sketch_count=count_of(CorpusSketch.objects.all(), "corpus"),
        reserved_count=count_of(_RESERVING, "corpus"),
    )


CORPORA = Listing(
    name="corpora",
    noun="corpora",
    address="legal:corpora",
    rows=_rows,
    filters=CorpusFilter,
    sorts={
        "title": "title",
        "owner": "owner__legal_name",
        "documents": "document_count",
        "licences": "licence_count",
    },
    default_sort="title",
    columns=(
        Column("Short name", lambda corpus: corpus.slug),
        Column("Title", lambda corpus: corpus.title),
        Column("Owner", lambda corpus: corpus.owner.legal_name),
        Column("Licence of the text", lambda corpus: corpus.source_licence),
        Column("Languages", lambda corpus: corpus.languages),
        Column("Documents", lambda corpus: corpus.document_count),
        Column("Bytes of text", lambda corpus: corpus.text_bytes),
        Column("Merkle root", lambda corpus: corpus.merkle_root),
        Column("Licences", lambda corpus: corpus.licence_count),
        Column("Sketches", lambda corpus: corpus.sketch_count),
        Column("Reservations seen", lambda corpus: corpus.reserved_count),
        Column("Described", lambda corpus: corpus.described_at),
    ),
)
