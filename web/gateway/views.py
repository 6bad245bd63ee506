"""The OpenAI-compatible endpoint: authenticate, parse, decide, pass to a runner, render.

A request's whole way is `_answer`. Prompts are neither stored nor logged, and never reach policy.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version

import psycopg
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from governance.errors import StalePolicy
from governance.models import ApiKey
from governance.policy.cover import covering
from governance.policy.decide import decide
from governance.policy.types import Ask, Decision, Denied, Snapshot
from governance.services import consumers, decisions, quotas
from governance.vocabulary import KeyScope
from web.gateway import orders, stream, wire
from web.gateway.database import in_database
from web.gateway.errors import GatewayError, invalid, unavailable
from web.gateway.orders import Admitted
from web.gateway.policy_feed import feed
from web.gateway.pool import RunnerPool
from web.gateway.port import Delta, Done
from web.gateway.render import Answer, headers

port = RunnerPool(settings.RECLAIM_RUNNER_URLS)
limits = quotas.Limits()


@dataclass(frozen=True)
class Caller:
    """On whose key a request comes, and by which way; `person` is who asked, where we know one."""

    api_key: ApiKey
    path: str
    person: str = ""


@csrf_exempt
@require_POST
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    """`POST /v1/chat/completions`."""
    return await _answer(request, wire.parse_chat, KeyScope.CHAT)


@csrf_exempt
@require_POST
async def completions(request: HttpRequest) -> HttpResponseBase:
    """`POST /v1/completions`."""
    return await _answer(request, wire.parse_completion, KeyScope.COMPLETIONS)


@csrf_exempt
@require_GET
async def models(request: HttpRequest, name: str = "") -> HttpResponseBase:
    """`GET /v1/models` and `/v1/models/<name>`: what this key may use, and which experts."""
    try:
        api_key = await _authenticated(request)
        orders.check_scope(api_key, KeyScope.MODELS)
        snapshot = await policy(_known_epoch(request))
    except GatewayError as error:
        return error.response()
    listed = [_described(served, api_key, snapshot) for served in orders.served_names(snapshot)]
    if not name:
        return JsonResponse({"object": "list", "data": listed})
    for entry in listed:
        if entry["id"] == name:
            return JsonResponse(entry)
    known = ", ".join(orders.served_names(snapshot))
    return GatewayError(
        HTTPStatus.NOT_FOUND, "model_not_found", f"Expected one of {known}; found {name!r}."
    ).response()


async def _answer(
    request: HttpRequest, parse: Callable[[bytes], wire.Asked], scope: KeyScope
) -> HttpResponseBase:
    try:
        api_key = await _authenticated(request)
        orders.check_scope(api_key, scope)
        asked = parse(_body(request))
        ask = orders.ask_for(api_key, asked)
        caller = Caller(api_key, "gateway/chat" if asked.is_chat else "gateway/completion")
        admitted, first, rest = await begun(caller, asked, ask, _known_epoch(request))
        answer = Answer(admitted, asked.is_chat)
        if asked.wants_stream:
            response: HttpResponseBase = StreamingHttpResponse(
                stream.events(first, rest, answer, asked), content_type="text/event-stream"
            )
            response["Cache-Control"] = "no-store"
        else:
            response = JsonResponse(answer.whole(await _drained(first, rest, answer)))
    except GatewayError as error:
        return error.response()
    for name, value in headers(admitted).items():
        response[name] = value
    return response


async def begun(
    caller: Caller, asked: wire.Asked, ask: Ask, min_policy_epoch: int = 0
) -> tuple[Admitted, Delta | Done, AsyncIterator[Delta | Done]]:
    """Decide and wait for the runner's first word; decide anew once if it knows newer policy.

    Raises:
        GatewayError: denied, not on record, or no runner answers.
    """
    for is_last in (False, True):
        snapshot = await policy(min_policy_epoch)
        admitted = await _admitted(caller, asked, ask, snapshot)
        pieces = stream.Passage(port, feed, admitted, ask).pieces()
        try:
            return admitted, await anext(pieces), pieces
        except stream.RetryDecision as retry:
            if is_last:
                raise stream.refused_for_good(retry.refused) from retry
            min_policy_epoch = max(min_policy_epoch, snapshot.policy_epoch)
    raise AssertionError("unreachable: the second try returns or raises")


async def _admitted(caller: Caller, asked: wire.Asked, ask: Ask, snapshot: Snapshot) -> Admitted:
    """The decision and its record; without a record there is no permission."""
    orders.check_model(asked, snapshot)
    decision_id = uuid.uuid4()
    try:
        decision = await in_database(_decided, caller, ask, snapshot, decision_id)
    except (DatabaseError, psycopg.Error) as error:
        raise unavailable(
            "decision_unrecorded", "The decision could not be recorded, so nothing was generated."
        ) from error
    return orders.admit(asked, ask, snapshot, decision, decision_id=decision_id)


def _decided(caller: Caller, ask: Ask, snapshot: Snapshot, decision_id: uuid.UUID) -> Decision:
    at, begun_ns = timezone.now(), time.perf_counter_ns()
    exhausted: frozenset[str] = frozenset()
    if limited := limits.of(snapshot):
        covered = {one for found in covering(snapshot, ask, at).values() for one in found}
        exhausted = quotas.used_up(limited & covered, at=at)
    decision = decide(snapshot, ask, at, exhausted=exhausted)
    labels = {"gateway": settings.RECLAIM_LOG_ORIGIN, "version": version("reclaim")}
    if caller.person:
        labels["api_key"] = caller.api_key.prefix
    decisions.record(
        decision,
        decision_id=decision_id,
        ask=ask,
        snapshot=snapshot,
        path=caller.path,
        requested_by=caller.person or caller.api_key.prefix,
        labels=labels,
        masked=() if caller.person else (decisions.API_KEY,),
        at=at,
        exhausted=exhausted,
        metrics={"timer_decide_ns": time.perf_counter_ns() - begun_ns},
    )
    return decision


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


def _known_epoch(request: HttpRequest) -> int:
    """The policy epoch the client says it has seen already; it is never answered under an older."""
    asked_for = request.headers.get("X-Min-Policy-Epoch", "0")
    if not (asked_for.isascii() and asked_for.isdecimal() and len(asked_for) < 19):
        raise invalid(
            f"Expected a whole number in X-Min-Policy-Epoch, found {asked_for!r}.",
            param="X-Min-Policy-Epoch",
        )
    return int(asked_for)


async def policy(min_policy_epoch: int = 0) -> Snapshot:
    """The newest policy.

    Raises:
        GatewayError: 503, it cannot be read or is older than `min_policy_epoch`.
    """
    try:
        return await feed.current(min_policy_epoch=min_policy_epoch)
    except StalePolicy as error:
        raise unavailable("policy_unreadable", error.message) from error


def _body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RequestDataTooBig as error:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raise GatewayError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "request_too_large",
            f"Expected a body of at most {limit} bytes.",
        ) from error


async def _drained(first: Delta | Done, rest: AsyncIterator[Delta | Done], answer: Answer) -> Done:
    message = first
    while not isinstance(message, Done):
        answer.add(message)
        message = await anext(rest)
    return message


def _described(name: str, api_key: ApiKey, snapshot: Snapshot) -> dict[str, object]:
    """A model entry; experts are those permitted for the key's first purpose at this moment."""
    ask = orders.ask_of(api_key.consumer, api_key.purposes[0])
    decision = decide(snapshot, ask, timezone.now())
    allowed = [] if isinstance(decision, Denied) else [expert.name for expert in decision.allowed]
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "reclaim",
        "reclaim": {
            "policy_epoch": snapshot.policy_epoch,
            "build": snapshot.build_digest,
            "experts_allowed": allowed,
            "experts_denied": orders.reasons(decision.denied),
        },
    }


def not_found(request: HttpRequest) -> HttpResponse:
    """Any other path under /v1, in OpenAI's error shape."""
    return GatewayError(
        HTTPStatus.NOT_FOUND,
        "unknown_endpoint",
        f"Expected /v1/models, /v1/chat/completions or /v1/completions; found {request.path}.",
    ).response()
