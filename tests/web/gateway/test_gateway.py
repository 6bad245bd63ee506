"""The gateway over a real socket, with the official client wherever it can say it."""

import json
import time
from datetime import timedelta

import httpx
import openai
import pytest
from django.db import connection
from django.utils import timezone

from governance.models import ApiKey, Build, DecisionRecord, Ending, Expert, Licence
from governance.services import consent, consumers, snapshots
from governance.vocabulary import BuildState, ExpertState, Instrument
from modelops.contract import (
    Delta,
    Done,
    EndCause,
    FinishReason,
    RefusalReason,
    Refused,
    Tally,
)
from tests import factories
from tests.worker.installation import wait_until
from web.gateway import views

ASK = {"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}]}


def test_the_official_client_chats_and_learns_who_answered(dara, served):
    answer = dara.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "with code,math."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 8
    about = answer.model_extra["reclaim"]
    assert about["experts_allowed"] == ["code", "math"]
    assert about["experts_used"] == {"code": 0.2, "math": 0.2, "public": 0.6}
    assert about["build"] == served.build.digest


def test_headers_name_the_decision_and_its_record_holds_no_prompt(dara):
    answer = dara.chat.completions.with_raw_response.create(**ASK)
    record = DecisionRecord.objects.get(pk=answer.headers["X-Reclaim-Decision-Id"])
    assert record.result["allowed"] == ["code", "math"]
    assert str(record.policy_epoch) == answer.headers["X-Reclaim-Policy-Epoch"]
    assert "Hello" not in json.dumps([record.input, record.result, record.labels])


def test_the_official_client_streams(dara):
    chunks = list(
        dara.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "with code,math."
    assert chunks[-1].usage.completion_tokens == 3
    closing = next(c for c in chunks if c.choices and c.choices[0].finish_reason)
    assert closing.model_extra["reclaim"]["experts_used"]["public"] == 0.6


def test_the_official_client_completes_and_scores(dara):
    answer = dara.completions.create(model="reclaim", prompt="Hello there")
    assert answer.choices[0].text == "with code,math."
    scored = dara.completions.create(
        model="reclaim", prompt="Hello there", echo=True, logprobs=0, max_tokens=0
    )
    assert scored.choices[0].logprobs.token_logprobs == [None, -2.5]
    assert scored.choices[0].text == "Hello there"


def test_models_lists_what_this_key_may_use(dara, ember):
    listed = dara.models.list().data
    assert listed[0].id == "reclaim"
    assert listed[0].model_extra["reclaim"]["experts_allowed"] == ["code", "math"]
    own = ember.models.retrieve("reclaim").model_extra["reclaim"]
    assert own["experts_allowed"] == ["math"]
    assert own["experts_denied"]["code"][0]["code"] == "CONSUMER"


def test_a_forbidden_expert_is_denied_with_every_reason_and_the_others_answer(ember, runner):
    answer = ember.chat.completions.create(**ASK)
    assert answer.choices[0].message.content == "with math."
    assert [expert.name for expert in runner.orders[0].allowed] == ["math"]
    denied = answer.model_extra["reclaim"]["experts_denied"]["code"]
    assert [why["code"] for why in denied] == ["CONSUMER"]
    assert denied[0]["message"]


def test_requiring_what_is_forbidden_is_refused_and_recorded(ember, runner):
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ember.chat.completions.create(**ASK, extra_body={"experts": {"require": ["code"]}})
    error = refused.value.body
    assert error["code"] == "consumer_not_licensed"
    assert error["reclaim"]["why"] == ["CONSUMER"]
    record = DecisionRecord.objects.get(pk=error["reclaim"]["decision_id"])
    assert not record.result["is_permitted"]
    assert runner.orders == []


def test_excluding_an_expert_is_honoured(dara):
    answer = dara.chat.completions.create(**ASK, extra_body={"experts": {"exclude": ["code"]}})
    assert answer.choices[0].message.content == "with math."


def test_a_purpose_may_only_narrow(dara, runner):
    dara.chat.completions.create(**ASK, metadata={"purpose": "education"})
    assert runner.orders[0].ask["purpose"] == "education"
    with pytest.raises(openai.PermissionDeniedError, match="issued for"):
        dara.chat.completions.create(**ASK, metadata={"purpose": "commercial"})
    with pytest.raises(openai.BadRequestError, match="Expected a purpose out of"):
        dara.chat.completions.create(**ASK, metadata={"purpose": "mischief"})


@pytest.mark.parametrize("secret", ["rk_nobody_nothing", "Bearer", "\u2713"])
def test_an_unknown_key_is_refused(site, secret):
    headers = {"Authorization": f"Bearer {secret}".encode()}
    answer = httpx.post(f"{site}/v1/chat/completions", json=ASK, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")
    assert "WWW-Authenticate" in answer.headers


def test_a_revoked_key_stops_at_once(dara, served):
    dara.chat.completions.create(**ASK)
    api_key = ApiKey.objects.get(consumer__slug="dara-research")
    consumers.revoke_key(api_key, by=served.staff, at=timezone.now())
    with pytest.raises(openai.AuthenticationError):
        dara.chat.completions.create(**ASK)


def test_a_session_cookie_is_no_key(site, client, served):
    client.force_login(served.staff)
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    assert httpx.get(f"{site}/v1/models", cookies=cookies).status_code == 401


def test_an_unknown_model_is_named(dara):
    with pytest.raises(openai.NotFoundError, match="Expected one of reclaim"):
        dara.chat.completions.create(**ASK | {"model": "gpt-4o"})


def test_an_unknown_path_answers_in_openais_shape(site):
    answer = httpx.get(f"{site}/v1/embeddings")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_endpoint"


def test_too_long_a_prompt_says_how_long_it_may_be(dara, runner):
    runner.script = lambda order: [
        Refused(order.order_id, RefusalReason.CONTEXT_LENGTH, "expected at most 256 tokens")
    ]
    with pytest.raises(openai.BadRequestError, match="at most 256") as refused:
        dara.chat.completions.create(**ASK)
    assert refused.value.code == "context_length_exceeded"


def test_a_full_runner_asks_for_patience(dara, runner):
    runner.script = lambda order: [
        Refused(order.order_id, RefusalReason.OVERLOADED, "64 requests wait")
    ]
    with pytest.raises(openai.RateLimitError) as refused:
        dara.chat.completions.create(**ASK)
    assert refused.value.response.headers["Retry-After"]


def test_a_runner_that_knows_newer_policy_gets_a_new_decision_once(dara, runner):
    def script(order):
        if len(runner.orders) == 1:
            return [Refused(order.order_id, RefusalReason.STALE_EPOCH, "newer", retry=True)]
        return [Done(order.order_id, FinishReason.STOP, Tally(1, 0), order.policy_epoch)]

    runner.script = script
    dara.chat.completions.create(**ASK)
    first, second = runner.orders
    assert first.decision_id != second.decision_id


def test_no_runner_is_a_503_that_says_so(site, served, monkeypatch):
    from web.gateway import pool, views

    monkeypatch.setattr(views, "port", pool.RunnerPool(["unix:///nowhere/at/all.sock"]))
    answer = httpx.post(
        f"{site}/v1/chat/completions", json=ASK, headers={"Authorization": f"Bearer {served.dara}"}
    )
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "runner_unavailable"


def test_a_runner_that_dies_in_the_middle_ends_the_stream_with_an_error(dara, runner):
    runner.script = lambda order: [Delta(order.order_id, "half "), b'{"kind":"del']
    with pytest.raises(openai.APIError, match="went away"):
        list(dara.chat.completions.create(**ASK, stream=True))


def test_a_withdrawal_ends_a_stream_as_a_content_filter_would(dara, runner):
    runner.script = lambda order: [
        Delta(order.order_id, "half "),
        Done(
            order.order_id,
            FinishReason.CONTENT_FILTER,
            Tally(5, 1, {}, {}),
            9,
            EndCause.CONSENT_WITHDRAWN,
            "code",
        ),
    ]
    chunks = list(dara.chat.completions.create(**ASK, stream=True))
    closing = next(c for c in chunks if c.choices[0].finish_reason)
    assert closing.choices[0].finish_reason == "content_filter"
    ended = closing.model_extra["reclaim"]["ended_by"]
    assert (ended["reason"], ended["expert"]) == ("consent_withdrawn", "code")


def test_the_gateway_cuts_a_stream_when_policy_moves_on_under_a_slow_runner(dara, runner):
    def script(order):
        yield Delta(order.order_id, "before ")
        Expert.objects.filter(name="code").update(state=ExpertState.WITHDRAWN)
        snapshots.publish(reason="withdrawn", at=timezone.now())
        connection.close()
        yield 1.0
        yield Delta(order.order_id, "after")
        yield Done(order.order_id, FinishReason.STOP, Tally(1, 2), order.policy_epoch)

    runner.script = script
    chunks = list(dara.chat.completions.create(**ASK, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == "before "
    assert chunks[-1].choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(("instrument", "lease_s", "heard"), [
    (Instrument.WITHDRAW, 10, "before after without."),
    (Instrument.WITHDRAW, 0, "before "),
    (Instrument.INVALIDATE, 10, "before "),
])  # fmt: skip
def test_an_answer_that_outlives_an_expert_waits_a_lease_for_its_runner_to_say_so(
    dara, runner, instrument, lease_s, heard
):
    code = Expert.objects.get(name="code")
    begin = timezone.now() - timedelta(hours=1)
    factories.licence(corpus=code.corpus, starts_at=begin, on_withdrawal="recompute")
    snapshots.publish(reason="a later licence", at=timezone.now())

    def script(order):
        yield Delta(order.order_id, "before ")
        taken = consent.withdraw(
            code, by=None, at=timezone.now(), method="tests", instrument=instrument
        )
        connection.close()
        while views.feed.newest().policy_epoch < taken.policy_epoch:
            yield 0.02
        views.feed.lease_s = lease_s
        yield Delta(order.order_id, "after ")
        yield Delta(order.order_id, "", recomputed_without=("code",))
        yield Delta(order.order_id, "without.")
        yield Done(order.order_id, FinishReason.STOP, Tally(1, 2), taken.policy_epoch)

    runner.script = script
    chunks = list(dara.chat.completions.create(**ASK, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == heard
    assert runner.orders[0].recompute_without == ("code",)
    told = [c.model_extra["reclaim"].get("experts_withdrawn") for c in chunks if c.model_extra]
    goes_on = "without" in heard
    assert told == ([None, ["code"], ["code"]] if goes_on else [None, None])
    reason = chunks[-1].choices[0].finish_reason
    assert reason == ("stop" if goes_on else "content_filter")


def test_an_answer_begun_on_a_build_that_was_replaced_since_is_not_cut(dara, runner, served):
    def script(order):
        yield Delta(order.order_id, "before ")
        at = timezone.now()
        Build.objects.filter(pk=served.build.pk).update(state=BuildState.RETIRED, promoted_at=at)
        later = factories.build(anchor=served.build.anchor, promoted_at=at)
        epoch = snapshots.publish(reason="replaced", build=later, at=at).policy_epoch
        connection.close()
        wait_until(lambda: views.feed.newest().policy_epoch == epoch, 10)
        yield Delta(order.order_id, "after")
        yield Done(order.order_id, FinishReason.STOP, Tally(1, 2), order.policy_epoch)

    runner.script = script
    chunks = list(dara.chat.completions.create(**ASK, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert (text, chunks[-1].choices[0].finish_reason) == ("before after", "stop")


def test_hanging_up_reaches_the_runner(dara, runner):
    def script(order):
        for _ in range(200):
            yield Delta(order.order_id, "more " * 2000)
            yield 0.02

    runner.script = script
    with dara.chat.completions.create(**ASK, stream=True) as stream:
        next(iter(stream))
    assert runner.hung_up.wait(10)


def test_a_new_epoch_reaches_the_gateway_without_a_restart(dara, served):
    dara.chat.completions.create(**ASK)
    Ending.objects.create(
        instrument=Instrument.TERMINATE,
        licence=Licence.objects.get(corpus__slug="math"),
        effective_at=timezone.now(),
    )
    epoch = snapshots.publish(reason="ended", at=timezone.now()).policy_epoch
    end_s = time.monotonic() + 3
    while time.monotonic() < end_s:
        about = dara.chat.completions.create(**ASK).model_extra["reclaim"]
        if about["policy_epoch"] == epoch:
            break
        time.sleep(0.02)
    assert about["policy_epoch"] == epoch
    assert [why["code"] for why in about["experts_denied"]["math"]] == ["EXPIRED"]


def test_a_client_that_has_seen_newer_policy_is_never_answered_from_older(site, served):
    headers = {"Authorization": f"Bearer {served.dara}", "X-Min-Policy-Epoch": "999"}
    answer = httpx.post(f"{site}/v1/chat/completions", json=ASK, headers=headers)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "policy_unreadable"
    headers["X-Min-Policy-Epoch"] = "soon"
    assert httpx.get(f"{site}/v1/models", headers=headers).status_code == 400
