"""Limits of a key: requests and tokens a minute, answers at once, counted by all gateways in Redis.

Limits share the machine out among those who ask; they are not licence policy. So where Redis does
not answer nothing is counted and nobody is refused, and the log says so.

An answer counts as long as it may become when it begins; what it did not take is given back when
it ends. All three limits stand or fall in one call (`limits.lua`): the libraries we looked at count
one bucket a call and give nothing back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.exceptions import RedisError
from redis.retry import Retry

from governance.models import ApiKey
from governance.services.limits import LIMITS, KeyLimits
from web.gateway.errors import GatewayError, invalid

SCRIPT: Final = Path(__file__).with_name("limits.lua").read_text(encoding="utf-8")
ANSWER_S: Final = 0.25
"""How long Redis may take; whoever asks should not wait for it."""
PAUSE_S: Final = 2.0
"""How long Redis is left alone after it did not answer."""
LOST_S: Final = 900.0
"""After so long an answer counts as ended: the gateway that gave it may have died."""
_WORDS = ("requests a minute", "tokens a minute", "answers at once")

logger = structlog.get_logger(__name__)


@dataclass
class Counted:
    """A request as it was counted. `headers` say how much is left, in OpenAI's names."""

    limiter: Limiter
    of: tuple[int, ...] = (0, 0, 0)
    prefix: str = ""
    request_id: str = ""
    tokens: int = 0
    answers: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    async def end(self, tokens: int) -> None:
        """Give back what was counted beyond `tokens`, and the places of its answers. Once."""
        back, answers = tokens - self.tokens if self.of[1] else 0, self.answers
        self.tokens, self.answers = tokens, 0
        if back or answers:
            await self.limiter.step(self, 0, back, -answers, may_refuse=False)

    async def leave(self) -> None:
        """Give back the places alone: the client has gone, and what it began was begun."""
        await self.end(self.tokens)

    @asynccontextmanager
    async def until_begun(self) -> AsyncIterator[None]:
        """Give it all back where its answers cannot begin, and their places where nobody waits."""
        try:
            yield
        except GatewayError:
            await self.end(0)
            raise
        except BaseException:
            await self.leave()
            raise


class Limiter:
    """Counts for the keys of one installation; `defaults` hold where a key has no limit itself."""

    def __init__(self, url: str | None, defaults: KeyLimits) -> None:
        self._script, self._defaults = _script(url) if url else None, defaults
        self._paused_until_s = 0.0

    async def count(
        self, api_key: ApiKey, request_id: str, *, tokens: int = 0, answers: int = 0
    ) -> Counted:
        """Count a request with as many `answers`, of at most `tokens` together.

        Raises:
            GatewayError: 429 beyond a limit; 400 for more answers than may ever be at once.
        """
        limits = KeyLimits.of(api_key).over(self._defaults)
        of = tuple(getattr(limits, name) or 0 for name in LIMITS)
        if of[2] and answers > of[2]:
            raise invalid(f"Expected at most {of[2]} answers at once, found {answers}.", param="n")
        # More than a whole minute's tokens waits for an empty bucket, not for ever.
        tokens = min(tokens, of[1]) if of[1] else 0
        counted = Counted(self, of, api_key.prefix, request_id, tokens, answers if of[2] else 0)
        told = await self._counted(counted) if any(of) else None
        if told is None:
            counted.tokens = counted.answers = 0
            return counted
        refused, wait_ms, *standing = told
        counted.headers = _headers(of, standing)
        if refused:
            limit, words, wait_s = of[refused - 1], _WORDS[refused - 1], math.ceil(wait_ms / 1000)
            raise GatewayError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                f"Expected at most {limit} {words} with this key, found more. "
                f"Try again in {wait_s} s.",
                retry_after_s=wait_s,
                headers=counted.headers,
            )
        return counted

    async def _counted(self, counted: Counted) -> list[int] | None:
        """Count; where the client leaves meanwhile, Redis is still heard out and then given back
        what it counted."""
        call = asyncio.create_task(self.step(counted, 1, counted.tokens, counted.answers))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            told = await call
            if told and not told[0]:
                await counted.end(0)
            raise

    async def step(
        self, counted: Counted, requests: int, tokens: int, answers: int, *, may_refuse: bool = True
    ) -> list[int] | None:
        """One call of the script; None where Redis does not answer."""
        if self._script is None or time.monotonic() < self._paused_until_s:
            return None
        keys = [f"reclaim:limits:{{{counted.prefix}}}:{one}" for one in ("r", "t", "a")]
        given: list[Any] = [*counted.of, requests, tokens, answers]
        given += [int(may_refuse), counted.request_id, int(LOST_S * 1000)]
        try:
            told: list[int] = await asyncio.to_thread(self._script, keys=keys, args=given)
        except (RedisError, OSError) as error:
            self._paused_until_s = time.monotonic() + PAUSE_S
            logger.warning("limits not counted; requests pass", error=str(error))
            return None
        return told


def _script(url: str) -> Script:
    client = Redis.from_url(
        url.replace("redis+socket://", "unix://"),  # Celery's word for the same
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(SCRIPT)


def _headers(of: tuple[int, ...], standing: list[int]) -> dict[str, str]:
    found = {}
    for at, name in enumerate(("requests", "tokens")):
        if of[at]:
            left, reset_ms = standing[2 * at : 2 * at + 2]
            found[f"x-ratelimit-limit-{name}"] = str(of[at])
            found[f"x-ratelimit-remaining-{name}"] = str(left)
            found[f"x-ratelimit-reset-{name}"] = _duration(reset_ms)
    return found


def _duration(ms: int) -> str:
    """As OpenAI writes it: 120ms, 7.66s, 1m0s."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    return (f"{minutes}m" if minutes else "") + f"{rest_ms / 1000:g}s"
