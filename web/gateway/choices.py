"""Several answers to one request, on their way together: each from an order of its own.

One ends as it ends and the others go on; when nobody reads any more, all are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from web.gateway.errors import GatewayError
from web.gateway.limits import Counted
from web.gateway.port import Delta, Done, EndCause, FinishReason, Tally
from web.gateway.render import SSE_END, Answer, sse

Piece = tuple[int, Delta | Done]


async def begun(
    answers: Sequence[AsyncGenerator[Delta | Done]],
) -> AsyncGenerator[Piece]:
    """The pieces of all answers, once each has said its first; by the answer's index.

    Raises:
        GatewayError, RetryDecision: one of them cannot begin; the others are cancelled.
    """
    merged, early, silent = _merged(answers), [], set(range(len(answers)))
    try:
        while silent:
            early.append(await anext(merged))
            silent.discard(early[-1][0])
    except BaseException:
        await merged.aclose()
        raise
    return _after(early, merged)


async def events(
    pieces: AsyncGenerator[Piece], answer: Answer, counted: Counted, *, wants_usage: bool
) -> AsyncIterator[bytes]:
    """The server-sent events of a stream."""
    try:
        yield answer.opening()
        async for index, piece in pieces:
            said = answer.piece(index, piece)
            if answer.is_done:  # before the last word is out, so that the next request finds room
                await counted.end(answer.tokens)
            yield said
        if wants_usage:
            yield answer.usage_chunk()
        yield SSE_END
    except GatewayError as error:
        yield sse(error.body())
    finally:
        await pieces.aclose()
        await counted.end(answer.tokens)


async def _after(early: list[Piece], rest: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    async with aclosing(rest):
        for piece in early:
            yield piece
        async for piece in rest:
            yield piece


async def _merged(answers: Sequence[AsyncGenerator[Delta | Done]]) -> AsyncGenerator[Piece]:
    if len(answers) == 1:
        async with aclosing(answers[0]) as only:
            async for message in only:
                yield 0, message
        return
    # Bounded, so that a slow reader makes the runners wait and not this process grow.
    waiting: asyncio.Queue[tuple[int, Delta | Done | Exception]] = asyncio.Queue(len(answers))
    readers = [
        asyncio.create_task(_read(index, answer, waiting)) for index, answer in enumerate(answers)
    ]
    spoken: set[int] = set()
    try:
        running = len(answers)
        while running:
            index, found = await waiting.get()
            if isinstance(found, Exception):
                if index not in spoken or not isinstance(found, GatewayError):
                    raise found
                found = _failed(found)
            spoken.add(index)
            running -= isinstance(found, Done)
            yield index, found
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _read(
    index: int,
    answer: AsyncGenerator[Delta | Done],
    waiting: asyncio.Queue[tuple[int, Delta | Done | Exception]],
) -> None:
    async with aclosing(answer):
        try:
            async for message in answer:
                await waiting.put((index, message))
        except Exception as error:  # noqa: BLE001 - carried to whoever merges
            await waiting.put((index, error))


def _failed(error: GatewayError) -> Done:
    """How one of several answers ends when its runner is lost: the others must not end with it."""
    return Done(
        order_id="",
        finish_reason=FinishReason.ERROR,
        tally=Tally(prompt_tokens=0, completion_tokens=0),
        policy_epoch=0,
        cause=EndCause.ENGINE_FAULT,
        detail=error.message,
    )
