"""Personal keys: a person's programs ask over REST with the person's rights, or with fewer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction

from governance.errors import InvalidTerms, NotPermitted
from governance.log import events
from governance.models import Account, PersonalKey
from governance.vocabulary import EventTag

LONGEST = timedelta(days=366)
LAST_USE_PRECISION_S = 60.0
"""A key's last use is noted at most this often."""


@dataclass(frozen=True)
class IssuedPersonalKey:
    """A new key and its secret, which exists nowhere else from here on."""

    personal_key: PersonalKey
    secret: str = field(repr=False)


@transaction.atomic
def issue(
    account: Account,
    *,
    label: str,
    may_write: bool,
    expires_at: datetime,
    by: Account | None,
    at: datetime,
) -> IssuedPersonalKey:
    """Issue a key to a person, by that person alone.

    Raises:
        NotPermitted: it would be another's key.
        InvalidTerms: no label, an end that has passed, or one later than `LONGEST` from now.
    """
    if by != account:
        raise NotPermitted("expected a key for oneself, found one for another. Ask that person.")
    if not label.strip():
        raise InvalidTerms(
            "expected a label, found none.", fields={"label": "Name the program it is for."}
        )
    if not at < expires_at <= at + LONGEST:
        raise InvalidTerms(
            f"expected an end within {LONGEST.days} days, found {expires_at:%Y-%m-%d}.",
            fields={"expires_at": f"Choose an end within {LONGEST.days} days."},
        )
    prefix = secrets.token_hex(5)
    secret = f"rp_{prefix}_{secrets.token_urlsafe(32)}"
    made = PersonalKey.objects.create(
        account=account,
        label=label.strip(),
        prefix=prefix,
        secret_digest=_digest(secret),
        may_write=may_write,
        issued_at=at,
        expires_at=expires_at,
    )
    details = {"prefix": prefix, "may_write": may_write, "expires_at": expires_at.isoformat()}
    events.stage(
        EventTag.PERSONAL_KEY_ISSUED,
        subject=f"account:{account.pk}",
        by=by,
        at=at,
        details=details,
    )
    return IssuedPersonalKey(made, secret)


@transaction.atomic
def revoke(personal_key: PersonalKey, *, by: Account | None, at: datetime) -> PersonalKey:
    """End a key at once and for good. Repeating it changes nothing.

    Raises:
        NotPermitted: it is another's key.
    """
    held = PersonalKey.objects.select_for_update().get(pk=personal_key.pk)
    if by != held.account:
        raise NotPermitted("expected one's own key, found another's. Ask that person.")
    if held.revoked_at is None:
        held.revoked_at = at
        held.save(update_fields=["revoked_at"])
        events.stage(
            EventTag.PERSONAL_KEY_REVOKED,
            subject=f"account:{held.account_id}",
            by=by,
            at=at,
            details={"prefix": held.prefix},
        )
    return held


def authenticate(secret: str, *, at: datetime) -> PersonalKey | None:
    """The key a secret opens, with its account; None if unknown, ended, revoked or locked out."""
    parts = secret.split("_", 2)
    if len(parts) != 3 or parts[0] != "rp" or len(parts[1]) > 16 or not secret.isascii():
        return None
    found = PersonalKey.objects.select_related("account").filter(prefix=parts[1]).first()
    if found is None or not hmac.compare_digest(found.secret_digest, _digest(secret)):
        return None
    if found.revoked_at is not None or found.expires_at <= at or not found.account.is_active:
        return None
    is_noted = found.last_used_at is not None and (
        (at - found.last_used_at).total_seconds() < LAST_USE_PRECISION_S
    )
    if not is_noted:
        PersonalKey.objects.filter(pk=found.pk).update(last_used_at=at)
    return found


def _digest(secret: str) -> str:
    # A fast digest is right for 256 random bits; the site's own key keeps a stolen table useless.
    return hmac.new(settings.SECRET_KEY.encode(), secret.encode(), hashlib.sha256).hexdigest()
