"""Consumers and their API keys. A secret is shown once and kept as a digest only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import transaction
from django.utils.text import slugify

from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, ApiKey, Consumer
from governance.services.owners import check_country
from governance.vocabulary import EventTag, Purpose, Sector

PREFIX_CHARACTERS = 10
LAST_USE_PRECISION_S = 60.0
"""A key's last use is noted at most this often: a busy key must not cost a write a request."""


@dataclass(frozen=True)
class IssuedKey:
    """A new key and its secret, which exists nowhere else from here on."""

    api_key: ApiKey
    secret: str = field(repr=False)


@transaction.atomic
def register(
    name: str,
    *,
    territory: str,
    sector: str = "",
    slug: str | None = None,
    by: Account | None,
    at: datetime,
) -> Consumer:
    """Take on an organisation that may ask the model.

    Args:
        territory: ISO 3166-1 alpha-2 code of where its answers are used.

    Raises:
        InvalidTerms: not a country code, or the name is taken.
    """
    check_country(territory, field="territory")
    named = Sector.named(sector)
    slug = slug or slugify(name)[:64]
    if not slug or Consumer.objects.filter(slug=slug).exists():
        raise InvalidTerms(
            f"expected a name no consumer has yet, found {name!r}. Add what tells them apart.",
            fields={"name": "A consumer of this name is registered already."},
        )
    consumer = Consumer.objects.create(
        slug=slug, name=name, territory=territory, sector=named or "", registered_at=at
    )
    events.stage(
        EventTag.CONSUMER_REGISTERED,
        subject=f"consumer:{slug}",
        by=by,
        at=at,
        details={"name": name, "territory": territory, "sector": sector},
    )
    return consumer


@transaction.atomic
def issue_key(
    consumer: Consumer,
    *,
    label: str,
    purposes: Collection[str],
    expires_at: datetime | None = None,
    by: Account | None,
    at: datetime,
) -> IssuedKey:
    """Issue a key bound to purposes; a request may narrow them, never widen.

    Raises:
        InvalidTerms: no purpose, an unknown one, or an end that has passed.
    """
    named = _purposes(purposes)
    if expires_at is not None and expires_at <= at:
        raise InvalidTerms(
            f"expected an end after {at:%Y-%m-%d %H:%M}, found {expires_at:%Y-%m-%d %H:%M}.",
            fields={"expires_at": "This has passed already."},
        )
    prefix = secrets.token_hex(PREFIX_CHARACTERS // 2)
    secret = f"rk_{prefix}_{secrets.token_urlsafe(32)}"
    api_key = ApiKey.objects.create(
        consumer=consumer,
        label=label,
        prefix=prefix,
        secret_digest=_digest(secret),
        purposes=named,
        issued_at=at,
        expires_at=expires_at,
    )
    events.stage(
        EventTag.API_KEY_ISSUED,
        subject=f"consumer:{consumer.slug}",
        by=by,
        at=at,
        details={"prefix": prefix, "label": label, "purposes": named},
    )
    return IssuedKey(api_key, secret)


@transaction.atomic
def revoke_key(api_key: ApiKey, *, by: Account | None, at: datetime) -> ApiKey:
    """End a key at once and for good. Repeating it changes nothing."""
    found = ApiKey.objects.select_for_update().select_related("consumer").get(pk=api_key.pk)
    if found.revoked_at is not None:
        return found
    found.revoked_at = at
    found.save(update_fields=["revoked_at"])
    events.stage(
        EventTag.API_KEY_REVOKED,
        subject=f"consumer:{found.consumer.slug}",
        by=by,
        at=at,
        details={"prefix": found.prefix},
    )
    return found


def authenticate(secret: str, *, at: datetime) -> ApiKey | None:
    """The key a secret belongs to, its consumer fetched with it; None if it opens nothing at `at`.

    A key's secret is 256 random bits, so a plain SHA-256 keeps it; the comparison takes the same
    time wherever two digests differ.
    """
    kind, _, rest = secret.partition("_")
    prefix, _, _ = rest.partition("_")
    if kind != "rk" or len(prefix) != PREFIX_CHARACTERS or not prefix.isalnum():
        return None
    api_key = ApiKey.objects.select_related("consumer").filter(prefix=prefix).first()
    if api_key is None or not hmac.compare_digest(api_key.secret_digest, _digest(secret)):
        return None
    if api_key.revoked_at is not None or (api_key.expires_at and api_key.expires_at <= at):
        return None
    if not api_key.last_used_at or (at - api_key.last_used_at) > timedelta(
        seconds=LAST_USE_PRECISION_S
    ):
        ApiKey.objects.filter(pk=api_key.pk).update(last_used_at=at)
    return api_key


def _purposes(purposes: Collection[str]) -> list[str]:
    unknown = sorted(set(purposes) - set(Purpose))
    if not purposes or unknown:
        raise InvalidTerms(
            f"expected one or more of {', '.join(Purpose)}, found {', '.join(unknown) or 'none'}.",
            fields={"purposes": "Choose at least one of the known purposes."},
        )
    return list(dict.fromkeys(str(purpose) for purpose in purposes))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
