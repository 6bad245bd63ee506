"""Several answers on their way together: one ends as it ends, all end when nobody reads."""

import asyncio

import pytest

from modelops.contract import Delta, Done, EndCause, FinishReason, Tally
from web.gateway import choices
from web.gateway.errors import unavailable


class Way:
    """An answer's pieces as a test scripts them; knows whether it was given up."""

    def __init__(self, *script):
        self.script, self.is_closed = script, False

    async def pieces(self):
        try:
            for step in self.script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.is_closed = True


def done(reason=FinishReason.STOP):
    return Done("", reason, Tally(1, 1), 7)


async def begun(*ways):
    return await choices.begun([way.pieces() for way in ways])


async def test_the_end_of_one_answer_does_not_end_the_others():
    gate = asyncio.Event()
    short, long = Way(done()), Way(Delta("", "a"), gate, Delta("", "b"), done())
    pieces = await begun(short, long)
    heard = [await anext(pieces), await anext(pieces)]
    assert {index for index, _ in heard} == {0, 1}
    gate.set()
    rest = [piece async for piece in pieces]
    assert [(index, type(piece)) for index, piece in rest] == [(1, Delta), (1, Done)]


async def test_a_runner_lost_in_the_middle_ends_its_own_answer_alone():
    gate = asyncio.Event()
    lost = Way(Delta("", "a"), unavailable("runner_lost", "it went away"))
    whole = Way(Delta("", "b"), gate, done())
    pieces = await begun(lost, whole)
    heard = {}
    async for index, piece in pieces:
        heard[index] = piece
        if isinstance(piece, Done):
            gate.set()
    assert (heard[0].finish_reason, heard[0].cause) == (FinishReason.ERROR, EndCause.ENGINE_FAULT)
    assert heard[0].detail == "it went away"
    assert heard[1].finish_reason is FinishReason.STOP


async def test_where_one_cannot_begin_none_does():
    never = asyncio.Event()
    waiting, refused = Way(Delta("", "a"), never), Way(unavailable("overloaded", "full"))
    with pytest.raises(type(refused.script[0]), match="full"):
        await begun(waiting, refused)
    assert waiting.is_closed


async def test_who_hangs_up_cancels_every_answer():
    never = asyncio.Event()
    ways = [Way(Delta("", "a"), never) for _ in range(3)]
    pieces = await begun(*ways)
    await anext(pieces)
    await pieces.aclose()
    assert all(way.is_closed for way in ways)


async def test_a_slow_reader_holds_the_answers_back():
    ways = [Way(*[Delta("", "a")] * 50, done()) for _ in range(2)]
    taken = 0

    async def counted(way):
        nonlocal taken
        async for piece in way.pieces():
            taken += 1
            yield piece

    pieces = await choices.begun([counted(way) for way in ways])
    await anext(pieces)
    for _ in range(100):
        await asyncio.sleep(0)
    await pieces.aclose()
    assert taken < 12
