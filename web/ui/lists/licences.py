"""The list of licences, for legal staff, and what may be done to many of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import django_filters
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from governance import selectors
from governance.errors import UnlawfulMove
from governance.models import Account, Ending, Licence
from governance.services import licences
from governance.services import terms as terms_of
from governance.vocabulary import Instrument, LicenceState, Purpose, Role
from web import access
from web.ui.forms.fields import Day
from web.ui.lists.filters import Words
from web.ui.lists.listing import BulkAct, Column, Listing

_STANDINGS = [("in_force", "In force"), ("waiting", "Waiting for the owner"), ("over", "Over")]


class LicenceFilter(django_filters.FilterSet):
    """Licences by words, state, owner, purpose, how soon they end, and in two times."""

    find = Words(
        "Reference, corpus or owner",
        over=("reference", "corpus__title", "corpus__slug", "corpus__owner__legal_name"),
    )
    state = django_filters.ChoiceFilter(choices=LicenceState.choices(), empty_label="Any")
    standing = django_filters.ChoiceFilter(
        label="Now", choices=_STANDINGS, empty_label="Any", method="standing_so"
    )
    purpose = django_filters.ChoiceFilter(
        label="Purpose", choices=Purpose.choices(), empty_label="Any", method="covering"
    )
    ends_within = django_filters.ChoiceFilter(
        label="Ends within", choices=[("7", "7 days"), ("30", "30 days"), ("90", "90 days")],
        empty_label="Any time", method="ending_soon",
    )  # fmt: skip
    valid = django_filters.DateFilter(label="In force on", method="in_force_then", widget=Day())
    known = django_filters.DateFilter(label="As known on", method="known_then", widget=Day())

    def standing_so(self, rows: QuerySet[Licence], _name: str, code: str) -> QuerySet[Licence]:
        """Those in force, those the owner has not countersigned though it must, those over."""
        now = timezone.now()
        if code == "in_force":
            return rows.filter(pk__in=Licence.objects.in_force(now).values("pk"))
        approved = rows.filter(state=LicenceState.APPROVED)
        if code == "waiting":
            return approved.filter(needs_countersignature=True, countersignature__isnull=True)
        return approved.filter(Q(ends_at__lte=now) | Q(stops_at__lte=now))

    def covering(self, rows: QuerySet[Licence], _name: str, purpose: str) -> QuerySet[Licence]:
        """Those that name the purpose or a wider one."""
        lineage = [one.value for one in Purpose(purpose).lineage]
        return rows.filter(purposes__overlap=lineage)

    def ending_soon(self, rows: QuerySet[Licence], _name: str, days: str) -> QuerySet[Licence]:
        """Those in force that run out within so many days."""
        now = timezone.now()
        soon = Licence.objects.in_force(now).filter(ends_at__lte=now + timedelta(days=int(days)))
        return rows.filter(pk__in=soon.values("pk"))

    def in_force_then(self, rows: QuerySet[Licence], _name: str, day: date) -> QuerySet[Licence]:
        """Those in force at the end of a day, as known then or, if no other day is named, now."""
        known = self.form.cleaned_data.get("known")
        known_at = _end_of(known) if known else timezone.now()
        then = selectors.in_force_as_of(
            Licence.objects.all(), valid_at=_end_of(day), known_at=known_at
        )
        return rows.filter(pk__in=then.values("pk"))

    def known_then(self, rows: QuerySet[Licence], _name: str, day: date) -> QuerySet[Licence]:
        """Those requested by the end of a day."""
        return rows.filter(requested_at__lte=_end_of(day))


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time.max, UTC)


def _rows(request: HttpRequest) -> QuerySet[Licence]:
    access.staff(request, Role.LEGAL)
    standing = Ending.objects.filter(lifts=None, lifted_by=None)
    return Licence.objects.select_related("corpus__owner").prefetch_related(
        Prefetch("endings", queryset=standing, to_attr="standing")
    )


def _approve(licence: Licence, *, by: Account, at: datetime, reason: str) -> None:
    licences.approve(licence, by=by, at=at, note=reason)


def _reject(licence: Licence, *, by: Account, at: datetime, reason: str) -> None:
    licences.reject(licence, by=by, at=at, note=reason)


def _suspend(licence: Licence, *, by: Account, at: datetime, reason: str) -> None:
    licences.end(licence, instrument=Instrument.SUSPEND, reason=reason, by=by, at=at)


def _renew(licence: Licence, *, by: Account, at: datetime, reason: str) -> None:  # noqa: ARG001
    if licence.ends_at is None:
        raise UnlawfulMove(f"expected a licence that ends, found {licence} open-ended. Let it run.")
    starts_at = max(licence.ends_at, at)
    terms = replace(
        terms_of.of(licence),
        starts_at=starts_at,
        ends_at=starts_at + (licence.ends_at - licence.starts_at),
    )
    licences.request(
        licence.corpus,
        terms=terms,
        supersedes=licence,
        needs_countersignature=licence.needs_countersignature,
        by=by,
        at=at,
    )


LICENCES = Listing(
    name="licences",
    noun="licences",
    address="legal:licences",
    rows=_rows,
    filters=LicenceFilter,
    sorts={
        "reference": "reference",
        "corpus": "corpus__title",
        "owner": "corpus__owner__legal_name",
        "state": "state",
        "starts_at": "starts_at",
        "ends_at": "ends_at",
        "requested_at": "requested_at",
    },
    default_sort="-requested_at",
    columns=(
        Column("Reference", lambda licence: licence.reference),
        Column("Corpus", lambda licence: licence.corpus.slug),
        Column("Owner", lambda licence: licence.corpus.owner.legal_name),
        Column("State", lambda licence: licence.state),
        Column("Uses", lambda licence: licence.uses),
        Column("Purposes", lambda licence: licence.purposes),
        Column("Territories", lambda licence: licence.territories),
        Column("Starts", lambda licence: licence.starts_at),
        Column("Ends", lambda licence: licence.ends_at),
        Column("Requested", lambda licence: licence.requested_at),
        Column("Decided", lambda licence: licence.decided_at),
        Column("Digest of the terms", lambda licence: licence.terms_digest),
        Column("Digest of the contract", lambda licence: licence.contract_digest),
    ),
    acts=(
        BulkAct(
            "renew", "Request renewals", "Puts the same terms up for approval, for as long again "
            "from the day each ends. Others decide; nothing is granted yet.",
            _renew,
        ),
        BulkAct(
            "approve", "Approve", "Signs each request as you would on its page. Your own requests "
            "are refused, and what another step must sign stays open.",
            _approve, asks_reason="Note", is_legal_act=True,
        ),
        BulkAct(
            "reject", "Reject", "Refuses each request. Your own requests are left alone.",
            _reject, asks_reason="Reason", is_danger=True, is_legal_act=True,
        ),
        BulkAct(
            "suspend", "Suspend", "Nobody is answered under it until it is resumed. Nothing is "
            "erased.",
            _suspend, asks_reason="Reason", is_danger=True, is_legal_act=True,
        ),
    ),
)  # fmt: skip
