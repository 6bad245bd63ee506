"""The lists of owners, of consumers and of their keys, for legal staff."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import django_filters
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from governance.models import Account, ApiKey, Consumer, DataOwner, Expert, Licence
from governance.services import consumers, owners
from governance.vocabulary import (
    ConsumerStatus,
    OwnerStatus,
    Purpose,
    RecipientClass,
    Role,
    Sector,
)
from web import access
from web.ui.lists.filters import Words, count_of
from web.ui.lists.listing import BulkAct, Column, Listing


class OwnerFilter(django_filters.FilterSet):
    """Owners by words, status and country."""

    find = Words("Name or number", over=("legal_name", "slug", "registry_number"))
    status = django_filters.ChoiceFilter(choices=OwnerStatus.choices(), empty_label="Any")
    jurisdiction = django_filters.CharFilter(label="Country", lookup_expr="iexact", max_length=2)


def _owners(request: HttpRequest) -> QuerySet[DataOwner]:
    access.staff(request, Role.LEGAL)
    return DataOwner.objects.annotate(
        expert_count=count_of(Expert.objects.all(), "owner"),
        licence_count=count_of(Licence.objects.all(), "corpus__owner"),
    )


def _owner_to(to: OwnerStatus) -> Callable[..., None]:
    def move(owner: DataOwner, *, by: Account, at: datetime, reason: str) -> None:
        owners.move(owner, to=to, reason=reason, by=by, at=at)

    return move


OWNERS = Listing(
    name="owners",
    noun="owners",
    address="legal:owners",
    rows=_owners,
    filters=OwnerFilter,
    sorts={
        "name": "legal_name",
        "status": "status",
        "jurisdiction": "jurisdiction",
        "experts": "expert_count",
        "licences": "licence_count",
        "since": "registered_at",
    },
    default_sort="name",
    columns=(
        Column("Name", lambda owner: owner.legal_name),
        Column("Short name", lambda owner: owner.slug),
        Column("Status", lambda owner: owner.status),
        Column("Country", lambda owner: owner.jurisdiction),
        Column("Register", lambda owner: owner.registry_name),
        Column("Number", lambda owner: owner.registry_number),
        Column("Contact", lambda owner: owner.contact_name),
        Column("Contact e-mail", lambda owner: owner.contact_email),
        Column("Experts", lambda owner: owner.expert_count),
        Column("Licences", lambda owner: owner.licence_count),
        Column("Since", lambda owner: owner.registered_at),
    ),
    acts=(
        BulkAct(
            "suspend", "Suspend", "Signs nothing new until it is active again. What runs goes on "
            "under its licences until these are suspended or withdrawn themselves.",
            _owner_to(OwnerStatus.SUSPENDED), asks_reason="Reason", is_danger=True,
        ),
        BulkAct(
            "activate", "Make active", "Signs for itself again.",
            _owner_to(OwnerStatus.ACTIVE), asks_reason="Reason",
        ),
    ),
)  # fmt: skip


class ConsumerFilter(django_filters.FilterSet):
    """Consumers by words, status, kind, sector and country."""

    find = Words("Name or number", over=("name", "slug", "registry_number"))
    status = django_filters.ChoiceFilter(choices=ConsumerStatus.choices(), empty_label="Any")
    recipient_class = django_filters.ChoiceFilter(
        label="Kind", choices=RecipientClass.choices(), empty_label="Any"
    )
    sector = django_filters.ChoiceFilter(choices=Sector.choices(), empty_label="Any")
    territory = django_filters.CharFilter(label="Country", lookup_expr="iexact", max_length=2)


def _consumers(request: HttpRequest) -> QuerySet[Consumer]:
    access.staff(request, Role.LEGAL)
    in_use = ApiKey.objects.filter(open_at(timezone.now()))
    return Consumer.objects.annotate(key_count=count_of(in_use, "consumer"))


def _consumer_to(to: ConsumerStatus) -> Callable[..., None]:
    def move(consumer: Consumer, *, by: Account, at: datetime, reason: str) -> None:
        consumers.move(consumer, to=to, reason=reason, by=by, at=at)

    return move


CONSUMERS = Listing(
    name="consumers",
    noun="consumers",
    address="legal:consumers",
    rows=_consumers,
    filters=ConsumerFilter,
    sorts={
        "name": "name",
        "status": "status",
        "territory": "territory",
        "keys": "key_count",
        "since": "registered_at",
    },
    default_sort="name",
    columns=(
        Column("Name", lambda consumer: consumer.name),
        Column("Short name", lambda consumer: consumer.slug),
        Column("Status", lambda consumer: consumer.status),
        Column("Kind", lambda consumer: consumer.recipient_class),
        Column("Sector", lambda consumer: consumer.get_sector_display()),
        Column("Country", lambda consumer: consumer.territory),
        Column("Register", lambda consumer: consumer.registry_name),
        Column("Number", lambda consumer: consumer.registry_number),
        Column("Contact", lambda consumer: consumer.contact_name),
        Column("Contact e-mail", lambda consumer: consumer.contact_email),
        Column("Keys in use", lambda consumer: consumer.key_count),
        Column("Since", lambda consumer: consumer.registered_at),
    ),
    acts=(
        BulkAct(
            "suspend", "Suspend", "Its keys open nothing, from the next request on.",
            _consumer_to(ConsumerStatus.SUSPENDED), asks_reason="Reason", is_danger=True,
        ),
        BulkAct(
            "resume", "Make active", "Its keys open again what they opened before.",
            _consumer_to(ConsumerStatus.ACTIVE), asks_reason="Reason",
        ),
    ),
)  # fmt: skip


def open_at(at: datetime) -> Q:
    """Which keys open something at `at`."""
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=at))


class KeyFilter(django_filters.FilterSet):
    """Keys by words, standing and purpose."""

    find = Words("Consumer, prefix or label", over=("consumer__name", "prefix", "label"))
    standing = django_filters.ChoiceFilter(
        label="Standing",
        choices=[
            ("open", "Open"),
            ("revoked", "Revoked"),
            ("ended", "Ended"),
            ("unused", "Unused"),
        ],
        empty_label="Any",
        method="standing_so",
    )
    purpose = django_filters.ChoiceFilter(
        label="Purpose", choices=Purpose.choices(), empty_label="Any", method="bound_to"
    )

    def standing_so(self, rows: QuerySet[ApiKey], _name: str, code: str) -> QuerySet[ApiKey]:
        """Those that open something, opened something once, or could and never did."""
        now = timezone.now()
        match code:
            case "open":
                return rows.filter(open_at(now))
            case "unused":
                return rows.filter(open_at(now), last_used_at=None)
            case "revoked":
                return rows.exclude(revoked_at=None)
            case _:
                return rows.filter(revoked_at=None, expires_at__lte=now)

    def bound_to(self, rows: QuerySet[ApiKey], _name: str, purpose: str) -> QuerySet[ApiKey]:
        """Those that name the purpose."""
        return rows.filter(purposes__contains=[purpose])


def _keys(request: HttpRequest) -> QuerySet[ApiKey]:
    access.staff(request, Role.LEGAL)
    return ApiKey.objects.select_related("consumer")


def _revoke(key: ApiKey, *, by: Account, at: datetime, reason: str) -> None:  # noqa: ARG001
    consumers.revoke_key(key, by=by, at=at)


KEYS = Listing(
    name="keys",
    noun="keys",
    address="legal:keys",
    rows=_keys,
    filters=KeyFilter,
    sorts={"consumer": "consumer__name", "issued": "issued_at"},
    default_sort="-issued",
    columns=(
        Column("Prefix", lambda key: key.prefix),
        Column("Consumer", lambda key: key.consumer.name),
        Column("Label", lambda key: key.label),
        Column("Scopes", lambda key: key.scopes),
        Column("Purposes", lambda key: key.purposes),
        Column("Issued", lambda key: key.issued_at),
        Column("Rotated", lambda key: key.rotated_at),
        Column("Expires", lambda key: key.expires_at),
        Column("Revoked", lambda key: key.revoked_at),
        Column("Last used", lambda key: key.last_used_at),
    ),
    acts=(
        BulkAct(
            "revoke", "Revoke", "It opens nothing any more, at once and for good.",
            _revoke, is_danger=True,
        ),
    ),
)  # fmt: skip
