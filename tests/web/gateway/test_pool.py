"""Several runners behind one door: who is chosen, and what is never sent twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest

from modelops.contract import (
    Delta,
    Done,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
    Tally,
)
from tests.web.gateway.stub_runner import StubRunner
from web.gateway import pool
from web.gateway.gate import Gate
from web.gateway.pool import RunnerPool
from web.gateway.port import HungUp, RunnerLost, RunnerUnavailable


def order(name="one"):
    return GenerationOrder(name, "decision", 1, "b" * 64, "a" * 64, (), 2, prompt="Hello")


@pytest.fixture
def two(tmp_path):
    with StubRunner(tmp_path / "1.sock") as first, StubRunner(tmp_path / "2.sock") as second:
        yield first, second


def pool_of(*runners):
    return RunnerPool([one if isinstance(one, str) else one.url for one in runners], quiet_s=5)


async def heard(door, asked=None):
    async with aclosing(door.stream(asked or order())) as messages:
        return [message async for message in messages]


def refusing(reason, *, retry=True):
    return lambda one: [Refused(one.order_id, reason, "not here", retry)]


async def test_an_order_goes_where_the_fewest_answers_are_open(two):
    door = pool_of(*two)
    for one in two:
        one.script = lambda asked: [Delta(asked.order_id, "word "), 5.0]
    async with AsyncExitStack() as running:
        for name in map(str, range(6)):
            messages = await running.enter_async_context(aclosing(door.stream(order(name))))
            await anext(messages)
        assert [len(one.orders) for one in two] == [3, 3]


@pytest.mark.parametrize("reason", sorted(pool._ELSEWHERE))
async def test_what_one_runner_will_not_begin_another_does_and_the_client_hears_of_one(two, reason):
    two[0].script = refusing(reason)
    messages = await heard(pool_of(*two))
    assert [type(one) for one in messages] == [Delta, Delta, Delta, Done]
    assert [len(one.orders) for one in two] == [1, 1]


@pytest.mark.parametrize(
    ("reason", "retry"),
    [(RefusalReason.NOT_PERMITTED, True), (RefusalReason.CONTEXT_LENGTH, False)],
)
async def test_a_refusal_of_the_order_itself_is_not_shopped_around(two, reason, retry):
    two[0].script = refusing(reason, retry=retry)
    [refused] = await heard(pool_of(*two))
    assert refused.reason is reason
    assert two[1].orders == []


async def test_where_every_runner_refuses_the_client_hears_why(two):
    for one in two:
        one.script = refusing(RefusalReason.OVERLOADED)
    [refused] = await heard(pool_of(*two))
    assert refused.reason is RefusalReason.OVERLOADED


async def test_a_runner_that_cannot_be_reached_is_passed_over_and_asked_last(two, tmp_path):
    door = pool_of(f"unix://{tmp_path}/nobody.sock", two[0])
    for _ in range(3):
        assert isinstance((await heard(door))[-1], Done)
    assert door._places[0].orders_taken == 1
    with pytest.raises(RunnerUnavailable):
        await heard(pool_of(f"unix://{tmp_path}/nobody.sock"))


@pytest.mark.parametrize("said", [[], [b'{"kind":"del'], "words"], ids=["nothing", "half", "words"])
async def test_what_a_runner_may_have_begun_is_sent_to_no_other(two, said):
    two[0].script = lambda one: [Delta(one.order_id, "half ")] if said == "words" else said
    with pytest.raises(RunnerLost, match="went away"):
        await heard(pool_of(*two))
    assert two[1].orders == []


async def test_a_pool_that_tried_again_after_a_loss_would_be_noticed(two, monkeypatch):
    """The mutant: a runner that went away counts as one that was never reached."""
    monkeypatch.setattr(pool, "RunnerUnavailable", (RunnerUnavailable, RunnerLost))
    two[0].script = lambda _: []
    await heard(pool_of(*two))
    assert len(two[1].orders) == 1


async def test_a_long_line_and_many_short_ones_come_whole_and_in_order(two):
    texts = ["x" * 3_000_000, *map(str, range(5_000))]
    end = Done("one", FinishReason.STOP, Tally(1, 1), 1)
    two[0].script = lambda one: [*(Delta(one.order_id, text) for text in texts), end]
    *words, _ = await heard(pool_of(two[0]))
    assert [word.text for word in words] == texts


async def test_a_silent_runner_is_given_up_and_hanging_up_ends_every_answer(two):
    two[0].script = lambda _: [30.0]
    with pytest.raises(RunnerLost, match="fell silent"):
        await heard(RunnerPool([two[0].url], quiet_s=0.2))
    door = pool_of(two[1])
    two[1].script = lambda one: [Delta(one.order_id, "word "), 30.0]
    async with aclosing(door.stream(order())) as messages:
        await anext(messages)
        door.hang_up("closing time")
        with pytest.raises(RunnerLost, match="closing time"):
            await anext(messages)


async def test_closing_time_waits_for_answers_that_came_by_no_gate_and_then_cuts_them(two):
    door = pool_of(two[0])
    two[0].script = lambda one: [Delta(one.order_id, "word "), 30.0]
    gate = Gate(lambda *_: None, most=1)
    async with aclosing(door.stream(order())) as messages:
        await anext(messages)
        closing = asyncio.create_task(gate.drain(0.2, door))
        with pytest.raises(HungUp, match="being stopped"):
            await anext(messages)
    await closing
    assert (gate.is_ending, door.open_answers) == (True, 0)
