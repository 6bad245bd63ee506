"""What a key may ask a minute and at once, on a real Redis."""

import asyncio
from types import SimpleNamespace

import pytest

from governance.errors import InvalidTerms
from governance.services.limits import KeyLimits
from web.gateway.errors import GatewayError
from web.gateway.limits import Limiter, _duration


def a_key(requests=None, tokens=None, answers=None):
    limits = {"requests_per_minute": requests, "tokens_per_minute": tokens}
    return SimpleNamespace(prefix="ab12cd34ef", answers_at_once=answers, **limits)


@pytest.fixture
def limiter(redis_url):
    return Limiter(redis_url, KeyLimits())


async def refusal(limiter, key, **wanted):
    with pytest.raises(GatewayError) as refused:
        await limiter.count(key, "again", **wanted)
    return refused.value


async def test_requests_beyond_the_limit_wait_and_say_how_long(limiter):
    key = a_key(requests=3)
    first, *_ = [await limiter.count(key, str(number)) for number in range(3)]
    assert first.headers["x-ratelimit-limit-requests"] == "3"
    assert first.headers["x-ratelimit-remaining-requests"] == "2"
    assert first.headers["x-ratelimit-reset-requests"] == "20s"
    error = await refusal(limiter, key)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert 1 <= error.retry_after_s <= 20
    assert error.headers["x-ratelimit-remaining-requests"] == "0"


async def test_gateways_count_together(limiter, redis_url):
    key, other = a_key(requests=1), Limiter(redis_url, KeyLimits())
    await limiter.count(key, "1")
    await refusal(other, key)


async def test_an_answer_gives_back_the_tokens_it_did_not_take(limiter):
    key = a_key(tokens=1000)
    counted = await limiter.count(key, "1", tokens=900)
    await refusal(limiter, key, tokens=200)
    await counted.end(100)
    await counted.end(100)  # once only
    again = await limiter.count(key, "2", tokens=800)
    assert int(again.headers["x-ratelimit-remaining-tokens"]) in range(100, 110)


async def test_an_answer_that_took_more_than_was_counted_is_charged_for_it(limiter):
    key = a_key(tokens=1000)
    counted = await limiter.count(key, "1", tokens=10)
    await counted.end(2000)
    error = await refusal(limiter, key, tokens=1)
    assert 55 <= error.retry_after_s <= 61


async def test_more_than_a_minutes_tokens_pass_where_the_bucket_is_empty(limiter):
    await limiter.count(a_key(tokens=100), "1", tokens=4096)


async def test_answers_at_once_leave_their_places_when_they_end(limiter):
    key = a_key(answers=3)
    pair = await limiter.count(key, "pair", answers=2)
    await limiter.count(key, "one", answers=1)
    assert "answers at once" in (await refusal(limiter, key, answers=1)).message
    await pair.end(0)
    await limiter.count(key, "other", answers=2)


async def test_more_answers_than_may_ever_be_at_once_never_wait(limiter):
    error = await refusal(limiter, a_key(answers=2), answers=3)
    assert (error.status, error.param) == (400, "n")


async def test_what_one_limit_refuses_no_other_limit_counts(limiter):
    await limiter.count(a_key(answers=1), "1", answers=1)
    key = a_key(requests=5, answers=1)
    for _ in range(5):
        await refusal(limiter, key, answers=1)
    counted = await limiter.count(a_key(requests=5), "2")
    assert counted.headers["x-ratelimit-remaining-requests"] == "4"


async def test_never_more_at_once_than_the_limit_however_many_ask(limiter):
    key = a_key(requests=1000, answers=4)
    asked = [limiter.count(key, str(number), answers=1) for number in range(40)]
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(one, GatewayError) for one in told) == 4


async def test_who_leaves_while_being_counted_leaves_no_place(limiter):
    key = a_key(requests=60, tokens=600, answers=1)
    leaving = asyncio.create_task(limiter.count(key, "gone", tokens=600, answers=1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # by now Redis is being asked, in a thread
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await limiter.count(key, "next", tokens=600, answers=1)).answers == 1


async def test_without_redis_nobody_is_refused():
    limiter = Limiter("redis://127.0.0.1:1/0", KeyLimits(requests_per_minute=1))
    for number in range(3):
        counted = await limiter.count(a_key(), str(number), tokens=5, answers=1)
        assert counted.headers == {}
        await counted.end(7)


async def test_the_installations_limit_holds_where_a_key_has_none(redis_url):
    limiter = Limiter(redis_url, KeyLimits(requests_per_minute=2))
    counted = await limiter.count(a_key(), "1")
    assert counted.headers["x-ratelimit-limit-requests"] == "2"
    own = await limiter.count(a_key(requests=9), "2")
    assert own.headers["x-ratelimit-limit-requests"] == "9"


async def test_a_key_without_limits_costs_no_call():
    counted = await Limiter("redis://nowhere.invalid/0", KeyLimits()).count(a_key(), "1", tokens=9)
    await counted.end(9)


@pytest.mark.parametrize("limit", [0, -1, 2_000_000_001])
def test_a_limit_lets_something_through(limit):
    with pytest.raises(InvalidTerms):
        KeyLimits(tokens_per_minute=limit)


@pytest.mark.parametrize(("ms", "said"), [(0, "0ms"), (120, "120ms"), (7660, "7.66s"),
                                          (60_000, "1m0s"), (61_500, "1m1.5s")])  # fmt: skip
def test_a_wait_is_written_as_openai_writes_it(ms, said):
    assert _duration(ms) == said
