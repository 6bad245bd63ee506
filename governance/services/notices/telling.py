"""Writing what is told: notices for accounts and consumers, messages for endpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from governance.models import (
    Account,
    Consumer,
    LogLeaf,
    Membership,
    Notice,
    NoticeCursor,
    NoticePreference,
)
from governance.services import webhooks
from governance.services.notices.reading import token_of
from governance.services.notices.stories import Told, of_event
from governance.vocabulary import MailRhythm, Role

BATCH = 200
DAILY_AT = time(7, 0)
"""When a daily mail goes out, UTC."""


def tell_of_log(*, at: datetime, limit: int = BATCH) -> int:
    """Tell of the next sealed leaves; how many were read. One at a time, each exactly once."""
    with transaction.atomic():
        NoticeCursor.objects.get_or_create(pk=1)
        cursor = NoticeCursor.objects.select_for_update().get(pk=1)
        leaves = list(LogLeaf.objects.filter(seq__gte=cursor.next_seq).order_by("seq")[:limit])
        for leaf in leaves:
            told = of_event(json.loads(bytes(leaf.body)), seq=leaf.seq)
            if told is not None:
                tell(told, at=at)
        if leaves:
            cursor.next_seq = leaves[-1].seq + 1
            cursor.save(update_fields=["next_seq"])
    return len(leaves)


@transaction.atomic
def tell(told: Told, *, at: datetime) -> int:
    """Write one thing for all its readers, with one insert; how many. Repeated, it adds nothing."""
    accounts = list(_accounts(told))
    consumers = list(Consumer.objects.filter(pk__in=told.consumer_ids))
    preferences = NoticePreference.objects.in_bulk([account.pk for account in accounts])
    rows = [
        Notice(
            **_common(told, at),
            key=f"{told.key}:a{account.pk}",
            text=told.text,
            account=account,
            mail_at=mail_at(preferences.get(account.pk), told.kind, at),
        )
        for account in accounts
    ]
    asked = {
        consumer.pk: Notice(
            **_common(told, at),
            key=f"{told.key}:c{consumer.pk}",
            text=told.consumer_text,
            consumer=consumer,
            mail_at=at if consumer.contact_email else None,
            needs_acknowledgement=told.needs_acknowledgement,
        )
        for consumer in consumers
    }
    Notice.objects.bulk_create([*rows, *asked.values()], ignore_conflicts=True)
    facts = {"subject": told.subject, "title": told.title, "text": told.text, **told.details}
    webhooks.enqueue(
        told.kind,
        key=told.key,
        facts=facts,
        owner_id=told.owner_id,
        consumer_facts={
            pk: {"text": told.consumer_text, **_acknowledging(row)} for pk, row in asked.items()
        },
        at=at,
    )
    return len(rows) + len(asked)


def _common(told: Told, at: datetime) -> dict[str, Any]:
    return {"kind": told.kind, "subject": told.subject, "title": told.title[:200], "told_at": at}


def _acknowledging(notice: Notice) -> dict[str, str]:
    if not notice.needs_acknowledgement:
        return {}
    return {"acknowledge_url": acknowledge_url(notice)}


def acknowledge_url(notice: Notice) -> str:
    """Where a consumer says that it has read a notice; no log-in, the address is the proof."""
    return f"{settings.RECLAIM_PUBLIC_URL}/notices/acknowledge/{token_of(notice)}/"


def _accounts(told: Told) -> Iterable[Account]:
    """Staff of the roles, and everybody who speaks for the owner; each once."""
    readers = Q(role__in=[role.value for role in told.roles])
    if told.owner_id is not None:
        readers |= Q(role=Role.OWNER, owner_id=told.owner_id)
    members = Membership.objects.filter(readers).values("account_id")
    return Account.objects.filter(pk__in=members, is_active=True).order_by("pk")


def mail_at(preference: NoticePreference | None, kind: str, at: datetime) -> datetime | None:
    """When a notice of `kind` is mailed to somebody with this preference; None for never."""
    if preference is None:
        return at
    if preference.mail == MailRhythm.NEVER or kind in preference.never_mailed:
        return None
    if preference.mail == MailRhythm.DAILY:
        today = datetime.combine(at.date(), DAILY_AT, at.tzinfo)
        return today if today > at else today + timedelta(days=1)
    return at
