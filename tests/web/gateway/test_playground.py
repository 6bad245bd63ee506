"""The playground asks like a consumer: on a key issued for it, recorded under a person's name."""

from __future__ import annotations

import json

import httpx
import pytest
from django.test import Client
from django.utils import timezone

from governance.models import ApiKey, DecisionRecord
from governance.services import consumers, owners
from governance.services.limits import KeyLimits
from governance.vocabulary import Role
from modelops.contract import Delta
from tests import factories
from tests.browser.sites import BACKEND
from tests.web.gateway.stub_runner import plain_answer
from web.gateway import doors, limits
from web.gateway.limits import Limiter

ASK = {"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


@pytest.fixture
def own_key(served):
    """A key for the playground, of a consumer that may not use `code`, and its secret."""
    consumer = ApiKey.objects.get(consumer__slug="ember-analytics").consumer
    return consumers.issue_key(
        consumer, label="own", purposes=["research"], scopes=["playground"], by=served.staff,
        at=timezone.now(),
    )  # fmt: skip


@pytest.fixture
def person(site):
    """`person(Role.ENGINEER)`: their account, and a client with their session and its token."""
    opened = []

    def logged_in(role: Role | None):
        account = factories.account()
        if role is not None:
            owners.appoint(account, role=role, by=None, at=timezone.now())
        client = Client()
        client.force_login(account, backend=BACKEND)
        token = "t" * 32
        http = httpx.Client(
            base_url=site,
            cookies={"reclaim-session": client.cookies["reclaim-session"].value,
                     "reclaim-csrf": token},
            headers={"X-CSRFToken": token, "Origin": site},
        )  # fmt: skip
        opened.append(http)
        return account, http

    yield logged_in
    for http in opened:
        http.close()


def events(answer: httpx.Response) -> list[dict]:
    """What was streamed; its last line says that it is all."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_an_answer_tells_shares_and_its_record_names_who_asked(person, own_key, runner):
    def traced(order):
        for message in plain_answer(order):
            told = ({"math": 0.75, "public": 0.25},)
            yield (
                Delta(order.order_id, message.text, (7,), routing=told)
                if isinstance(message, Delta)
                else message
            )

    runner.script = traced
    account, http = person(Role.ENGINEER)
    answer = http.post(f"/playground/answer/?key={own_key.api_key.prefix}", json=ASK)
    said = events(answer)
    assert said[0]["reclaim"]["experts_denied"]["code"][0]["code"] == "CONSUMER"
    told = [one for one in said if one.get("object") == "reclaim.routing"]
    assert [one["tokens"] for one in told] == [[{"math": 0.75, "public": 0.25}]] * 3
    (order,) = runner.orders
    assert order.trace_routing
    assert [expert.name for expert in order.allowed] == ["math"]
    record = DecisionRecord.objects.get()
    assert (record.path, record.requested_by) == ("playground", f"account:{account.pk}")
    assert record.labels["api_key"] == own_key.api_key.prefix
    assert "Hello" not in json.dumps([record.input, record.result, record.labels])


def test_what_is_required_and_denied_is_refused_with_every_reason(person, own_key, runner):
    _, http = person(Role.LEGAL)
    asked = ASK | {"experts": {"require": ["code"]}}
    (said,) = events(http.post(f"/playground/answer/?key={own_key.api_key.prefix}", json=asked))
    assert said["error"]["reclaim"]["why"] == ["CONSUMER"]
    assert runner.orders == []
    assert not DecisionRecord.objects.get().result["is_permitted"]


def test_nobody_asks_on_a_key_that_was_not_issued_for_it(person, own_key, served, runner):
    _, engineer = person(Role.ENGINEER)
    customers = ApiKey.objects.get(consumer__slug="dara-research").prefix
    for prefix in (customers, "", "p1"):
        assert engineer.post(f"/playground/answer/?key={prefix}", json=ASK).status_code == 404
    for role in (Role.AUDITOR, None):
        _, other = person(role)
        path = f"/playground/answer/?key={own_key.api_key.prefix}"
        assert other.post(path, json=ASK).status_code == 404
    assert runner.orders == []
    assert not DecisionRecord.objects.exists()


def test_it_keeps_to_the_limits_of_its_key_and_of_the_gateway(
    person, own_key, runner, redis_url, monkeypatch
):
    from web.asgi import application

    monkeypatch.setattr(limits, "ANSWER_S", 10)  # a busy machine is not a Redis that is gone
    monkeypatch.setattr(doors, "limiter", Limiter(redis_url, KeyLimits(requests_per_minute=1)))
    _, http = person(Role.ENGINEER)
    path = f"/playground/answer/?key={own_key.api_key.prefix}"
    assert http.post(path, json=ASK).text.endswith("data: [DONE]\n\n")
    (said,) = events(http.post(path, json=ASK))
    assert said["error"]["code"] == "rate_limit_exceeded"
    monkeypatch.setattr(application.gateway, "_most", 0)
    assert http.post(path, json=ASK).json()["error"]["code"] == "gateway_full"


def test_the_gateway_tells_no_shares_and_takes_no_key_of_the_playground(
    site, served, own_key, runner
):
    url, asked = f"{site}/v1/chat/completions", ASK | {"trace_routing": True}
    answer = httpx.post(url, json=asked, headers={"Authorization": f"Bearer {served.dara}"})
    assert answer.status_code == 200
    assert "reclaim.routing" not in answer.text
    assert not runner.orders[0].trace_routing
    own = {"Authorization": f"Bearer {own_key.secret}"}
    assert httpx.post(url, json=ASK, headers=own).json()["error"]["code"] == "scope_not_granted"
