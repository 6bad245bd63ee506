"""The list of decision records, for legal staff and auditors."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from django.forms import DateTimeInput
from django.http import HttpRequest

from governance import selectors
from governance.models import DecisionRecord
from governance.vocabulary import Purpose, Role
from web import access
from web.ui.lists.listing import Column, Listing

READERS = (Role.LEGAL, Role.AUDITOR)


class DecisionFilter(django_filters.FilterSet):
    """Decisions by who asked and why, by an expert they speak of, by policy epoch and by time."""

    consumer = django_filters.CharFilter(label="Consumer", method="of_consumer")
    purpose = django_filters.ChoiceFilter(
        label="Purpose", choices=Purpose.choices(), empty_label="Any", method="of_purpose"
    )
    expert = django_filters.CharFilter(label="Expert", method="about_expert")
    policy_epoch = django_filters.NumberFilter(label="Policy epoch", min_value=0)
    since = django_filters.IsoDateTimeFilter(
        label="From",
        field_name="timestamp",
        lookup_expr="gte",
        widget=DateTimeInput(attrs={"type": "datetime-local"}),
    )
    until = django_filters.IsoDateTimeFilter(
        label="Before",
        field_name="timestamp",
        lookup_expr="lt",
        widget=DateTimeInput(attrs={"type": "datetime-local"}),
    )

    def of_consumer(
        self, rows: QuerySet[DecisionRecord], _name: str, slug: str
    ) -> QuerySet[DecisionRecord]:
        """Those that `slug` asked for."""
        return rows & selectors.recorded(consumer=slug)

    def of_purpose(
        self, rows: QuerySet[DecisionRecord], _name: str, purpose: str
    ) -> QuerySet[DecisionRecord]:
        """Those asked for exactly this purpose."""
        return rows & selectors.recorded(purpose=purpose)

    def about_expert(
        self, rows: QuerySet[DecisionRecord], _name: str, name: str
    ) -> QuerySet[DecisionRecord]:
        """Those that allowed or denied the expert by name."""
        return rows & selectors.recorded(expert=name)


def _rows(request: HttpRequest) -> QuerySet[DecisionRecord]:
    access.staff(request, *READERS)
    return DecisionRecord.objects.all()


DECISIONS = Listing(
    name="decisions",
    noun="decisions",
    address="legal:decisions",
    rows=_rows,
    filters=DecisionFilter,
    sorts={"when": "timestamp"},
    default_sort="-when",
    is_endless=True,
    columns=(
        Column("Decision", lambda one: one.decision_id),
        Column("When", lambda one: one.timestamp),
        Column("Consumer", lambda one: one.input.get("consumer")),
        Column("Purpose", lambda one: one.input.get("purpose")),
        Column("Territory", lambda one: one.input.get("territory")),
        Column("Policy epoch", lambda one: one.policy_epoch),
        Column("Permitted", lambda one: one.result.get("is_permitted")),
        Column("Allowed", lambda one: one.result.get("allowed", [])),
        Column("Denied", lambda one: sorted(one.result.get("denied", {}))),
    ),
)
