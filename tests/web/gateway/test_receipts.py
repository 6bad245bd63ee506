"""Receipts: one's own, complete, without a prompt; nobody else's."""

from uuid import uuid4

import httpx
import openai
import pytest
from django.db import connection
from django.utils import timezone

from governance.models import ApiKey
from governance.services import usage
from modelops.contract import Done, FinishReason, Tally
from tests import factories

ASK = {"model": "reclaim", "messages": [{"role": "user", "content": "A secret question"}]}
USED = {"public": 3.0, "code": 1.0}


def on_the_books(lease, opened):
    """A script whose rows are opened as a runner opens them; a test closes them."""

    def script(order):
        record = usage.open_record(
            incarnation=lease.pk,
            order_id=order.order_id,
            decision_id=order.decision_id,
            consumer=order.ask["consumer"],
            purpose=order.ask["purpose"],
            policy_epoch=order.policy_epoch,
            build_digest=order.build_digest,
            allowed=[expert.name for expert in order.allowed],
            at=timezone.now(),
        )
        connection.close()
        opened.append(record.pk)
        yield Done(order.order_id, FinishReason.STOP, Tally(5, 3, {}, USED), order.policy_epoch)

    return script


def closed(record_id):
    usage.close_record(
        record_id, finish_reason="stop", prompt_tokens=5, completion_tokens=3, routed={},
        mass=USED, at=timezone.now(),
    )  # fmt: skip


def test_a_receipt_says_what_is_on_record(dara, ember, runner, served, site):
    opened = []
    runner.script = on_the_books(factories.lease(), opened)
    answer = dara.chat.completions.create(**ASK, n=2)
    path = f"/receipts/{answer.id}"
    first = httpx.get(f"{site}/v1{path}", headers={"Authorization": f"Bearer {served.dara}"})
    assert (first.status_code, first.json()["status"]) == (202, "open")
    for record_id in opened:
        closed(record_id)
    found = dara.get(path, cast_to=object)
    assert found == dara.get(f"/receipts/{found['decision_id']}", cast_to=object)
    about = answer.model_extra["reclaim"]
    shared = ("decision_id", "policy_epoch", "build", "experts_allowed", "experts_denied")
    assert {name: found[name] for name in shared} == {name: about[name] for name in shared}
    assert found["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    assert found["experts_used"] == {"code": 0.25, "public": 0.75}
    assert [one["finish_reason"] for one in found["answers"]] == ["stop", "stop"]
    assert "secret" not in str(found)
    for client, name in ((ember, answer.id), (dara, f"chatcmpl-{uuid4()}"), (dara, "nonsense")):
        with pytest.raises(openai.NotFoundError) as refused:
            client.get(f"/receipts/{name}", cast_to=object)
        assert refused.value.code == "receipt_not_found"


def test_a_denial_has_a_receipt_and_a_key_needs_the_scope(ember):
    with pytest.raises(openai.PermissionDeniedError) as refused:
        ember.chat.completions.create(**ASK, extra_body={"experts": {"require": ["code"]}})
    path = f"/receipts/{refused.value.body['reclaim']['decision_id']}"
    found = ember.get(path, cast_to=object)
    assert (found["status"], found["answers"]) == ("denied", [])
    assert found["experts_denied"]["code"][0]["code"] == "CONSUMER"
    ApiKey.objects.filter(consumer__slug="ember-analytics").update(scopes=["chat"])
    with pytest.raises(openai.PermissionDeniedError, match="issued for chat"):
        ember.get(path, cast_to=object)
