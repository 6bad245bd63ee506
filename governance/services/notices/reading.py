"""The readers' side: unread, read, acknowledged, and how mail is wanted."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.core import signing
from django.db import transaction

from governance.errors import InvalidTerms, NotFound, NotPermitted
from governance.log import events
from governance.models import Account, Membership, Notice, NoticePreference
from governance.vocabulary import EventTag, MailRhythm, NoticeKind, Role

_SALT = "reclaim.notice.acknowledge"


def unread(account: Account) -> int:
    """How many notices an account has not read. A read."""
    return Notice.objects.filter(account=account, read_at=None).count()


def mark_read(account: Account, *, at: datetime, only: Collection[UUID] | None = None) -> int:
    """Note that an account has read its notices, or only some; how many. Bookkeeping."""
    rows = Notice.objects.filter(account=account, read_at=None)
    return (rows if only is None else rows.filter(pk__in=list(only))).update(read_at=at)


def token_of(notice: Notice) -> str:
    """What proves that somebody was sent this notice. Only we can make one."""
    return signing.dumps(str(notice.pk), salt=_SALT)


def of_token(token: str) -> Notice:
    """The notice a token was made for.

    Raises:
        NotFound: no notice has this token.
    """
    try:
        found = Notice.objects.filter(
            pk=UUID(signing.loads(token, salt=_SALT)), needs_acknowledgement=True
        ).first()
    except (signing.BadSignature, ValueError):
        found = None
    if found is None:
        raise NotFound("expected the address of a notice, found another. Copy it whole.")
    return found


@transaction.atomic
def acknowledge(notice: Notice, *, by: Account | None, at: datetime, as_whom: str) -> Notice:
    """Note that whoever was told says so. The first acknowledgement stands.

    Args:
        by: our legal staff, for one that came by letter; None for the consumer itself.
        as_whom: who says it, in their own words.

    Raises:
        NotPermitted: the person is not legal staff.
        InvalidTerms: nobody is named, or no acknowledgement was asked for.
    """
    if by is not None and not Membership.objects.filter(account=by, role=Role.LEGAL).exists():
        raise NotPermitted(f"expected legal staff, found {by}. The recipient can do it alone.")
    found = Notice.objects.select_for_update().get(pk=notice.pk)
    if not as_whom.strip() or not found.needs_acknowledgement:
        raise InvalidTerms(
            "expected a notice that asks for it and a name, found none. Say who you are.",
            fields={"as_whom": "Say who acknowledges it."},
        )
    if found.acknowledged_at is not None:
        return found
    said = {"acknowledged_at": at, "acknowledged_as": as_whom.strip()[:200]}
    first = _first_of(found)
    asked_again = Notice.objects.filter(key__startswith=f"chase:{first}:")
    (Notice.objects.filter(pk=first) | asked_again).update(**said)
    found.refresh_from_db()
    events.stage(
        EventTag.NOTICE_ACKNOWLEDGED,
        subject=found.subject,
        by=by,
        at=at,
        details={"notice": found.pk, "consumer": found.consumer_id},
    )
    return found


def _first_of(notice: Notice) -> UUID:
    """The notice that this one asks about again, or itself."""
    return UUID(notice.key.split(":")[1]) if notice.key.startswith("chase:") else notice.pk


def preference_of(account: Account) -> NoticePreference:
    """How an account wants its mail; unsaved where it never said. A read."""
    found = NoticePreference.objects.filter(account=account).first()
    return found or NoticePreference(account=account)


def prefer(
    account: Account, *, mail: MailRhythm, never_mailed: Collection[str] = ()
) -> NoticePreference:
    """Set how an account wants its mail. The inbox shows everything, always. Bookkeeping.

    Raises:
        InvalidTerms: no such rhythm or kind.
    """
    odd = sorted(set(never_mailed) - {str(kind) for kind in NoticeKind})
    if odd or mail not in set(MailRhythm):
        raise InvalidTerms(
            f"expected kinds and a rhythm from the lists, found {', '.join(odd) or mail}.",
            fields={"never_mailed": "Choose from the list."},
        )
    row, _ = NoticePreference.objects.update_or_create(
        account=account, defaults={"mail": mail, "never_mailed": sorted(set(never_mailed))}
    )
    return row
