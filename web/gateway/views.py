"""The OpenAI-compatible endpoint: authenticate, parse, decide, pass to a runner, render.

A request's whole way is `_answer`. Prompts are neither stored nor logged, and never reach policy.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version

import psycopg
from django.conf import settings
from django.db import DatabaseError
from django.http import JsonResponse
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.utils import timezone

from governance.errors import StalePolicy
from governance.models import ApiKey
from governance.policy.cover import covering
from governance.policy.decide import decide
from governance.policy.types import Ask, Denied, Snapshot
from governance.services import decisions, quotas
from governance.vocabulary import KeyScope, Why
from web.gateway import choices, gate, orders, receipts, refusals, stream, wire
from web.gateway.database import in_database
from web.gateway.doors import Visit, endpoint
from web.gateway.errors import GatewayError, unavailable
from web.gateway.orders import Admitted
from web.gateway.policy_feed import feed
from web.gateway.pool import RunnerPool
from web.gateway.render import Answer, headers

port = RunnerPool(settings.RECLAIM_RUNNER_URLS)
limits = quotas.Limits()


@dataclass(frozen=True)
class Caller:
    """On whose key a request comes, and by which way; `person` is who asked, where we know one."""

    api_key: ApiKey
    path: str
    person: str = ""


@endpoint("POST", KeyScope.CHAT)
async def chat_completions(visit: Visit) -> HttpResponseBase:
    """`POST /v1/chat/completions`."""
    return await _answer(visit, wire.parse_chat)


@endpoint("POST", KeyScope.COMPLETIONS)
async def completions(visit: Visit) -> HttpResponseBase:
    """`POST /v1/completions`."""
    return await _answer(visit, wire.parse_completion)


@endpoint("GET", KeyScope.MODELS)
async def models(visit: Visit, name: str = "") -> HttpResponseBase:
    """`GET /v1/models` and `/v1/models/<name>`: what this key may use, and which experts."""
    await visit.count()
    snapshot = await policy(visit.known_epoch())
    if name:
        await in_database(refusals.check_model, name, snapshot)
        return JsonResponse(_described(name, visit.api_key, snapshot))
    names = orders.served_names(snapshot)
    listed = [_described(served, visit.api_key, snapshot) for served in names]
    return JsonResponse({"object": "list", "data": listed})


@endpoint("GET", KeyScope.RECEIPTS)
async def receipt(visit: Visit, name: str) -> HttpResponseBase:
    """`GET /v1/receipts/<id>`: how one of this consumer's own answers came about."""
    await visit.count()
    found = await in_database(receipts.receipt, name, consumer=visit.api_key.consumer.slug)
    is_open = found["status"] == receipts.OPEN
    return JsonResponse(found, status=HTTPStatus.ACCEPTED if is_open else HTTPStatus.OK)


@endpoint("", None)
async def not_found(visit: Visit) -> HttpResponseBase:
    """Any other path under /v1: embeddings, images, audio, responses and whatever else there is."""
    raise GatewayError(
        HTTPStatus.NOT_FOUND,
        "unknown_endpoint",
        f"{visit.request.path} is not offered here. Expected GET /v1/models, "
        "POST /v1/chat/completions, POST /v1/completions or GET /v1/receipts/<id>.",
    )


async def _answer(visit: Visit, parse: Callable[[bytes], wire.Asked]) -> HttpResponseBase:
    asked = parse(visit.body())
    ask = orders.ask_for(visit.api_key, asked)
    path = "gateway/chat" if asked.is_chat else "gateway/completion"
    counted = await visit.count(
        tokens=asked.answers * asked.sampling.max_tokens, answers=asked.answers
    )
    async with counted.until_begun():
        caller = Caller(visit.api_key, path)
        admitted, pieces = await begun(caller, asked, ask, visit.known_epoch())
        gate.at_end(visit.request, pieces.aclose)
        visit.headers.update(headers(admitted))
        answer = Answer(admitted, asked.is_chat, asked.sampling.top_logprobs is not None)
        if not asked.wants_stream:
            async with aclosing(pieces):
                whole = answer.whole([piece async for piece in pieces])
            await counted.end(answer.tokens)
            return JsonResponse(whole)
    said = choices.events(pieces, answer, counted, wants_usage=asked.wants_stream_usage)
    streamed = StreamingHttpResponse(said, content_type="text/event-stream")
    streamed["Cache-Control"] = "no-store"
    return streamed


async def begun(
    caller: Caller, asked: wire.Asked, ask: Ask, min_policy_epoch: int = 0
) -> tuple[Admitted, choices.Begun]:
    """Decide and wait for the first word of every answer; decide anew once if a runner knows newer
    policy, or a quota that is used up.

    Raises:
        GatewayError: denied, not on record, or no runner answers.
    """
    spent: tuple[str, ...] = ()
    for is_last in (False, True):
        snapshot = await policy(min_policy_epoch)
        admitted = await _admitted(caller, asked, ask, snapshot, spent)
        ways = [stream.Passage(port, feed, one, one.ask).pieces() for one in admitted.each()]
        try:
            return admitted, await choices.begun(ways)
        except stream.RetryDecision as retry:
            if is_last:
                raise stream.refused_for_good(retry.refused) from retry
            min_policy_epoch = max(min_policy_epoch, snapshot.policy_epoch)
            spent = retry.refused.experts
    raise AssertionError("unreachable: the second try returns or raises")


async def _admitted(
    caller: Caller, asked: wire.Asked, ask: Ask, snapshot: Snapshot, spent: Collection[str]
) -> Admitted:
    """The decision and its record; without a record there is no permission."""
    try:
        return await in_database(_decided, caller, asked, ask, snapshot, spent)
    except (DatabaseError, psycopg.Error) as error:
        raise unavailable(
            "decision_unrecorded", "The decision could not be recorded, so nothing was generated."
        ) from error


def _decided(
    caller: Caller, asked: wire.Asked, ask: Ask, snapshot: Snapshot, spent: Collection[str]
) -> Admitted:
    """Decide, and record it. `spent`: the experts for which a runner found no quota left.

    Raises:
        GatewayError: no such model, or not permitted.
    """
    refusals.check_model(asked.model, snapshot)
    at, begun_ns, decision_id = timezone.now(), time.perf_counter_ns(), uuid.uuid4()
    exhausted: frozenset[str] = frozenset()
    if limited := limits.of(snapshot):
        covering_each = covering(snapshot, ask, at)
        covered = {one for found in covering_each.values() for one in found}
        told = {one for name in spent for one in covering_each.get(name, ())}
        exhausted = quotas.used_up(limited & covered, at=at) | (limited & told)
    decision = decide(snapshot, ask, at, exhausted=exhausted)
    not_preferred: Mapping[str, tuple[Why, ...]] = {}
    if asked.prefer:
        ask, not_preferred = orders.preferring(asked.prefer, ask, snapshot, decision)
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
    if isinstance(decision, Denied):
        raise refusals.denied(decision, ask, decision_id=decision_id, at=at)
    return orders.admit(
        asked, ask, snapshot, decision, decision_id=decision_id, not_preferred=not_preferred
    )


async def policy(min_policy_epoch: int = 0) -> Snapshot:
    """The newest policy.

    Raises:
        GatewayError: 503, it cannot be read or is older than `min_policy_epoch`.
    """
    try:
        return await feed.current(min_policy_epoch=min_policy_epoch)
    except StalePolicy as error:
        raise unavailable("policy_unreadable", error.message) from error


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
