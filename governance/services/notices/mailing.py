"""Mails to send: one for each reader, with everything that is due for it. Bookkeeping.

A mail is sent before its notices are marked, so a crash between the two sends it again: told
twice is better than never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet

from governance.models import Notice
from governance.services.notices.telling import acknowledge_url

RETRY = timedelta(minutes=10)
MOST_IN_ONE = 50


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one address about some notices."""

    to: str
    subject: str
    body: str
    notices: tuple[UUID, ...]


def mails_due(*, at: datetime, limit: int = 200) -> list[Mail]:
    """What to send now; several notices for one reader become one mail."""
    rows = (
        Notice.objects.filter(mail_at__lte=at, mailed_at=None)
        .select_related("account", "consumer")
        .order_by("told_at", "id")[:limit]
    )
    by_reader: dict[str, list[Notice]] = {}
    for row in rows:
        to = (
            row.account.email if row.account else row.consumer.contact_email if row.consumer else ""
        )
        if to:
            by_reader.setdefault(to, []).append(row)
    return [_mail(to, told[:MOST_IN_ONE]) for to, told in by_reader.items()]


def _address(row: Notice) -> str:
    if row.account is not None:
        return row.account.email
    return row.consumer.contact_email if row.consumer is not None else ""


def _mail(to: str, told: Sequence[Notice]) -> Mail:
    first = told[0]
    title = first.title if len(told) == 1 else f"{len(told)} notices: {first.title}, and more"
    parts = [_paragraph(row) for row in told]
    ending = f"All notices, and how you want to be told: {settings.RECLAIM_PUBLIC_URL}/notices/"
    if first.account is None:
        ending = "You are told because you use this installation's answers."
    body = "\n\n".join([*parts, "-- ", ending])
    return Mail(to, f"[Reclaim] {title}"[:200], body, tuple(row.pk for row in told))


def _paragraph(row: Notice) -> str:
    lines = [row.title, row.text]
    if row.account is not None:
        lines.append(f"{settings.RECLAIM_PUBLIC_URL}/notices/{row.pk}/")
    if row.needs_acknowledgement:
        lines.append(f"Acknowledge: {acknowledge_url(row)}")
    return "\n".join(lines)


def mailed(mail: Mail, *, at: datetime) -> int:
    """Note that a mail was handed over."""
    return _of(mail).update(mailed_at=at, mail_error="")


def mail_failed(mail: Mail, error: str, *, at: datetime) -> int:
    """Note why a mail was not handed over, and try again in ten minutes."""
    return _of(mail).update(mail_at=at + RETRY, mail_error=error[:300])


def _of(mail: Mail) -> QuerySet[Notice]:
    return Notice.objects.filter(pk__in=mail.notices)
