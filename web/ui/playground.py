"""The playground: our own people ask the served build and see which experts spoke.

It is a caller of the gateway like any other. It asks on a key that legal staff issued for it, so a
real consumer asks for a real purpose; policy decides, the decision is recorded under the name of
whoever sits here, and the runner counts. See docs/decisions/2026-11-21-playground.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import uuid4

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST

from governance.models import ApiKey
from governance.policy.decide import decide
from governance.policy.types import Snapshot
from governance.services import consumers, snapshots
from governance.vocabulary import Purpose, Role, Why
from web import access
from web.gateway import choices, doors, orders, views, wire
from web.gateway.errors import GatewayError
from web.gateway.port import Delta, Done
from web.gateway.render import Answer, sse
from web.ui.forms.playground import PlaygroundForm, purposes_of
from web.ui.lists.decisions import READERS

app_name = "playground"
PLAYERS = (Role.ENGINEER, Role.LEGAL)


@dataclass(frozen=True)
class ExpertLine:
    """One expert of the served build, and every reason why it may not be asked now."""

    name: str
    why: tuple[Why, ...]


@access.staff_page(*PLAYERS)
def playground_page(request: HttpRequest) -> HttpResponse:
    """What can be asked, as policy has it for the chosen key and purpose; htmx asks for that."""
    asking = access.person(request)
    keys, served = list(consumers.playground_keys(at=timezone.now())), snapshots.current()
    context = {
        "keys": keys,
        "served": served,
        "may_issue": asking.has(Role.LEGAL),
        "may_read_decisions": asking.has(*READERS),
    }
    if not keys or served is None:
        return render(request, "playground/playground.html", context)
    api_key = next((one for one in keys if one.prefix == request.GET.get("key")), keys[0])
    purposes = purposes_of(api_key)
    purpose = next((one for one in purposes if one == request.GET.get("purpose")), purposes[0])
    lines = _lines(served, api_key, purpose)
    form = PlaygroundForm(keys, api_key, purpose, [one.name for one in lines if not one.why])
    is_part = bool(getattr(request, "htmx", False))
    template = "playground/_asking.html" if is_part else "playground/playground.html"
    return render(request, template, {**context, "form": form, "lines": lines})


def _lines(served: Snapshot, api_key: ApiKey, purpose: Purpose) -> list[ExpertLine]:
    decision = decide(served, orders.ask_of(api_key.consumer, purpose), timezone.now())
    return [ExpertLine(one.name, decision.denied.get(one.name, ())) for one in served.experts]


@access.staff_page(*PLAYERS)
@require_POST
def answer(request: HttpRequest) -> HttpResponseBase:
    """The stream of one answer. The body is that of a chat at the gateway; `?key=` its prefix."""
    by = access.staff(request, *PLAYERS)
    api_key = consumers.take_playground_key(request.GET.get("key", ""), at=timezone.now())
    if api_key is None:
        raise Http404
    caller = views.Caller(api_key, "playground", f"account:{by.pk}")
    streamed = StreamingHttpResponse(
        _events(caller, request.body), content_type="text/event-stream"
    )
    streamed["Cache-Control"] = "no-store"
    return streamed


async def _events(caller: views.Caller, body: bytes) -> AsyncIterator[bytes]:
    """What the gateway answers; a refusal is an event too, for the page has to show it."""
    try:
        asked = replace(wire.parse_chat(body), trace_routing=True)
        ask = orders.ask_for(caller.api_key, asked)
        counted = await doors.limiter.count(
            caller.api_key,
            f"req_{uuid4().hex}",
            tokens=asked.answers * asked.sampling.max_tokens,
            answers=asked.answers,
        )
        async with counted.until_begun():
            admitted, pieces = await views.begun(caller, asked, ask)
    except GatewayError as error:
        yield sse(error.body())
        return
    said = choices.events(pieces, Traced(admitted, is_chat=True), counted, wants_usage=True)
    async with aclosing(said):
        async for event in said:
            yield event


class Traced(Answer):
    """An answer that says before each piece who had which share in its tokens."""

    def piece(self, index: int, piece: Delta | Done) -> bytes:
        """An event of our own, which no client of the gateway is sent, then the chunk of text."""
        said = super().piece(index, piece)
        if isinstance(piece, Done):
            return said
        told = {
            "object": "reclaim.routing",
            "tokens": [
                {name: round(share, 4) for name, share in token.items()} for token in piece.routing
            ],
        }
        return sse(told) + said


urlpatterns = [
    path("", playground_page, name="page"),
    path("answer/", answer, name="answer"),
]
