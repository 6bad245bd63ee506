"""The lists of consents: every record for legal staff and auditors, an owner's own for itself."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from django.http import Http404, HttpRequest

from governance.models import ConsentRecord
from governance.services import consent
from governance.vocabulary import ConsentEventKind, Role
from web import access
from web.ui.lists.filters import Words
from web.ui.lists.listing import Column, Listing


class ConsentFilter(django_filters.FilterSet):
    """Consents by words and by what happened last."""

    find = Words(
        "Expert, owner or licence",
        over=("expert__name", "owner__legal_name", "licence__reference"),
    )
    state = django_filters.ChoiceFilter(
        label="State", field_name="stands_as", choices=ConsentEventKind.choices(), empty_label="Any"
    )


def _rows(request: HttpRequest) -> QuerySet[ConsentRecord]:
    if not access.person(request).has(Role.LEGAL, Role.AUDITOR, Role.OWNER):
        raise Http404
    return consent.with_state(access.consents_for(request))


def _listing(name: str, room: str) -> Listing:
    return Listing(
        name=name,
        noun="consents",
        address=f"{room}:consents",
        rows=_rows,
        filters=ConsentFilter,
        sorts={"expert": "expert__name", "owner": "owner__legal_name", "recorded": "created_at"},
        default_sort="-recorded",
        columns=(
            Column("Record", lambda record: record.pk),
            Column("Expert", lambda record: record.expert.name),
            Column("Owner", lambda record: record.owner.legal_name),
            Column("Licence", lambda record: record.licence.reference),
            Column("State", lambda record: record.stands_as),
            Column("Valid until", lambda record: record.stands_until),
            Column("Recorded", lambda record: record.created_at),
            Column("Digest", lambda record: record.record_digest),
        ),
    )


CONSENTS = {"legal": _listing("consents", "legal"), "owner": _listing("own-consents", "owner")}
"""By the room whose page it is."""
