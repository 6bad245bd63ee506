"""API keys: a secret is shown once and kept as a keyed digest only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from governance import keys
from governance.errors import InvalidTerms, UnlawfulMove
from governance.log import events
from governance.models import Account, ApiKey, Consumer
from governance.services import approvals
from governance.services.approvals import subjects
from governance.services.limits import KeyLimits
from governance.vocabulary import ConsumerStatus, EventTag, KeyScope, Purpose

PREFIX_CHARACTERS = 10
LAST_USE_PRECISION_S = 60.0
"""A key's last use is noted at most this often: a busy key must not cost a write a request."""
LONGEST_OVERLAP = timedelta(days=30)
"""How long the secret before a rotation may still open a key."""


@dataclass(frozen=True)
class IssuedKey:
    """A new key and its secret, which exists nowhere else from here on."""

    api_key: ApiKey
    secret: str = field(repr=False)


@transaction.atomic
def issue_key(
    consumer: Consumer,
    *,
    label: str,
    purposes: Collection[str],
    scopes: Collection[str] | None = None,
    expires_at: datetime | None = None,
    limits: KeyLimits | None = None,
    by: Account | None,
    at: datetime,
) -> IssuedKey:
    """Issue a key bound to purposes; a request may narrow them, never widen.

    Args:
        scopes: endpoints of the gateway it may call; None means all but the playground.
        limits: how much it may ask; what is left out is as the installation has it.

    Raises:
        InvalidTerms: no purpose, an unknown purpose or scope, or an end that has passed.
        UnlawfulMove: the consumer is suspended or closed.
        NotPermitted: keys need approval here, and exactly this one has none.
    """
    named, called = _purposes(purposes), _scopes(scopes)
    _refuse_closed(consumer)
    _refuse_past(expires_at, at)
    asked = subjects.api_key(
        consumer,
        label=label,
        purposes=named,
        scopes=called,
        expires_at=expires_at,
        limits=limits,
    )
    approvals.spend(asked, at=at)
    prefix = secrets.token_hex(PREFIX_CHARACTERS // 2)
    secret = _new_secret(prefix)
    api_key = ApiKey.objects.create(
        consumer=consumer,
        label=label,
        prefix=prefix,
        secret_digest=_digest(secret),
        purposes=named,
        scopes=called,  # type: ignore[misc] # the stubs do not know that null means "any"
        issued_at=at,
        expires_at=expires_at,
        **asdict(limits or KeyLimits()),
    )
    events.stage(
        EventTag.API_KEY_ISSUED,
        subject=f"consumer:{consumer.slug}",
        by=by,
        at=at,
        details={"prefix": prefix, "label": label, "purposes": named, "scopes": called},
    )
    return IssuedKey(api_key, secret)


def _refuse_closed(consumer: Consumer) -> None:
    if consumer.status != ConsumerStatus.ACTIVE:
        raise UnlawfulMove(
            f"expected an active consumer, found {consumer} {consumer.status}. Make it active."
        )


def _refuse_past(expires_at: datetime | None, at: datetime) -> None:
    if expires_at is not None and expires_at <= at:
        raise InvalidTerms(
            f"expected an end after {at:%Y-%m-%d %H:%M}, found {expires_at:%Y-%m-%d %H:%M}.",
            fields={"expires_at": "This has passed already."},
        )


@transaction.atomic
def rotate_key(
    api_key: ApiKey, *, overlap: timedelta, by: Account | None, at: datetime
) -> IssuedKey:
    """Give a key a new secret; the old one opens it until `overlap` has passed, then no more.

    Prefix, purposes, scopes and end stay. Rotated again within an overlap, only the newest two
    secrets open it.

    Raises:
        InvalidTerms: a negative overlap, or one longer than `LONGEST_OVERLAP`.
        UnlawfulMove: the key is revoked or has ended.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise InvalidTerms(
            f"expected an overlap of 0 to {LONGEST_OVERLAP.days} days, found {overlap}.",
            fields={"overlap_hours": f"0 to {LONGEST_OVERLAP.days * 24} hours."},
        )
    found = ApiKey.objects.select_for_update().select_related("consumer").get(pk=api_key.pk)
    if found.revoked_at is not None or (found.expires_at and found.expires_at <= at):
        raise UnlawfulMove(
            f"expected a key that is open, found {found} ended. Issue a new one instead."
        )
    secret = _new_secret(found.prefix)
    found.previous_digest = found.secret_digest if overlap else ""
    found.previous_until = at + overlap if overlap else None
    found.secret_digest, found.rotated_at = _digest(secret), at
    found.save(update_fields=["previous_digest", "previous_until", "secret_digest", "rotated_at"])
    events.stage(
        EventTag.API_KEY_ROTATED,
        subject=f"consumer:{found.consumer.slug}",
        by=by,
        at=at,
        details={"prefix": found.prefix, "previous_until": found.previous_until},
    )
    return IssuedKey(found, secret)


@transaction.atomic
def revoke_key(api_key: ApiKey, *, by: Account | None, at: datetime) -> ApiKey:
    """End a key at once and for good, both its secrets. Repeating it changes nothing."""
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

    A secret is 256 random bits, so a fast hash keeps it; HMAC with the pepper makes a copied
    database useless even to whoever can guess. The comparison takes the same time wherever two
    digests differ, and an unknown prefix is compared as well.
    """
    kind, _, rest = secret.partition("_")
    prefix, _, _ = rest.partition("_")
    if kind != "rk" or len(prefix) != PREFIX_CHARACTERS or not prefix.isalnum():
        return None
    api_key = ApiKey.objects.select_related("consumer").filter(prefix=prefix).first()
    if not _opens(api_key, _digest(secret), at) or api_key is None:
        return None
    if api_key.consumer.status != ConsumerStatus.ACTIVE:
        return None
    if api_key.revoked_at is not None or (api_key.expires_at and api_key.expires_at <= at):
        return None
    _note_use(api_key, at)
    return api_key


def playground_keys(*, at: datetime) -> QuerySet[ApiKey]:
    """The keys our staff may ask on from the playground, by consumer: open, and issued for it."""
    return (
        ApiKey.objects.select_related("consumer")
        .filter(
            Q(expires_at=None) | Q(expires_at__gt=at),
            scopes__contains=[KeyScope.PLAYGROUND.value],
            revoked_at=None,
            consumer__status=ConsumerStatus.ACTIVE,
        )
        .order_by("consumer__name", "issued_at")
    )


def take_playground_key(prefix: str, *, at: datetime) -> ApiKey | None:
    """The key of the playground with this prefix, for one request; None if there is none at `at`.

    Whoever calls this has checked that our staff asks: no secret is shown.
    """
    api_key = playground_keys(at=at).filter(prefix=prefix).first()
    if api_key is not None:
        _note_use(api_key, at)
    return api_key


def may_call(api_key: ApiKey, scope: KeyScope) -> bool:
    """Whether the key may call an endpoint; our own staff's must be named to be one of "all"."""
    if api_key.scopes is None:
        return scope is not KeyScope.PLAYGROUND
    return scope.value in api_key.scopes


def may_ask_for(api_key: ApiKey, purpose: Purpose) -> bool:
    """Whether a request of this key may be for `purpose`: one of its purposes, or a part of one."""
    return any(purpose.is_part_of(Purpose(held)) for held in api_key.purposes)


def _note_use(api_key: ApiKey, at: datetime) -> None:
    since = at - timedelta(seconds=LAST_USE_PRECISION_S)
    if not api_key.last_used_at or api_key.last_used_at < since:
        ApiKey.objects.filter(pk=api_key.pk).update(last_used_at=at)


def _opens(api_key: ApiKey | None, digest: str, at: datetime) -> bool:
    if api_key is None:
        return hmac.compare_digest(digest, "0" * 64)
    is_newest = hmac.compare_digest(api_key.secret_digest, digest)
    overlaps = api_key.previous_until is not None and at < api_key.previous_until
    return is_newest or (overlaps and hmac.compare_digest(api_key.previous_digest, digest))


def _purposes(purposes: Collection[str]) -> list[str]:
    unknown = sorted(set(purposes) - set(Purpose))
    if not purposes or unknown:
        raise InvalidTerms(
            f"expected one or more of {', '.join(Purpose)}, found {', '.join(unknown) or 'none'}.",
            fields={"purposes": "Choose at least one of the known purposes."},
        )
    return list(dict.fromkeys(str(purpose) for purpose in purposes))


def _scopes(scopes: Collection[str] | None) -> list[str] | None:
    if scopes is None:
        return None
    unknown = sorted(set(scopes) - set(KeyScope))
    if not scopes or unknown:
        raise InvalidTerms(
            f"expected one or more of {', '.join(KeyScope)}, found {', '.join(unknown) or 'none'}.",
            fields={"scopes": "Choose at least one of the known endpoints."},
        )
    return sorted({str(scope) for scope in scopes})


def _new_secret(prefix: str) -> str:
    return f"rk_{prefix}_{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> str:
    pepper = keys.secret(settings.RECLAIM_KEYS, keys.PEPPER)
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()
