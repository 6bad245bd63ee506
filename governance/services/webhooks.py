"""Webhooks: endpoints that are told by signed messages, each message a row until it arrives.

Headers and signature follow the Standard Webhooks scheme (webhook-id, webhook-timestamp,
webhook-signature `v1,` + base64 of HMAC-SHA-256 over "id.timestamp.body"; secrets begin `whsec_`).
A secret is derived from the installation's own key and the endpoint's version of it, so the
database holds none and a copy of it can forge nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Q
from django.utils.crypto import salted_hmac

from governance.canonical import canonical_json, plain
from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    Consumer,
    DataOwner,
    Membership,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from governance.vocabulary import DeliveryState, EventTag, NoticeKind, Role

_SALT = "reclaim.webhook.secret"
WAITS_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 86_400)
"""After each failed try in turn; after the last of them the delivery is given up: some 42 hours."""
CLAIM_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one try: a status, or an error in words; and where it went."""

    status: int | None
    error: str = ""
    address: str = ""
    took_ms: int = 0

    @property
    def is_delivered(self) -> bool:
        """Whether the endpoint said that it has the message."""
        return self.status is not None and 200 <= self.status < 300


# ── Endpoints ────────────────────────────────────────────────────────────────────────────────────
@transaction.atomic
def create(
    url: str,
    *,
    kinds: Collection[str] = (),
    owner: DataOwner | None = None,
    consumer: Consumer | None = None,
    by: Account,
    at: datetime,
) -> WebhookEndpoint:
    """Take an address to be told. Without an owner or a consumer it is one of our own.

    Args:
        kinds: what it is told of; empty is everything that party may know.

    Raises:
        NotPermitted: the person neither speaks for the owner nor is legal staff.
        InvalidTerms: the address or a kind cannot be used.
    """
    _check_speaks(by, owner)
    fields = {}
    if not _is_address(url):
        fields["url"] = "An https:// address without a name or password in it, please."
    odd = sorted(set(kinds) - {str(kind) for kind in NoticeKind})
    if odd:
        fields["kinds"] = f"No such kind: {', '.join(odd)}."
    if owner is not None and consumer is not None:
        fields["owner"] = "An endpoint belongs to one party."
    if fields:
        found = "; ".join(f"{name}: {said}" for name, said in fields.items())
        raise InvalidTerms(f"expected an endpoint that can be told, found {found}", fields=fields)
    endpoint = WebhookEndpoint.objects.create(
        url=url,
        kinds=sorted(set(kinds)),
        owner=owner,
        consumer=consumer,
        created_by=by,
        created_at=at,
    )
    _stage(EventTag.WEBHOOK_CREATED, endpoint, by, at, {"kinds": endpoint.kinds})
    return endpoint


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    is_plain = parts.username is None and parts.password is None and not parts.fragment
    return parts.scheme in ("https", "http") and bool(parts.hostname) and is_plain


def secret_of(endpoint: WebhookEndpoint) -> str:
    """The secret to check our signatures with; shown when it is made, and never logged."""
    return f"whsec_{base64.b64encode(_key(endpoint)).decode()}"


def _key(endpoint: WebhookEndpoint) -> bytes:
    said = f"{endpoint.pk}:{endpoint.secret_version}"
    return salted_hmac(_SALT, said, algorithm="sha256").digest()


@transaction.atomic
def change_secret(endpoint: WebhookEndpoint, *, by: Account, at: datetime) -> WebhookEndpoint:
    """Sign with a new secret from now on.

    Raises:
        NotPermitted: the person neither speaks for the owner nor is legal staff.
    """
    found = _locked(endpoint, by)
    found.secret_version += 1
    found.save(update_fields=["secret_version"])
    _stage(EventTag.WEBHOOK_KEY_CHANGED, found, by, at, {"version": found.secret_version})
    return found


@transaction.atomic
def disable(
    endpoint: WebhookEndpoint, *, by: Account | None, at: datetime, reason: str = ""
) -> WebhookEndpoint:
    """Tell an endpoint nothing more. Repeated, it changes nothing.

    Raises:
        NotPermitted: the person neither speaks for the owner nor is legal staff.
    """
    found = _locked(endpoint, by)
    if found.disabled_at is not None:
        return found
    found.disabled_at, found.disabled_because = at, reason[:200]
    found.save(update_fields=["disabled_at", "disabled_because"])
    _stage(EventTag.WEBHOOK_DISABLED, found, by, at, {"reason": reason})
    return found


