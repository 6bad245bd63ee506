"""Quotas at the runner: charged, shortened, passed over, and shared with other runners."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.utils import timezone

from governance.errors import QuotaSpent
from governance.models import Licence, Quota, QuotaSlice, UsageRecord
from governance.services import quotas, snapshots, usage
from modelops.contract import Done, FinishReason, RefusalReason, Refused, Turn
from tests import factories
from tests.worker import clients
from tests.worker.policies import order as an_order
from tests.worker.runner.conftest import Running
from worker.runner import escrow as escrow_of
from worker.runner.escrow import Escrow, most_prompt_tokens
from worker.runner.lease import ask_of


def found(order_id):
    return UsageRecord.objects.get(order_id=order_id)


@pytest.fixture
def runner(story, tmp_path):
    """Starts a runner when the test has said what is licensed."""
    started = []

    def start(name="runner-1", **fields):
        started.append(Running(tmp_path, name=name, **fields).start())
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_an_answer_is_charged_what_it_took(story, runner):
    reference = story.limit("code", max_tokens=10_000)
    order = story.order(max_tokens=5)
    clients.ask(runner().url, order)
    row, part = found(order.order_id), QuotaSlice.objects.get()
    assert row.licences["code"] == reference
    assert set(row.licences) == {"code", "languages"}
    assert row.quota_slices == [part.pk]
    assert row.promised_tokens == most_prompt_tokens(order) + 5
    assert (part.spent_tokens, part.promised_tokens) == (row.prompt_tokens + 5, 0)
    assert part.spent_answers == 1


def test_without_quotas_an_answer_is_charged_to_nobody_but_names_its_licences(story, runner):
    order = story.order(max_tokens=1)
    clients.ask(runner().url, order)
    row = found(order.order_id)
    assert (row.quota_slices, row.promised_tokens) == ([], 0)
    assert set(row.licences) == {"code", "languages"}
    assert not Quota.objects.exists()


def test_without_quotas_admission_asks_the_database_nothing_more(story, django_assert_num_queries):
    snapshot, order = snapshots.current(), story.order()
    escrow, ask = Escrow(uuid4()), ask_of(order.ask)
    escrow.permission(order, ask, snapshot, timezone.now())
    with django_assert_num_queries(0):
        escrow.permission(order, ask, snapshot, timezone.now())


def test_a_slice_spares_the_database_until_it_is_used_up(story, django_assert_num_queries):
    story.limit("code", max_tokens=64_000)
    snapshot, order = snapshots.current(), story.order(max_tokens=100)
    escrow, ask = Escrow(factories.lease().pk), ask_of(order.ask)
    first = escrow.permission(order, ask, snapshot, timezone.now())
    escrow.note_promised(first.slices, 300)
    with django_assert_num_queries(0):
        again = escrow.permission(order, ask, snapshot, timezone.now())
    assert again.slices == first.slices


def test_an_expert_whose_quota_is_used_up_is_passed_over(story, runner):
    story.limit("code", max_answers=1)
    url = runner().url
    clients.ask(url, story.order(max_tokens=1))
    [*_, end] = clients.ask(url, story.order(max_tokens=1))
    assert isinstance(end, Done)
    assert set(end.tally.routed) == {"public", "languages"}
    [refused] = clients.ask(url, story.order(max_tokens=1, ask={**story.ask, "require": ["code"]}))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.experts) == (RefusalReason.QUOTA, ("code",))
    assert refused.retry


def test_an_answer_is_shortened_rather_than_robbed_of_an_expert(story, runner):
    order = story.order(max_tokens=100)
    story.limit("code", max_tokens=most_prompt_tokens(order) + 20)
    order = story.order(max_tokens=100)
    [*_, end] = clients.ask(runner().url, order)
    assert (end.finish_reason, end.tally.completion_tokens) == (FinishReason.LENGTH, 20)
    assert "shortened to 20 tokens" in end.detail
    assert found(order.order_id).allowed == ["code", "languages"]


def test_another_licence_without_quota_is_used_before_an_answer_is_shortened(story, runner):
    order = story.order(max_tokens=100)
    corpus = story.experts["code"].corpus
    plain = Licence.objects.get(corpus=corpus)
    limited = factories.licence(
        corpus=corpus,
        starts_at=timezone.now(),
        max_tokens=most_prompt_tokens(order) + 20,
        quota_period="month",
    )
    snapshots.publish(reason="both", at=timezone.now())
    order = story.order(max_tokens=100)
    [*_, end] = clients.ask(runner().url, order)
    assert end.tally.completion_tokens == 100
    assert found(order.order_id).licences["code"] == plain.reference != limited.reference


def test_an_answer_the_engine_refuses_costs_nothing(story, runner, monkeypatch):
    story.limit("code", max_tokens=10_000)
    one = runner()

    def refuse(order, deliver):
        deliver(Refused(order.order_id, RefusalReason.OVERLOADED, "full", retry=True))

    monkeypatch.setattr(one.engines[0], "submit", refuse)
    clients.ask(one.url, story.order(max_tokens=5))
    part = QuotaSlice.objects.get()
    assert (part.spent_tokens, part.spent_answers, part.promised_answers) == (0, 0, 0)


def test_what_one_runner_has_free_serves_another(story, runner):
    reference = story.limit("code", max_tokens=300, max_answers=100)
    one, two = runner("one"), runner("two")
    for url in [one.url, two.url] * 20:
        clients.ask(url, story.order(max_tokens=20))
    standing = quotas.standings([reference], at=timezone.now())[reference]
    assert standing.spent_tokens > 300 - 100
    assert standing.spent_tokens <= 300
    charged = UsageRecord.objects.exclude(quota_slices=[])
    assert sum(row.prompt_tokens + row.completion_tokens for row in charged) == (
        standing.spent_tokens
    )


def test_an_order_is_decided_anew_when_others_took_from_the_quota(story, runner, monkeypatch):
    story.limit("code", max_tokens=10_000)
    one, tries = runner(), []
    opens = usage.open_record

    def lose_twice(**fields):
        tries.append(fields)
        if len(tries) < 3:
            raise QuotaSpent("expected tokens, found none")
        return opens(**fields)

    monkeypatch.setattr(usage, "open_record", lose_twice)
    [*_, end] = clients.ask(one.url, story.order(max_tokens=2))
    assert isinstance(end, Done)
    assert len(tries) == 3


def test_a_quota_known_to_be_used_up_is_asked_about_once_a_second(
    story, monkeypatch, django_assert_num_queries
):
    story.limit("code", max_answers=1)
    snapshot, order = snapshots.current(), story.order()
    lease = factories.lease()
    part = quotas.reserve(
        Licence.objects.get(max_answers=1).reference,
        incarnation=lease.pk,
        tokens=1,
        at=timezone.now(),
    )
    quotas.promise([part.id], incarnation=lease.pk, tokens=1)
    escrow, ask = Escrow(factories.lease().pk), ask_of(order.ask)
    escrow.permission(order, ask, snapshot, timezone.now())
    with django_assert_num_queries(0):
        permission = escrow.permission(order, ask, snapshot, timezone.now())
    assert list(permission.decision.denied["code"]) == ["QUOTA"]
    quotas.settle([part.id], promised=1, tokens=0, answers=0)
    monkeypatch.setattr(escrow_of, "LOOK_AGAIN_S", 0.0)
    escrow.forget(["anything"])
    escrow._empty_until_s.clear()
    assert escrow.permission(order, ask, snapshot, timezone.now()).slices


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "naïve — 漢字 🙂" * 20},
        {"prompt": "", "turns": (Turn("system", "x"), Turn("user", "漢" * 50), Turn("user", ""))},
        {"prompt": "", "turns": tuple(Turn("assistant", "a") for _ in range(30))},
    ],
)
def test_no_prompt_has_more_tokens_than_are_promised_for_it(fields):
    from modelops.model import tokenizer

    words = tokenizer.train(["some text"], 261)  # no merges: the most tokens there can be
    order = an_order(**fields)
    if order.turns:
        ids = tokenizer.encode_chat(words, order.turns)
    else:
        ids = words.encode(order.prompt).ids
    assert 0 < len(ids) <= most_prompt_tokens(order)
