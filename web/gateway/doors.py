"""The door of every endpoint: a request id, the API key and its scope, refusals in one shape."""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Concatenate, Final, ParamSpec

import psycopg
import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from governance.models import ApiKey
from governance.services import consumers
from governance.vocabulary import KeyScope
from web.gateway import gate
from web.gateway.database import in_database
from web.gateway.errors import GatewayError, invalid, unavailable
from web.gateway.limits import Counted, Limiter
from web.gateway.orders import check_scope

P = ParamSpec("P")
limiter = Limiter(settings.REDIS_URL, settings.RECLAIM_KEY_LIMITS)
"""One a process: what it counts lies in Redis."""

_CLIENTS_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
logger = structlog.get_logger(__name__)


@dataclass
class Visit:
    """A request that came in by a door. `headers` go with whatever it is answered."""

    request: HttpRequest
    request_id: str
    api_key: ApiKey = field(init=False)
    headers: dict[str, str] = field(default_factory=dict)

    async def count(self, *, tokens: int = 0, answers: int = 0) -> Counted:
        """Count it against its key's limits.

        Raises:
            GatewayError: 429, or 400 for more answers than may ever be at once.
        """
        counted = await limiter.count(self.api_key, self.request_id, tokens=tokens, answers=answers)
        gate.at_end(self.request, counted.leave)
        self.headers.update(counted.headers)
        return counted

    def body(self) -> bytes:
        """The body.

        Raises:
            GatewayError: 413, it is too large.
        """
        try:
            return self.request.body
        except RequestDataTooBig as error:
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            raise GatewayError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "request_too_large",
                f"Expected a body of at most {limit} bytes.",
            ) from error

    def known_epoch(self) -> int:
        """The policy epoch the client has seen already; it is never answered under an older.

        Raises:
            GatewayError: 400, no number.
        """
        asked_for = self.request.headers.get("X-Min-Policy-Epoch", "0")
        if not (asked_for.isascii() and asked_for.isdecimal() and len(asked_for) < 19):
            raise invalid(
                f"Expected a whole number in X-Min-Policy-Epoch, found {asked_for!r}.",
                param="X-Min-Policy-Epoch",
            )
        return int(asked_for)


Endpoint = Callable[Concatenate[Visit, P], Coroutine[Any, Any, HttpResponseBase]]
View = Callable[Concatenate[HttpRequest, P], Coroutine[Any, Any, HttpResponseBase]]


def endpoint(method: str, scope: KeyScope | None) -> Callable[[Endpoint[P]], View[P]]:
    """Make a view of an endpoint: `method` alone, and for keys of `scope`; None asks for no key."""

    def made(answer: Endpoint[P]) -> View[P]:
        @csrf_exempt
        @functools.wraps(answer)
        async def view(
            request: HttpRequest, /, *args: P.args, **named: P.kwargs
        ) -> HttpResponseBase:
            visit = Visit(request, f"req_{uuid.uuid4().hex}")
            with structlog.contextvars.bound_contextvars(request_id=visit.request_id):
                try:
                    await _let_in(visit, method, scope)
                    response = await answer(visit, *args, **named)
                except GatewayError as error:
                    response = error.response()
                except (DatabaseError, psycopg.Error):
                    response = unavailable(
                        "records_unreadable", "What is on record cannot be read right now."
                    ).response()
                except Exception:  # the end of the line: a client reads JSON, a person the log
                    logger.exception("an endpoint failed", path=request.path)
                    response = GatewayError(
                        HTTPStatus.INTERNAL_SERVER_ERROR,
                        "internal_error",
                        f"Something failed here; the log knows it as {visit.request_id}.",
                    ).response()
            return _dressed(response, visit.headers | _ids(visit))

        return view

    return made


async def _let_in(visit: Visit, method: str, scope: KeyScope | None) -> None:
    if scope is None:
        return
    found = visit.request.method
    if found != method:
        raise GatewayError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            f"Expected {method} at {visit.request.path}, found {found}.",
            headers={"Allow": method},
        )
    visit.api_key = await _authenticated(visit.request)
    check_scope(visit.api_key, scope)


def _ids(visit: Visit) -> dict[str, str]:
    clients = visit.request.headers.get("X-Client-Request-Id", "")
    echoed = {"X-Client-Request-Id": clients} if _CLIENTS_ID.fullmatch(clients) else {}
    return {"X-Request-Id": visit.request_id, **echoed}


def _dressed(response: HttpResponseBase, headers: Mapping[str, str]) -> HttpResponseBase:
    for name, value in headers.items():
        response[name] = value
    return response


async def _authenticated(request: HttpRequest) -> ApiKey:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise GatewayError(
            HTTPStatus.UNAUTHORIZED,
            "missing_api_key",
            "Expected an API key in the header `Authorization: Bearer rk_…`, found none.",
        )
    try:
        api_key = await in_database(consumers.authenticate, secret.strip(), at=timezone.now())
    except (DatabaseError, psycopg.Error) as error:
        raise unavailable("policy_unreadable", "API keys cannot be checked right now.") from error
    if api_key is None:
        raise GatewayError(
            HTTPStatus.UNAUTHORIZED,
            "invalid_api_key",
            "This API key is unknown, expired or revoked. Ask its issuer for a new one.",
        )
    return api_key
