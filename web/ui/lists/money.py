"""The lists of duties and of statements, for legal staff."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import django_filters
from django import forms
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone

from governance.models import Account, Duty, Statement, StatementRemark
from governance.services import duties
from governance.vocabulary import DutyAction, RemarkKind, Role
from web import access
from web.ui.lists.filters import Words
from web.ui.lists.listing import BulkAct, Column, Listing

_SHOWN = [("undone", "To do"), ("overdue", "Overdue"), ("done", "Done"), ("all", "All")]


class DutyFilter(django_filters.FilterSet):
    """Duties by words, kind and whether they are done; those to do unless another is asked for."""

    find = Words("Owner or words", over=("owner__legal_name", "about"))
    shown = django_filters.ChoiceFilter(
        label="Show", choices=_SHOWN, empty_label=None, method="that_are"
    )
    action = django_filters.ChoiceFilter(
        label="Kind", choices=DutyAction.choices(), empty_label="Any"
    )

    def __init__(self, data: Any = None, *args: Any, **named: Any) -> None:
        super().__init__({"shown": "undone", **(data.dict() if data else {})}, *args, **named)

    def that_are(self, rows: QuerySet[Duty], _name: str, code: str) -> QuerySet[Duty]:
        """Those done, to do, or to do and late."""
        match code:
            case "undone":
                return rows.filter(done_at=None)
            case "overdue":
                return rows.filter(done_at=None, due_at__lte=timezone.now())
            case "done":
                return rows.exclude(done_at=None)
            case _:
                return rows


def _duties(request: HttpRequest) -> QuerySet[Duty]:
    access.staff(request, Role.LEGAL)
    return Duty.objects.select_related("owner", "licence", "expert", "done_by")


def _done(duty: Duty, *, by: Account, at: datetime, reason: str) -> None:
    duties.mark_done(duty, proof=reason, by=by, at=at)


DUTIES = Listing(
    name="duties",
    noun="duties",
    address="legal:duties",
    rows=_duties,
    filters=DutyFilter,
    sorts={"due": "due_at", "owner": "owner__legal_name", "action": "action"},
    default_sort="due",
    columns=(
        Column("About", lambda duty: duty.about),
        Column("Owner", lambda duty: duty.owner.legal_name),
        Column("Kind", lambda duty: duty.action),
        Column("Because", lambda duty: duty.cause),
        Column("Licence", lambda duty: duty.licence and duty.licence.reference),
        Column("Expert", lambda duty: duty.expert and duty.expert.name),
        Column("Opened", lambda duty: duty.opened_at),
        Column("Due", lambda duty: duty.due_at),
        Column("Done", lambda duty: duty.done_at),
        Column("Done by", lambda duty: duty.done_by),
        Column("Proof", lambda duty: duty.proof),
    ),
    acts=(
        BulkAct(
            "done", "Mark as done", "Each is closed for good with the proof you give; its owner "
            "reads it.",
            _done, asks_reason="Proof",
        ),
    ),
)  # fmt: skip


class StatementFilter(django_filters.FilterSet):
    """Statements by owner, by month, and by what was last said of them."""

    find = Words("Owner", over=("owner__legal_name", "owner__slug"))
    month = django_filters.DateFilter(
        label="Month",
        method="of_month",
        input_formats=["%Y-%m"],
        widget=forms.DateInput(attrs={"type": "month"}, format="%Y-%m"),
    )
    standing = django_filters.ChoiceFilter(
        label="State",
        choices=[(kind.value, kind.label) for kind in RemarkKind if kind != RemarkKind.COMMENTED],
        empty_label="Any",
    )

    def of_month(self, rows: QuerySet[Statement], _name: str, day: date) -> QuerySet[Statement]:
        """Those of the month a day is in."""
        return rows.filter(month=day.replace(day=1))


def _statements(request: HttpRequest) -> QuerySet[Statement]:
    """With `standing`: the last thing said that is no mere comment."""
    access.staff(request, Role.LEGAL)
    said = StatementRemark.objects.filter(statement=OuterRef("pk"))
    last = said.exclude(kind=RemarkKind.COMMENTED).order_by("-written_at")
    return Statement.objects.select_related("owner").annotate(
        standing=Subquery(last.values("kind")[:1])
    )


def _totals(statement: Statement) -> list[str]:
    return [f"{total} {currency}" for currency, total in statement.body["totals"].items()]


STATEMENTS = Listing(
    name="statements",
    noun="statements",
    address="legal:statements",
    rows=_statements,
    filters=StatementFilter,
    sorts={"month": "month", "owner": "owner__legal_name", "issued": "issued_at"},
    default_sort="-month",
    columns=(
        Column("Month", lambda statement: f"{statement.month:%Y-%m}"),
        Column("Owner", lambda statement: statement.owner.legal_name),
        Column("Totals", _totals),
        Column("State", lambda statement: statement.standing or "issued"),
        Column("Rows", lambda statement: statement.row_count),
        Column("Digest", lambda statement: statement.digest),
        Column("Digest of the rows", lambda statement: statement.rows_digest),
        Column("Issued", lambda statement: statement.issued_at),
    ),
)
