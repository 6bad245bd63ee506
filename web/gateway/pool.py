"""Several runners behind one door: an order goes to one of them, and to one that begins it only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from web.gateway.port import (
    Delta,
    Done,
    GenerationOrder,
    HungUp,
    RefusalReason,
    Refused,
    RunnerLost,
    RunnerPort,
    RunnerUnavailable,
)

logger = structlog.get_logger(__name__)

AVOIDED_S = 1.0
"""How long a runner that could not take an order is asked after all others."""

_ELSEWHERE = frozenset(
    {
        RefusalReason.OVERLOADED,
        RefusalReason.ENDING,
        RefusalReason.NO_LEASE,
        RefusalReason.STALE_EPOCH,
        RefusalReason.UNKNOWN_BUILD,
        RefusalReason.EXPERT_UNAVAILABLE,
    }
)
"""Refusals that speak of the runner and not of the order: another may take it."""


@dataclass(eq=False)
class _Place:
    """One runner, and what this process knows of it."""

    port: RunnerPort
    open_answers: int = 0
    orders_taken: int = 0
    avoided_until_s: float = 0.0


class RunnerPool:
    """Sends each order to the runner with the fewest answers open here.

    A runner that cannot be reached or refuses for reasons of its own is passed over, and asked
    last for a moment. What a runner may have begun is never sent to another one.
    """

    def __init__(
        self, urls: Sequence[str], *, connect_s: float = 2.0, quiet_s: float = 60.0
    ) -> None:
        self._places = [_Place(RunnerPort(url, connect_s, quiet_s)) for url in urls]

    async def stream(self, order: GenerationOrder) -> AsyncGenerator[Delta | Done | Refused]:
        """As `RunnerPort.stream`, of whichever runner begins the order.

        Raises:
            RunnerUnavailable: no runner can be reached.
            RunnerLost: the one that had the order went away.
        """
        left, refused = list(self._places), None
        while left:
            place = min(left, key=_rank)
            left.remove(place)
            place.open_answers += 1
            place.orders_taken += 1
            try:
                async with aclosing(place.port.stream(order)) as messages:
                    first = await anext(messages)
                    if isinstance(first, Refused) and first.retry and first.reason in _ELSEWHERE:
                        refused = first
                    else:
                        yield first
                        async for message in messages:
                            yield message
                        return
            except RunnerUnavailable as error:
                logger.warning("runner unreachable", error=str(error))
            except HungUp:
                raise
            except RunnerLost as error:
                logger.warning("runner lost", url=place.port.url, error=str(error))
                raise
            finally:
                place.open_answers -= 1
            place.avoided_until_s = time.monotonic() + AVOIDED_S
        if refused is None:
            raise RunnerUnavailable("expected a runner, found none that answers; try again shortly")
        yield refused

    @property
    def open_answers(self) -> int:
        """How many are under way, here."""
        return sum(place.open_answers for place in self._places)

    async def health(self) -> list[Mapping[str, Any]]:
        """What those runners that answer say about themselves."""
        found = await asyncio.gather(*(_health(place.port) for place in self._places))
        return [one for one in found if one is not None]

    def hang_up(self, why: str) -> None:
        """End every answer under way."""
        for place in self._places:
            place.port.hang_up(why)


def _rank(place: _Place) -> tuple[bool, int, int]:
    return place.avoided_until_s > time.monotonic(), place.open_answers, place.orders_taken


async def _health(port: RunnerPort) -> Mapping[str, Any] | None:
    try:
        async with asyncio.timeout(port.connect_s):
            return await port.health()
    except (RunnerUnavailable, RunnerLost, TimeoutError):
        return None
