"""Usage rows: gapless, closed once, and never written behind a fence."""

import threading
from uuid import uuid4

import pytest
from django.db import IntegrityError, connections, transaction

from governance.errors import GovernanceError, LeaseRefused, NotFound, StalePolicy
from governance.models import ExpertFence, UsageRecord
from governance.services import leases, usage, withdrawals
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def opened(lease, *, allowed=("code",), policy_epoch=1, consumer=None, order_id=None, **fields):
    return usage.open_record(
        incarnation=lease.pk,
        order_id=order_id or uuid4(),
        decision_id=uuid4(),
        consumer=consumer or factories.consumer().slug,
        purpose="research",
        policy_epoch=policy_epoch,
        build_digest="0" * 64,
        allowed=allowed,
        at=NOW,
        **fields,
    )


def closed(record, finish_reason="stop", **fields):
    return usage.close_record(
        record.pk,
        finish_reason=finish_reason,
        prompt_tokens=3,
        completion_tokens=5,
        routed={"public": 8, "code": 8},
        mass={"public": 4.5, "code": 3.5},
        at=after(1),
        **fields,
    )


def fenced(name="code", revoked_epoch=2, *, is_quiesced=True):
    expert = factories.expert(name=name, state="withdrawn")
    return ExpertFence.objects.create(
        expert=expert, expert_name=name, revoked_epoch=revoked_epoch, is_quiesced=is_quiesced
    )


def test_numbers_run_without_gaps_within_one_incarnation():
    one, other = factories.lease(), factories.lease(runner="r2")
    assert [opened(one).gw_seq for _ in range(3)] == [1, 2, 3]
    assert opened(other).gw_seq == 1


def test_a_row_that_could_not_be_opened_uses_no_number():
    lease = factories.lease()
    opened(lease)
    with pytest.raises(NotFound):
        opened(lease, consumer="nobody")
    fenced()
    with pytest.raises(StalePolicy):
        opened(lease)
    assert opened(lease, allowed=()).gw_seq == 2


def test_what_an_answer_used_is_kept_as_the_router_told_it():
    record = closed(opened(factories.lease()))
    record.refresh_from_db()
    assert (record.prompt_tokens, record.completion_tokens) == (3, 5)
    assert record.mass == {"public": 4.5, "code": 3.5}
    assert record.closed_at == after(1)


def test_closing_again_with_the_same_reason_changes_nothing():
    record = opened(factories.lease())
    closed(record)
    assert closed(record).closed_at == after(1)
    with pytest.raises(GovernanceError, match="never changed"):
        closed(record, "length")


def test_a_closed_incarnation_opens_nothing():
    lease = factories.lease()
    leases.close(lease.pk, at=NOW)
    with pytest.raises(LeaseRefused):
        opened(lease)


def test_behind_its_fence_an_expert_can_neither_begin_nor_end_an_answer():
    lease = factories.lease()
    record = opened(lease)
    fenced()
    with pytest.raises(StalePolicy):
        opened(lease)
    with pytest.raises(StalePolicy):
        closed(record)
    assert closed(record, "content_filter", cause="consent_withdrawn").closed_at


def test_going_on_without_one_expert_passes_its_fence_and_no_other():
    lease, both = factories.lease(), ("code", "languages")
    records = [opened(lease, allowed=both), opened(lease, allowed=both)]
    gone_on = {"cause": "stop", "recomputed_without": ["code"]}
    fenced()
    assert closed(records[0], usage.RECOMPUTED, **gone_on).recomputed_without == ["code"]
    fenced("languages")
    with pytest.raises(StalePolicy):
        closed(records[1], usage.RECOMPUTED, **gone_on)


@pytest.mark.parametrize(
    ("allowed", "policy_epoch", "is_quiesced"),
    [(("languages",), 1, True), (("code",), 2, True), (("code",), 1, False)],
)
def test_a_fence_stops_only_its_expert_its_past_and_only_once_quiesced(
    allowed, policy_epoch, is_quiesced
):
    fenced(is_quiesced=is_quiesced)
    assert opened(factories.lease(), allowed=allowed, policy_epoch=policy_epoch)


def test_what_a_dead_runner_left_open_is_closed_as_lost():
    lease = factories.lease()
    kept, lost = opened(factories.lease(runner="r2")), opened(lease)
    leases.close(lease.pk, at=NOW)
    assert usage.close_lost(at=after(9)) == 1
    lost.refresh_from_db()
    kept.refresh_from_db()
    assert (lost.finish_reason, lost.cause) == ("lost", "runner_ended")
    assert kept.closed_at is None


@pytest.mark.django_db(transaction=True)
def test_settling_waits_for_a_row_being_written():
    """The fence is never set between a row's look at it and that row's commit."""
    lease = factories.lease(applied_epoch=2)
    consumer = factories.consumer().slug
    fence = fenced(is_quiesced=False)
    withdrawal = factories.withdrawal(expert=fence.expert)
    outcome = []

    def settle():
        try:
            outcome.append(withdrawals.try_settle(withdrawal, waited_s=0, at=NOW))
        finally:
            connections.close_all()

    with transaction.atomic():
        opened(lease, consumer=consumer)
        thread = threading.Thread(target=settle)
        thread.start()
        thread.join(0.2)
        assert outcome == []
    thread.join(10)
    assert outcome == [True]
    with pytest.raises(StalePolicy):
        closed(UsageRecord.objects.get())


def test_an_order_refused_by_one_engine_may_be_begun_by_another_runner_and_by_no_third():
    order = uuid4()
    first = opened(factories.lease(runner="r1"), order_id=order)
    closed(first, usage.REFUSED)
    opened(factories.lease(runner="r2"), order_id=order)
    with pytest.raises(IntegrityError, match="usage_order_begun_once"):
        opened(factories.lease(runner="r3"), order_id=order)
