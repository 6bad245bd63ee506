"""Idempotency-Key: a change asked for again with the same key is carried out once.

The answer is kept in the transaction of the change, so a crash leaves both or neither. It is kept
for a day, for the account that asked; refusals are not kept, because nothing came of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from django.db import connection, transaction
from django.utils import timezone
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from governance.models import Account, KeptAnswer

HEADER: Final = "Idempotency-Key"
KEPT_FOR: Final = timedelta(hours=24)
REPLAYED: Final = "Idempotency-Replayed"


class KeyUsedOtherwise(APIException):
    """The key already stands for another request."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = (
        f"This {HEADER} was used for another request within a day. Choose a new key for it."
    )


class UnderWay(APIException):
    """The same request is being carried out right now."""

    status_code = HTTPStatus.CONFLICT
    default_code = "request_under_way"
    default_detail = f"A request with this {HEADER} is being carried out. Ask again in a moment."


class SecretShown(APIException):
    """It was carried out, and its answer held a secret, which is shown once."""

    status_code = HTTPStatus.CONFLICT
    default_code = "secret_shown_once"
    default_detail = (
        "This was carried out, and its answer held a secret that is kept nowhere. "
        "If the answer was lost, revoke what it made and ask with a new key."
    )


def once(request: Request, account: Account, carry_out: Callable[[], Response]) -> Response:
    """Carry out a change, or give the answer of the first time.

    Raises:
        ValidationError: the header holds no usable key.
        KeyUsedOtherwise, UnderWay, SecretShown: see there.
    """
    key = request.headers[HEADER]
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise ValidationError({HEADER: ["Expected 1 to 255 printable ASCII characters."]})
    asked = _digest(request)
    with transaction.atomic():
        if not _alone(account, key):
            raise UnderWay
        KeptAnswer.objects.filter(account=account, made_at__lt=timezone.now() - KEPT_FOR).delete()
        known = KeptAnswer.objects.filter(account=account, key=key).first()
        if known is not None:
            return _again(known, asked)
        response = carry_out()
        if response.status_code < HTTPStatus.BAD_REQUEST:
            _keep(response, account, key, asked)
    return response


def _digest(request: Request) -> str:
    body = request._request.body  # noqa: SLF001 - the bytes as they came
    told = f"{request.method} {request.get_full_path()}\n".encode()
    return hashlib.sha256(told + body).hexdigest()


def _alone(account: Account, key: str) -> bool:
    """Whether nobody else holds this key; from now on to the end of the transaction we do."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [lock_number(account, key)])
        return bool(cursor.fetchone()[0])


def lock_number(account: Account, key: str) -> int:
    """The advisory lock that whoever carries out a request with this key holds."""
    told = hashlib.sha256(f"kept answer {account.pk} {key}".encode()).digest()
    return int.from_bytes(told[:8], "big", signed=True)


def _again(known: KeptAnswer, asked: str) -> Response:
    if known.request_digest != asked:
        raise KeyUsedOtherwise
    if known.body is None:
        raise SecretShown
    return Kept(known)


class Kept(Response):
    """The kept bytes of an answer, as they were."""

    def __init__(self, known: KeptAnswer) -> None:
        super().__init__(status=known.status, content_type=known.content_type)
        self._bytes = bytes(known.body or b"")
        self[REPLAYED] = "true"

    @property
    def rendered_content(self) -> bytes:  # type: ignore[override] # DRF's are bytes as well
        """The bytes; DRF would write them anew."""
        self["Content-Type"] = str(self.content_type)
        return self._bytes


def _keep(response: Response, account: Account, key: str, asked: str) -> None:
    is_secret = "no-store" in response.headers.get("Cache-Control", "")
    if isinstance(response, Response):
        response.render()
    KeptAnswer.objects.create(
        account=account,
        key=key,
        request_digest=asked,
        status=response.status_code,
        body=None if is_secret else response.content,
        content_type=response.headers.get("Content-Type", "application/json"),
        made_at=timezone.now(),
    )
