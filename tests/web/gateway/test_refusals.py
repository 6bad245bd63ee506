"""Refusals as the official client sees them, each with its status, its code and every reason."""

import time
from datetime import timedelta
from uuid import uuid4

import httpx
import openai
import pytest
from django.utils import timezone

from governance.models import ApiKey, Build, DecisionRecord, Ending, Expert
from governance.policy.types import Ask, Denied
from governance.services import quotas, snapshots, usage
from governance.vocabulary import BuildState, Instrument, Why
from modelops.contract import Delta, RefusalReason, Refused
from tests import factories
from tests.web.gateway.stub_runner import plain_answer
from web.gateway import refusals

ASK = {"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}]}


def refused(client, *, model="reclaim", require=(), since=0):
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(
            **ASK | {"model": model},
            extra_body={"experts": {"require": list(require)}},
            extra_headers={"X-Min-Policy-Epoch": str(since)},
        )
    return raised.value


def spend_the_quota_of_math():
    at, lease = timezone.now(), factories.lease()
    part = quotas.reserve("math-v1", incarnation=lease.pk, tokens=1_000, at=at)
    usage.open_record(
        incarnation=lease.pk, order_id=uuid4(), decision_id=uuid4(), consumer="dara-research",
        purpose="research", policy_epoch=1, build_digest="0" * 64, allowed=["math"],
        licences={"math": "math-v1"}, quota_slices=[part.id], promised_tokens=1_000, at=at,
    )  # fmt: skip


def test_a_quota_that_only_the_runner_found_used_up_is_refused_in_the_same_shape(dara, runner):
    runner.script = lambda order: [
        Refused(order.order_id, RefusalReason.QUOTA, "none left", retry=True, experts=("math",))
    ]
    found = refused(dara, require=["math"])
    assert len(runner.orders) == 1
    row = DecisionRecord.objects.get(decision_id=found.body["reclaim"]["decision_id"])
    assert (row.result["is_permitted"], row.result["why"]) == (False, ["QUOTA"])
    spend_the_quota_of_math()
    known = refused(dara, require=["math"])
    assert (found.status_code, found.code) == (402, "quota_used_up")
    for error in (found, known):
        error.body["reclaim"].pop("decision_id")
    assert found.body == known.body


def test_quota_a_former_build_and_a_courts_order_each_have_a_status(dara, served, settings):
    spend_the_quota_of_math()
    error = refused(dara, require=["math"])
    assert (error.status_code, error.code, error.type) == (
        402, "quota_used_up", "insufficient_quota",
    )  # fmt: skip
    assert dara.chat.completions.create(**ASK).choices[0].message.content == "with code."

    Ending.objects.create(
        instrument=Instrument.INVALIDATE,
        expert=Expert.objects.get(name="code"),
        effective_at=timezone.now(),
        authority="Court of Utrecht",
        authority_reference="C/16/1",
        authority_url="https://court.example/c-16-1",
    )
    Build.objects.filter(pk=served.build.pk).update(state=BuildState.RETIRED)
    math = Expert.objects.get(name="math").revisions.get()
    published = snapshots.publish(
        reason="tests", build=factories.build(math), at=timezone.now()
    ).policy_epoch
    error = refused(dara, model=f"reclaim@{served.build.digest[:12]}", since=published)
    assert (error.status_code, error.code) == (410, "build_withdrawn")
    error = refused(dara, require=["code"])
    assert (error.status_code, error.code) == (451, "voided_by_authority")
    assert error.body["reclaim"]["voided"] == [{
        "expert": "code", "authority": "Court of Utrecht", "authority_reference": "C/16/1",
        "authority_url": "https://court.example/c-16-1",
    }]  # fmt: skip
    assert "voided code (Court of Utrecht, file C/16/1, https://court" in error.body["message"]
    blocker, published = error.response.headers["Link"].split(", ")
    assert blocker == f'<{settings.RECLAIM_PUBLIC_URL}>; rel="blocked-by"'
    assert published == '<https://court.example/c-16-1>; rel="describedby"'


def test_every_answer_has_a_request_id_and_what_is_not_offered_is_said(dara, ember, site):
    requests = [
        lambda: dara.chat.completions.with_raw_response.create(**ASK),
        lambda: dara.embeddings.create(model="reclaim", input="Hello"),
        lambda: dara.images.generate(prompt="Hello"),
        lambda: dara.responses.create(model="reclaim", input="Hello"),
        lambda: ember.chat.completions.create(**ASK, extra_body={"experts": {"require": ["code"]}}),
        lambda: dara.with_options(api_key="rk_0000000000_x").models.list(),
        lambda: dara.completions.create(model="reclaim", prompt=""),
    ]
    answers = []
    for request in requests:
        try:
            answers.append(request().http_response)
        except openai.APIStatusError as error:
            answers.append(error.response)
    assert [one.status_code for one in answers] == [200, 404, 404, 404, 403, 401, 400]
    assert all("GET /v1/receipts" in one.json()["error"]["message"] for one in answers[1:4])
    answers.append(httpx.get(f"{site}/v1/chat/completions"))
    assert (answers[-1].status_code, answers[-1].headers["Allow"]) == (405, "POST")
    ids = {one.headers["X-Request-Id"] for one in answers}
    assert len(ids) == len(answers)


@pytest.mark.parametrize(("sent", "echoed"), [("job-7/a", "job-7/a"), ("a b", None),
                                              ("x" * 129, None), (None, None)])  # fmt: skip
def test_a_clients_own_id_is_echoed_where_it_is_sane(client, db, sent, echoed):
    headers = {"X-Client-Request-Id": sent} if sent else {}
    answer = client.get("/v1/nothing", headers=headers)
    assert answer.headers.get("X-Client-Request-Id") == echoed


def test_limits_of_a_key_are_told_and_kept(dara, runner, redis_url):
    ApiKey.objects.filter(consumer__slug="dara-research").update(
        requests_per_minute=3, tokens_per_minute=1_000, answers_at_once=1
    )
    list(dara.chat.completions.create(**ASK, stream=True))
    told = dara.chat.completions.with_raw_response.create(**ASK).headers
    assert told["x-ratelimit-limit-tokens"] == "1000"
    assert int(told["x-ratelimit-remaining-tokens"]) in range(1_000 - 128 - 8, 1_000 - 128)
    assert told["x-ratelimit-remaining-requests"] == "1"
    dara.models.list()
    with pytest.raises(openai.RateLimitError) as raised:
        dara.chat.completions.create(**ASK)
    assert raised.value.code == "rate_limit_exceeded"
    assert 1 <= int(raised.value.response.headers["Retry-After"]) <= 20
    assert raised.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(runner.orders) == 2


def test_who_hangs_up_ends_every_answer_and_leaves_their_places(dara, runner, redis_url):
    ApiKey.objects.filter(consumer__slug="dara-research").update(answers_at_once=2)

    def endless(order):
        while True:
            yield Delta(order.order_id, "more " * 2000)
            yield 0.02

    runner.script = endless
    with dara.chat.completions.create(**ASK, n=2, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError, match="at most 2 answers at once"):
            dara.chat.completions.create(**ASK)
    begun = {order.order_id for order in runner.orders}
    runner.script = plain_answer
    patient = dara.with_options(max_retries=8)
    assert len(patient.chat.completions.create(**ASK, n=2).choices) == 2
    end_s = time.monotonic() + 10
    while runner.hung_up_on != begun and time.monotonic() < end_s:
        time.sleep(0.02)
    assert runner.hung_up_on == begun


@pytest.mark.parametrize(("whys", "status", "code"), [
    ((Why.PURPOSE,), 403, "purpose_not_licensed"),
    ((Why.PURPOSE, Why.JURISDICTION), 403, "purpose_not_licensed"),
    ((Why.JURISDICTION, Why.QUOTA), 403, "territory_not_licensed"),
    ((Why.QUOTA, Why.RECIPIENT), 403, "recipient_not_licensed"),
    ((Why.QUOTA,), 402, "quota_used_up"),
    ((Why.WITHDRAWN,), 403, "expert_withdrawn"),
])  # fmt: skip
def test_the_weightiest_reason_is_the_code_and_quota_weighs_least(db, whys, status, code):
    error = denial(whys)
    assert (error.status, error.code) == (status, code)
    assert error.reclaim["why"] == [why.value for why in whys]


def denial(whys, consumer="dara"):
    ask = Ask(consumer, "academic_research", "DE", require=frozenset({"code"}))
    decision = Denied(7, whys, {"code": whys})
    return refusals.denied(decision, ask, decision_id=uuid4(), at=timezone.now())


def test_every_reason_has_a_code():
    assert set(refusals.CODES) == set(Why)
    assert len(set(refusals.CODES.values())) == len(Why)


@pytest.mark.parametrize(("instrument", "scope", "whys", "status"), [
    (Instrument.INVALIDATE, {}, (Why.WITHDRAWN,), 451),
    (Instrument.INVALIDATE, {"purposes": ["research"]}, (Why.WITHDRAWN,), 451),
    (Instrument.INVALIDATE, {"purposes": ["justice"]}, (Why.WITHDRAWN,), 403),
    (Instrument.INVALIDATE, {"consumers": ["ember"]}, (Why.WITHDRAWN,), 403),
    (Instrument.INVALIDATE, {}, (Why.VOIDED,), 451),
    (Instrument.INVALIDATE, {}, (Why.PURPOSE,), 403),
    (Instrument.WITHDRAW, {}, (Why.WITHDRAWN,), 403),
])  # fmt: skip
def test_only_what_an_authority_took_away_is_451(db, instrument, scope, whys, status):
    licence = factories.licence(corpus=factories.corpus(slug="code"))
    factories.expert(name="code", corpus=licence.corpus)
    act = {"licence": licence, "effective_at": timezone.now(), **scope}
    Ending.objects.create(instrument=instrument, **act)
    assert denial(whys).status == status


def test_of_several_acts_the_latest_counts(db):
    expert, at = factories.expert(name="code"), timezone.now()
    for days, instrument in ((-2, Instrument.INVALIDATE), (-1, Instrument.WITHDRAW)):
        Ending.objects.create(
            instrument=instrument, expert=expert, effective_at=at + timedelta(days=days)
        )
    assert denial((Why.WITHDRAWN,)).status == 403