# ── Messages ─────────────────────────────────────────────────────────────────────────────────────
def signature(endpoint: WebhookEndpoint, message_id: str, timestamp: int, body: str) -> str:
    """The value of `webhook-signature` for one try."""
    signed = f"{message_id}.{timestamp}.{body}".encode()
    mac = hmac.new(_key(endpoint), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def headers(delivery: WebhookDelivery, *, at: datetime) -> dict[str, str]:
    """The headers a delivery is sent with at `at`; each try has a timestamp of its own."""
    timestamp = int(at.timestamp())
    message_id = f"msg_{delivery.pk.hex}"
    return {
        "content-type": "application/json",
        "user-agent": "Reclaim-Webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(delivery.endpoint, message_id, timestamp, delivery.body),
    }


def enqueue(
    kind: NoticeKind,
    *,
    key: str,
    facts: Mapping[str, Any],
    owner_id: UUID | None,
    consumer_facts: Mapping[UUID, Mapping[str, Any]],
    at: datetime,
) -> int:
    """Write the messages about one thing, in the caller's transaction; how many. Repeatable by key.

    Our own endpoints are told everything, an owner's what concerns it, a consumer's what is in
    `consumer_facts`, with what is meant for it alone. Bookkeeping: no log event.
    """
    mine = Q(owner=None, consumer=None) | Q(consumer__in=list(consumer_facts))
    if owner_id is not None:
        mine |= Q(owner_id=owner_id)
    endpoints = WebhookEndpoint.objects.filter(mine, disabled_at=None)
    rows = [
        _message(
            endpoint,
            kind,
            f"{key}:{endpoint.pk}",
            {**facts, **consumer_facts.get(endpoint.consumer_id, {})}
            if endpoint.consumer_id
            else facts,
            at,
        )
        for endpoint in endpoints
        if not endpoint.kinds or kind.value in endpoint.kinds
    ]
    WebhookDelivery.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _message(
    endpoint: WebhookEndpoint, kind: NoticeKind, key: str, facts: Mapping[str, Any], at: datetime
) -> WebhookDelivery:
    body = canonical_json({"type": kind.value, "timestamp": plain(at), "data": plain(facts)})
    return WebhookDelivery(
        endpoint=endpoint, key=key, kind=kind, body=body.decode(), created_at=at, due_at=at
    )


@transaction.atomic
def send_test(endpoint: WebhookEndpoint, *, by: Account, at: datetime) -> WebhookDelivery:
    """Queue a message that says nothing but that the endpoint works. Bookkeeping: no log event.

    Raises:
        NotPermitted: the person neither speaks for the owner nor is legal staff.
        UnlawfulMove: the endpoint is disabled.
    """
    found = _locked(endpoint, by)
    _check_enabled(found)
    row = _message(found, NoticeKind.TEST, f"test:{uuid4()}", {"test": True}, at)
    row.save(force_insert=True)
    return row


@transaction.atomic
def replay(delivery: WebhookDelivery, *, by: Account, at: datetime) -> WebhookDelivery:
    """Send a message again, as it was and under its own id, so that a receiver can tell.

    Raises:
        NotPermitted: the person neither speaks for the owner nor is legal staff.
        UnlawfulMove: the endpoint is disabled, or the message is on its way still.
    """
    endpoint = _locked(delivery.endpoint, by)
    _check_enabled(endpoint)
    found = WebhookDelivery.objects.select_for_update().get(pk=delivery.pk)
    if found.state == DeliveryState.DUE:
        raise UnlawfulMove("expected a message that has ended, found it on its way. Wait for it.")
    found.state, found.due_at, found.tries = DeliveryState.DUE, at, 0
    found.ended_at, found.claimed_until = None, None
    found.save()
    _stage(EventTag.WEBHOOK_REPLAYED, endpoint, by, at, {"message": f"msg_{found.pk.hex}"})
    return found


# ── Delivering, for the worker. Bookkeeping: no log events ───────────────────────────────────────
def claim_due(*, at: datetime, limit: int) -> list[WebhookDelivery]:
    """Messages to send now, oldest first, held for `CLAIM_S`; a courier that dies loses them."""
    with transaction.atomic():
        rows = list(
            WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("endpoint")
            .filter(
                Q(claimed_until=None) | Q(claimed_until__lte=at),
                state=DeliveryState.DUE,
                due_at__lte=at,
                endpoint__disabled_at=None,
            )
            .order_by("due_at", "id")[:limit]
        )
        WebhookDelivery.objects.filter(pk__in=[row.pk for row in rows]).update(
            claimed_until=at + timedelta(seconds=CLAIM_S)
        )
    return rows


@transaction.atomic
def record(delivery: WebhookDelivery, answer: Answer, *, at: datetime) -> WebhookDelivery:
    """Write down what came of a try, and when the next one is. 410 ends the endpoint itself."""
    found = WebhookDelivery.objects.select_for_update().get(pk=delivery.pk)
    WebhookAttempt.objects.create(
        delivery=found,
        at=at,
        address=answer.address,
        status=answer.status,
        error=answer.error[:300],
        took_ms=answer.took_ms,
    )
    found.tries += 1
    found.claimed_until = None
    if answer.is_delivered:
        found.state, found.ended_at = DeliveryState.DELIVERED, at
    elif found.tries > len(WAITS_S) or answer.status == 410:
        found.state, found.ended_at = DeliveryState.FAILED, at
    else:
        found.due_at = at + timedelta(seconds=WAITS_S[found.tries - 1])
    found.save()
    if answer.status == 410:
        disable(delivery.endpoint, by=None, at=at, reason="the endpoint says it is gone (410)")
    return found


def _locked(endpoint: WebhookEndpoint, by: Account | None) -> WebhookEndpoint:
    found = WebhookEndpoint.objects.select_for_update(of=("self",)).select_related("owner")
    row = found.get(pk=endpoint.pk)
    if by is not None:
        _check_speaks(by, row.owner)
    return row


def _check_speaks(by: Account, owner: DataOwner | None) -> None:
    may = Q(role=Role.LEGAL)
    if owner is not None:
        may |= Q(role=Role.OWNER, owner=owner)
    if not Membership.objects.filter(may, account=by).exists():
        raise NotPermitted(
            f"expected somebody who speaks for {owner or 'this installation'}, or legal staff, "
            f"found {by}. Ask one of them."
        )


def _check_enabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise UnlawfulMove(f"expected an endpoint in use, found {endpoint} disabled.")


def _stage(
    tag: EventTag,
    endpoint: WebhookEndpoint,
    by: Account | None,
    at: datetime,
    details: Mapping[str, Any],
) -> None:
    host = urlsplit(endpoint.url).hostname or ""
    about = {"host": host, **details}
    events.stage(tag, subject=f"webhook:{endpoint.pk}", by=by, at=at, details=about)


def message_of(delivery: WebhookDelivery) -> Mapping[str, Any]:
    """The body as an object, for pages. A read."""
    found: Mapping[str, Any] = json.loads(delivery.body)
    return found
