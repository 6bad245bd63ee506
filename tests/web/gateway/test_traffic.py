"""Too many, too slow, and closing time: what the gateway does when not all goes well."""

from __future__ import annotations

import json
import socket
import threading
import time
from functools import partial

import httpx
import openai
import pytest
import redis

from governance.models import ApiKey
from governance.services.limits import KeyLimits
from modelops.contract import Delta, Done, FinishReason, Tally
from tests.web.gateway.conftest import serving
from tests.worker.installation import wait_until
from web import serve
from web.asgi import GatewayLane, application
from web.gateway import doors, limits, port

ASK = {"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
PIECE = "more " * 2000
eventually = partial(wait_until, timeout_s=10)


def endless(written):
    """A script that talks for ever and notes how many bytes it was let to write."""

    def script(order):
        if order.turns[0].content != "Talk":
            yield Delta(order.order_id, "brief")
            yield Done(order.order_id, FinishReason.STOP, Tally(1, 1), order.policy_epoch)
            return
        while True:
            written.append(len(PIECE))
            yield Delta(order.order_id, PIECE)

    return script


def stalled_client(site, api_key):
    """A connection that asks for an endless answer and does not read it."""
    host, port = site.removeprefix("http://").split(":")
    body = json.dumps(ASK | {"messages": [{"role": "user", "content": "Talk"}]})
    line = socket.create_connection((host, int(port)))
    line.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return line


@pytest.fixture
def client(site, served):
    with openai.OpenAI(base_url=f"{site}/v1", api_key=served.dara, max_retries=0) as one:
        yield one


def test_a_slow_reader_holds_up_its_own_answer_alone_and_is_cut_in_the_end(
    site, served, runner, client, monkeypatch
):
    monkeypatch.setattr(serve.Connection, "stalled_s", 1.5)
    written: list[int] = []
    runner.script = endless(written)
    with stalled_client(site, served.dara):
        eventually(lambda: len(written) > 50)
        still = [0]

        def is_held_up():
            still.append(len(written))
            time.sleep(0.1)
            return still[-1] == len(written)

        eventually(is_held_up)
        # sockets in between hold some megabytes, the gateway itself next to nothing
        assert sum(written) < 16_000_000
        assert not runner.hung_up.is_set()
        text = [c.choices[0].delta.content for c in client.chat.completions.create(**ASK)]
        assert "brief" in text
        assert runner.hung_up.wait(10)


def test_a_port_that_read_ahead_of_its_client_would_be_noticed(site, served, runner, monkeypatch):
    """The mutant: whatever the runner sends is taken in, whether anyone reads it or not."""
    monkeypatch.setattr(port, "HELD_BYTES", 1 << 40)
    written: list[int] = []
    runner.script = endless(written)
    with stalled_client(site, served.dara):
        eventually(lambda: sum(written) > 16_000_000, timeout_s=30)


def places_taken(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        return sum(client.zcard(key) for key in client.keys("reclaim:limits:*:a"))


@pytest.fixture
def one_at_once(served, redis_url, monkeypatch):
    """The key may have one answer at once; however busy the machine is, it is counted."""
    monkeypatch.setattr(limits, "ANSWER_S", 10)
    monkeypatch.setattr(doors, "limiter", limits.Limiter(redis_url, KeyLimits()))
    ApiKey.objects.filter(consumer__slug="dara-research").update(answers_at_once=1)


def test_who_leaves_before_the_first_word_leaves_no_place(
    site, served, runner, redis_url, one_at_once
):
    runner.script = lambda _: [60.0]
    with stalled_client(site, served.dara):
        eventually(lambda: runner.orders and places_taken(redis_url) == 1)
    eventually(lambda: places_taken(redis_url) == 0)


def test_who_left_when_the_first_byte_was_to_be_written_leaves_no_place(
    site, served, runner, redis_url, one_at_once, monkeypatch
):
    """What the server says then comes before the stream is begun, so the stream never ends."""
    taken = []

    def script(order):
        taken.append(places_taken(redis_url))
        while True:
            yield Delta(order.order_id, PIECE)
            yield 0.02

    async def closed(*_):
        raise RuntimeError("unable to perform operation; the handler is closed")

    monkeypatch.setattr(GatewayLane, "send_response", closed)
    runner.script = script
    with stalled_client(site, served.dara):
        assert runner.hung_up.wait(10)
    assert taken == [1]
    eventually(lambda: places_taken(redis_url) == 0)


def test_one_answer_more_than_may_be_open_is_sent_away_before_any_work(
    site, served, runner, client, monkeypatch
):
    monkeypatch.setattr(application.gateway, "_most", 1)
    runner.script = lambda order: [Delta(order.order_id, "word "), 30.0]
    with client.chat.completions.create(**ASK) as answer:
        next(iter(answer))
        with pytest.raises(openai.InternalServerError, match="answers are open here") as refused:
            client.chat.completions.create(**ASK)
        assert refused.value.response.headers["Retry-After"] == "1"
        assert refused.value.code == "gateway_full"
        assert len(runner.orders) == 1
        assert client.models.list().data
    eventually(lambda: not application.gateway._open)


def test_health_says_alive_and_ready_where_a_runner_holds_a_lease(site, runner, monkeypatch):
    assert httpx.get(f"{site}/healthz").json() == {"alive": True}
    said = httpx.get(f"{site}/readyz")
    assert (said.status_code, said.json()["ready"], said.json()["runners"]) == (200, True, 1)
    from web.gateway import pool, views

    monkeypatch.setattr(views, "port", pool.RunnerPool(["unix:///nowhere/at/all.sock"]))
    said = httpx.get(f"{site}/readyz")
    assert (said.status_code, said.json()["ready"]) == (503, False)


def test_told_to_stop_it_takes_nothing_new_lets_answers_end_and_cuts_the_last(
    served, runner, settings
):
    settings.RECLAIM_GRACE_S = 2
    is_stopping, ends = threading.Event(), {}

    def script(order):
        yield Delta(order.order_id, "first ")
        is_stopping.wait(10)
        yield Delta(order.order_id, "second")
        if order.turns[0].content == "Talk":
            yield 60.0
        yield Done(order.order_id, FinishReason.STOP, Tally(1, 2), order.policy_epoch)

    runner.script = script
    with (
        serving() as (site, server),
        openai.OpenAI(base_url=f"{site}/v1", api_key=served.dara, max_retries=0) as client,
    ):

        def listen(said):
            heard = []
            try:
                ask = ASK | {"messages": [{"role": "user", "content": said}]}
                for chunk in client.chat.completions.create(**ask):
                    heard += [choice.delta.content for choice in chunk.choices]
                ends[said] = "ended"
            except openai.APIError as error:
                ends[said] = error.code
            assert "second" in heard

        threads = [threading.Thread(target=listen, args=(one,)) for one in ("Talk", "Brief")]
        for thread in threads:
            thread.start()
        eventually(lambda: len(runner.orders) == 2)
        server.should_exit = True
        eventually(lambda: application.gateway.is_ending)
        with pytest.raises(openai.InternalServerError, match="being stopped") as refused:
            client.chat.completions.create(**ASK)
        assert refused.value.response.headers["Connection"] == "close"
        assert httpx.get(f"{site}/readyz").status_code == 503
        assert httpx.get(f"{site}/healthz").status_code == 200
        is_stopping.set()
        for thread in threads:
            thread.join(10)
    assert ends == {"Brief": "ended", "Talk": "gateway_ending"}
    assert len(runner.orders) == 2
