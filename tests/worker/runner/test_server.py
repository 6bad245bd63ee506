"""A runner over its socket: orders in, words out, every answer in a usage row."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from governance.models import RunnerLease, UsageRecord
from governance.services import leases, licences, withdrawals
from governance.vocabulary import Instrument
from modelops.contract import (
    Delta,
    Done,
    EndCause,
    ExpertRef,
    FinishReason,
    RefusalReason,
    Refused,
    to_wire,
)
from tests import factories
from tests.worker import clients, served
from tests.worker.installation import wait_until
from tests.worker.runner.conftest import Running
from worker.tasks import enforcement

eventually = partial(wait_until, timeout_s=10)


def test_an_answer_is_streamed_and_its_row_closed_before_the_end_is_told(running, story):
    order = story.order(max_tokens=3)
    *words, end = clients.ask(running.url, order)
    assert [word.text for word in words] == ["word "] * 3
    assert end.finish_reason is FinishReason.LENGTH
    row = UsageRecord.objects.get(order_id=order.order_id)
    assert (row.finish_reason, row.completion_tokens) == ("length", 3)
    assert row.allowed == ["code", "languages"]
    assert row.routed == {"public": 3, "code": 3, "languages": 3}
    assert row.consumer == story.dara


def test_the_row_is_open_before_the_first_word_leaves(story, tmp_path):
    slow = Running(tmp_path, token_s=0.2).start()
    order = story.order(max_tokens=2)
    answer = clients.stream(slow.url, order)
    next(answer)
    assert UsageRecord.objects.get(order_id=order.order_id).closed_at is None
    list(answer)
    slow.stop()


def test_rows_are_numbered_without_gaps(running, story):
    for _ in range(5):
        clients.ask(running.url, story.order(max_tokens=1))
    assert list(UsageRecord.objects.order_by("gw_seq").values_list("gw_seq", flat=True)) == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip


def test_a_client_that_hangs_up_ends_its_order_and_the_row_says_so(running, story):
    order = story.order(max_tokens=100_000)
    with clients.connected(running.url) as line:
        line.sendall(to_wire(order))
        line.recv(100)
    eventually(
        lambda: UsageRecord.objects.filter(
            order_id=order.order_id, finish_reason="cancelled"
        ).exists()
    )
    assert not running.engines[0].streams


def test_policy_is_asked_again_here_whatever_the_gateway_decided(running, story):
    stranger = {**story.ask, "purpose": "commercial"}
    [*_, end] = clients.ask(running.url, story.order(ask=stranger, max_tokens=1))
    assert end.tally.routed.keys() == {"public"}
    required = {**story.ask, "purpose": "commercial", "require": ["code"]}
    [refused] = clients.ask(running.url, story.order(ask=required))
    assert isinstance(refused, Refused)
    assert refused.reason is RefusalReason.NOT_PERMITTED


def test_an_order_is_narrowed_to_what_both_sides_permit(running, story):
    forged = ExpertRef("code", factories.digest_of("another revision"))
    order = story.order(allowed=(forged, story.ref("languages")), max_tokens=1)
    [*_, end] = clients.ask(running.url, order)
    assert end.tally.routed.keys() == {"public", "languages"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"build_digest": "0" * 64}, RefusalReason.UNKNOWN_BUILD),
        ({"anchor_digest": "0" * 64}, RefusalReason.UNKNOWN_BUILD),
        ({"order_id": "not a uuid"}, RefusalReason.BAD_ORDER),
        ({"ask": {"consumer": "mallory", "purpose": "research", "territory": "NL"}},
         RefusalReason.BAD_ORDER),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_with_its_reason(running, story, fields, reason):
    [refused] = clients.ask(running.url, story.order(**fields))
    assert refused.reason is reason
    assert not UsageRecord.objects.exists()


def test_the_same_order_twice_is_refused_the_second_time(running, story):
    order = story.order(max_tokens=1)
    clients.ask(running.url, order)
    [refused] = clients.ask(running.url, order)
    assert refused.reason is RefusalReason.BAD_ORDER


def test_an_order_from_a_later_epoch_than_can_be_learned_is_sent_away_to_try_again(running, story):
    [refused] = clients.ask(running.url, story.order(policy_epoch=99))
    assert refused.reason is RefusalReason.STALE_EPOCH
    assert refused.retry


@pytest.mark.parametrize("line", [b"{}\n", b"not json\n", b'{"kind": "delta"}\n', b"\xff\xfe\n"])
def test_noise_on_the_socket_is_refused_and_the_runner_goes_on(running, story, line):
    with clients.connected(running.url) as peer, peer.makefile("rb") as lines:
        peer.sendall(line)
        assert b"bad_order" in lines.readline()
    assert isinstance(clients.ask(running.url, story.order(max_tokens=1))[-1], Done)


def test_health_tells_lease_build_and_experts(running, story):
    said = clients.health(running.url)
    assert said["build"] == story.build.digest
    assert said["loaded"] == ["code", "languages"]
    assert 0 < said["lease_ms_left"] <= 1000


def test_what_is_loaded_is_reported_for_pages_and_promotion(running, story):
    row = RunnerLease.objects.get(incarnation=running.runner.incarnation)
    eventually(lambda: RunnerLease.objects.get(pk=row.pk).loaded_build == story.build)
    row.refresh_from_db()
    assert [entry["name"] for entry in row.loaded] == ["code", "languages"]
    assert row.stats["builds"] == [str(story.build.pk)]


def test_a_withdrawal_ends_the_streams_that_could_use_it_and_no_others(running, story):
    for engine in running.engines:
        engine.tells_time = True
    with_it = story.order(max_tokens=100_000)
    without = story.order("languages", max_tokens=2_000)
    heard = {}

    def listen(name, order):
        heard[name] = list(clients.stream(running.url, order))

    threads = [
        threading.Thread(target=listen, args=pair) for pair in (("x", with_it), ("y", without))
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: UsageRecord.objects.count() == 2)
    time.sleep(0.1)
    withdrawal = story.withdraw("code")
    enforcement.settle(withdrawal, lambda: None)  # as production does: the clock after the acks
    for thread in threads:
        thread.join(timeout=20)
    withdrawal.refresh_from_db()
    assert withdrawal.quiesced_by == "acks"
    end = heard["x"][-1][1]
    assert (end.finish_reason, end.cause) == (
        FinishReason.CONTENT_FILTER,
        EndCause.CONSENT_WITHDRAWN,
    )
    # The stub writes the instant of release into each word; when a word is read is the reader's.
    released = [float(m.text) for _, m in heard["x"] if isinstance(m, Delta) and m.text]
    assert released
    assert max(released) <= withdrawal.quiesced_at.timestamp()
    assert heard["y"][-1][1].finish_reason is FinishReason.LENGTH
    row = UsageRecord.objects.get(order_id=with_it.order_id)
    assert (row.finish_reason, row.cause) == ("content_filter", "consent_withdrawn")


def test_after_a_withdrawal_the_expert_is_out_of_memory_and_the_report_says_so(running, story):
    withdrawal = story.withdraw("code")

    def is_reported():
        row = RunnerLease.objects.get(incarnation=running.runner.incarnation)
        names = [entry["name"] for entry in row.loaded]
        return row.stats.get("policy_epoch", 0) >= withdrawal.policy_epoch and names == [
            "languages"
        ]

    eventually(is_reported)
    assert running.engines[0].loaded() == {story.ref("languages")}


def test_a_licence_that_reaches_its_written_end_cuts_the_answer_it_carried(
    transactional_db, tmp_path
):
    story = served.served(ends_at=timezone.now() + timedelta(seconds=3))
    one = Running(tmp_path, token_s=0.01).start()
    end = clients.ask(one.url, story.order("code", max_tokens=2_000))[-1]
    one.stop()
    assert end.finish_reason is FinishReason.CONTENT_FILTER
    assert end.tally.completion_tokens < 2_000


def test_ending_a_licence_ends_what_it_carried(running, story):
    order = story.order("code", max_tokens=100_000)
    answer = clients.stream(running.url, order)
    next(answer)
    licence = story.experts["code"].corpus.licences.get()
    licences.end(licence, instrument=Instrument.REVOKE, by=None, at=timezone.now())
    end = list(answer)[-1][1]
    assert end.finish_reason is FinishReason.CONTENT_FILTER


def test_a_stop_ends_the_streams_closes_their_rows_and_the_lease(story, tmp_path):
    one = Running(tmp_path).start()
    order = story.order(max_tokens=100_000)
    answer = clients.stream(one.url, order)
    next(answer)
    threading.Thread(target=one.runner.stop).start()
    list(answer)
    one.stop()
    assert one.ended_well
    assert UsageRecord.objects.get(order_id=order.order_id).closed_at is not None
    assert RunnerLease.objects.get(pk=one.runner.incarnation).closed_at is not None


def test_a_runner_that_is_ending_says_so_begins_nothing_and_lets_answers_end(story, tmp_path):
    one = Running(tmp_path, token_s=0.02, grace_s=20).start()
    answer = clients.stream(one.url, story.order(max_tokens=60))
    next(answer)
    one.runner.stop()
    eventually(lambda: clients.health(one.url)["is_ending"])
    [refused] = clients.ask(one.url, story.order())
    assert (refused.reason, refused.retry) == (RefusalReason.ENDING, True)
    assert list(answer)[-1][1].finish_reason is FinishReason.LENGTH
    one.stop()
    assert one.ended_well
    assert UsageRecord.objects.get().completion_tokens == 60


def test_a_runner_whose_lease_someone_closed_ends_so_that_it_is_started_anew(story, tmp_path):
    one = Running(tmp_path).start()
    leases.close(one.runner.incarnation, at=timezone.now())
    eventually(lambda: one.ended_well is False)


def test_a_usage_row_behind_a_fence_is_never_opened(story):
    """The last net: an expert is quiesced, a runner that missed it all still asks for a row."""
    from worker.runner.meter import Meter

    lease = factories.lease(applied_epoch=1)
    meter = Meter(lease.incarnation)
    order = story.order()
    withdrawal = story.withdraw("code")
    withdrawals.try_settle(withdrawal, waited_s=3600, at=timezone.now())
    refused = meter.open(order)
    assert refused.reason is RefusalReason.STALE_EPOCH


def test_a_row_open_when_the_fence_falls_can_only_be_closed_as_cut_off(story):
    from modelops.contract import Tally
    from worker.runner.meter import Meter

    lease = factories.lease(applied_epoch=1)
    meter = Meter(lease.incarnation)
    order = story.order(order_id=str(uuid4()))
    record = meter.open(order)
    assert isinstance(record, UUID)
    withdrawal = story.withdraw("code")
    withdrawals.try_settle(withdrawal, waited_s=3600, at=timezone.now())
    end = meter.close(record, Done(order.order_id, FinishReason.STOP, Tally(1, 2), 1))
    assert end.finish_reason is FinishReason.CONTENT_FILTER
    assert UsageRecord.objects.get(pk=record).finish_reason == "content_filter"
