"""Several answers to one request, on their way together: each from an order of its own.

One ends as it ends and the others go on; when nobody reads any more, all are cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Self

from web.gateway.errors import GatewayError
from web.gateway.limits import Counted
from web.gateway.port import Delta, Done, EndCause, FinishReason, Tally
from web.gateway.render import SSE_END, Answer, sse

Piece = tuple[int, Delta | Done]
Turn = asyncio.Task[Delta | Done]


class Begun:
    """The pieces of answers that have begun, by the answer's index. Closed, it cancels those that
    have not ended, also where nobody ever read a piece."""

    def __init__(
        self,
        answers: Sequence[AsyncGenerator[Delta | Done]],
        turns: dict[Turn, int],
        pieces: AsyncGenerator[Piece],
    ) -> None:
        self._answers, self._turns, self._pieces = answers, turns, pieces

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        await self._pieces.aclose()
        await _give_up(self._turns, self._answers)


async def begun(answers: Sequence[AsyncGenerator[Delta | Done]]) -> Begun:
    """The pieces of all answers, once each has said its first.

    Raises:
        GatewayError, RetryDecision: one of them cannot begin; the others are cancelled.
    """
    if len(answers) == 1:
        return Begun(answers, {}, _alone(await anext(answers[0]), answers[0]))
    turns = {_turn(answer): index for index, answer in enumerate(answers)}
    try:
        await asyncio.wait(turns, return_when=asyncio.FIRST_EXCEPTION)
        for turn in turns:
            if turn.done():
                turn.result()
    except BaseException:
        await _give_up(turns, answers)
        raise
    return Begun(answers, turns, _together(turns, answers))


async def events(
    pieces: Begun, answer: Answer, counted: Counted, *, wants_usage: bool
) -> AsyncGenerator[bytes]:
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


async def _alone(first: Delta | Done, rest: AsyncGenerator[Delta | Done]) -> AsyncGenerator[Piece]:
    yield 0, first
    async for message in rest:
        yield 0, message


async def _together(
    turns: dict[Turn, int], answers: Sequence[AsyncGenerator[Delta | Done]]
) -> AsyncGenerator[Piece]:
    """Of each answer one piece is fetched ahead and no more: a slow reader makes runners wait."""
    while turns:
        done, _ = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED)
        for turn in sorted(done, key=turns.__getitem__):
            index = turns.pop(turn)
            message = _said(turn)
            if isinstance(message, Done):
                await answers[index].aclose()
            else:
                turns[_turn(answers[index])] = index
            yield index, message


def _turn(answer: AsyncGenerator[Delta | Done]) -> Turn:
    async def turn() -> Delta | Done:
        return await anext(answer)

    return asyncio.create_task(turn())


def _said(turn: Turn) -> Delta | Done:
    try:
        return turn.result()
    except GatewayError as error:
        return _failed(error)


async def _give_up(turns: Iterable[Turn], answers: Sequence[AsyncGenerator[Delta | Done]]) -> None:
    for turn in turns:
        turn.cancel()
    await asyncio.gather(*turns, return_exceptions=True)
    for answer in answers:
        await answer.aclose()


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
