"""Quotas: reserved, promised, settled, taken back; never overshot, whatever the code does."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import IntegrityError, ProgrammingError, transaction

from governance.errors import LeaseRefused, NotFound, QuotaSpent
from governance.models import Quota, QuotaSlice, UsageRecord
from governance.services import leases, quotas, usage
from tests import factories
from tests.factories import NOW, after

pytestmark = pytest.mark.django_db


def limited(max_tokens=1_000, max_answers=None, quota_period="month", **fields):
    return factories.licence(
        max_tokens=max_tokens, max_answers=max_answers, quota_period=quota_period, **fields
    )


def reserved(licence, lease, tokens=100, at=NOW):
    return quotas.reserve(licence.reference, incarnation=lease.pk, tokens=tokens, at=at)


def opened(lease, part, tokens, consumer="dara"):
    return usage.open_record(
        incarnation=lease.pk,
        order_id=uuid4(),
        decision_id=uuid4(),
        consumer=consumer,
        purpose="research",
        policy_epoch=1,
        build_digest="0" * 64,
        allowed=["code"],
        licences={"code": part.licence},
        quota_slices=[part.id],
        promised_tokens=tokens,
        at=NOW,
    )


def closed(record, prompt_tokens, completion_tokens, finish_reason="stop"):
    return usage.close_record(
        record.pk,
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        routed={},
        mass={},
        at=after(1),
    )


@pytest.fixture(autouse=True)
def dara():
    return factories.consumer(slug="dara")


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("day", "2027-03-28T23:30:00+02:00", ("2027-03-28", "2027-03-29")),
        ("day", "2027-03-29T01:30:00+02:00", ("2027-03-28", "2027-03-29")),
        ("month", "2028-02-29T23:59:59+00:00", ("2028-02-01", "2028-03-01")),
        ("month", "2027-12-31T00:00:00+00:00", ("2027-12-01", "2028-01-01")),
        ("year", "2027-07-01T00:00:00+00:00", ("2027-01-01", "2028-01-01")),
    ],
)
def test_periods_are_calendar_periods_in_utc(name, at, expected):
    starts_at, ends_at = quotas.period(limited(quota_period=name), datetime.fromisoformat(at))
    assert (starts_at, ends_at) == tuple(
        datetime.fromisoformat(day).replace(tzinfo=UTC) for day in expected
    )


def test_a_term_is_the_whole_licence():
    licence = limited(quota_period="term", ends_at=after(days=400))
    assert quotas.period(licence, NOW) == (licence.starts_at, licence.ends_at)


def test_only_licences_with_a_maximum_are_limited():
    free, tokens, answers = factories.licence(), limited(), limited(None, 5)
    references = [free.reference, tokens.reference, answers.reference]
    assert quotas.limited(references) == {tokens.reference, answers.reference}
    with pytest.raises(NotFound):
        reserved(free, factories.lease())


def test_a_slice_is_at_least_a_share_of_the_quota_and_what_is_needed():
    lease, big, small = factories.lease(), limited(640_000), limited(1_000)
    assert reserved(big, lease, 100).free_tokens == 10_000
    assert reserved(small, lease, 100).free_tokens == 100
    assert reserved(small, lease, 300).free_tokens == 300
    assert Quota.objects.get(licence=small).taken_tokens == 300


def test_reserving_what_is_free_already_takes_nothing_more():
    lease, licence = factories.lease(), limited(640_000)
    reserved(licence, lease, 100)
    assert reserved(licence, lease, 9_000).free_tokens == 10_000
    assert Quota.objects.get().taken_tokens == 10_000


def test_the_quota_ends_where_it_ends():
    one, two, licence = factories.lease(), factories.lease(), limited(1_000)
    part = reserved(licence, one, 700)
    opened(one, part, 700)
    last = reserved(licence, two, 500)
    assert last.free_tokens == 300
    opened(two, last, 300)
    assert reserved(licence, one, 500).free_tokens == 0
    assert Quota.objects.get().taken_tokens == 1_000


def test_what_others_have_free_is_taken_back_when_it_is_needed():
    one, two, licence = factories.lease(), factories.lease(), limited(1_000)
    part = reserved(licence, one, 900)
    opened(one, part, 200)
    assert reserved(licence, two, 800).free_tokens == 800
    with pytest.raises(QuotaSpent):
        opened(one, part, 1)
    assert UsageRecord.objects.count() == 1


def test_answers_are_counted_too():
    lease, licence = factories.lease(), limited(None, max_answers=2)
    part = reserved(licence, lease, 10**6)
    assert (part.free_tokens, part.free_answers) == (None, 1)
    opened(lease, part, 10**6)
    part = reserved(licence, lease, 10**6)
    opened(lease, part, 10**6)
    assert reserved(licence, lease, 1).free_answers == 0
    with pytest.raises(QuotaSpent):
        opened(lease, part, 1)


def test_a_promise_is_settled_with_what_was_taken():
    lease, licence = factories.lease(), limited(1_000)
    part = reserved(licence, lease, 400)
    record = opened(lease, part, 400)
    assert reserved(licence, lease, 100).free_tokens == 100
    closed(record, 30, 20)
    found = QuotaSlice.objects.get()
    assert (found.promised_tokens, found.spent_tokens, found.spent_answers) == (0, 50, 1)
    assert reserved(licence, lease, 100).free_tokens == 450


def test_closing_twice_settles_once():
    lease, licence = factories.lease(), limited(1_000)
    record = opened(lease, reserved(licence, lease, 400), 400)
    closed(record, 30, 20)
    closed(record, 30, 20)
    assert QuotaSlice.objects.get().spent_tokens == 50


def test_an_answer_that_never_began_costs_nothing():
    lease, licence = factories.lease(), limited(1_000, max_answers=3)
    record = opened(lease, reserved(licence, lease, 400), 400)
    closed(record, 0, 0, finish_reason=usage.REFUSED)
    found = QuotaSlice.objects.get()
    assert (found.spent_tokens, found.spent_answers, found.promised_answers) == (0, 0, 0)


def test_what_a_dead_runner_had_promised_is_spent_and_the_rest_goes_back():
    dead, alive, licence = factories.lease(), factories.lease(), limited(1_000)
    part = reserved(licence, dead, 900)
    closed(opened(dead, part, 300), 10, 10)
    opened(dead, part, 200)
    assert quotas.reclaim(at=NOW) == 0  # its lease stands
    leases.close(dead.pk, at=after(60))
    assert quotas.reclaim(at=after(60)) == 0  # its row is open: it may have made those tokens
    assert usage.close_lost(at=after(60)) == 1
    assert quotas.reclaim(at=after(60)) == 1
    assert quotas.reclaim(at=after(61)) == 0
    found = QuotaSlice.objects.get()
    assert (found.spent_tokens, found.promised_tokens, found.returned_tokens) == (220, 0, 680)
    assert Quota.objects.get().taken_tokens == 220
    assert reserved(licence, alive, 780).free_tokens == 780


def test_a_closed_lease_neither_reserves_nor_promises():
    lease, licence = factories.lease(), limited(1_000)
    part = reserved(licence, lease, 500)
    leases.close(lease.pk, at=NOW)
    with pytest.raises(LeaseRefused):
        reserved(licence, lease, 600)
    with pytest.raises(LeaseRefused):
        opened(lease, part, 1)
    quotas.reclaim(at=NOW)
    with pytest.raises(QuotaSpent), transaction.atomic():
        quotas.promise([part.id], incarnation=lease.pk, tokens=1)


def test_nobody_promises_out_of_anothers_slice():
    one, two, licence = factories.lease(), factories.lease(), limited(1_000)
    part = reserved(licence, one, 500)
    with pytest.raises(QuotaSpent):
        opened(two, part, 1)
    assert QuotaSlice.objects.get().promised_tokens == 0


def test_a_new_period_begins_with_a_full_quota():
    lease, licence = factories.lease(), limited(1_000, quota_period="day")
    opened(lease, reserved(licence, lease, 1_000), 1_000)
    assert reserved(licence, lease, 10).free_tokens == 0
    tomorrow = reserved(licence, lease, 1_000, at=after(days=1))
    assert tomorrow.free_tokens == 1_000
    assert not tomorrow.covers(1, after(days=2))


def test_standing_counts_what_is_spent_and_promised_and_says_when_it_is_used_up():
    lease, licence = factories.lease(), limited(1_000)
    assert not quotas.standings([licence.reference], at=NOW)[licence.reference].is_used_up
    part = reserved(licence, lease, 900)
    closed(opened(lease, part, 600), 400, 100)
    opened(lease, reserved(licence, lease, 490), 490)
    found = quotas.standings([licence.reference], at=NOW)[licence.reference]
    assert (found.spent_tokens, found.promised_tokens, found.is_used_up) == (500, 490, True)
    assert quotas.used_up([licence.reference], at=NOW) == {licence.reference}
    assert quotas.used_up([licence.reference], at=after(days=40)) == frozenset()
    assert quotas.standings([factories.licence().reference], at=NOW) == {}


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"reserved_tokens": 1_001}, "quota_tokens_never_overshot"),
        ({"promised_tokens": 501}, "slice_tokens_never_overdrawn"),
        ({"spent_tokens": 401, "promised_tokens": 100}, "slice_tokens_never_overdrawn"),
        ({"returned_tokens": 500}, "slice_tokens_never_overdrawn"),
        ({"spent_tokens": 99}, "never_undone"),
    ],
)
def test_the_database_itself_refuses_an_overshoot(change, refusal):
    lease, licence = factories.lease(), limited(1_000)
    closed(opened(lease, reserved(licence, lease, 500), 100), 60, 40)
    with pytest.raises((IntegrityError, ProgrammingError), match=refusal), transaction.atomic():
        QuotaSlice.objects.update(**change)


def test_the_maxima_are_the_licences_own_and_stay():
    licence = limited(1_000)
    quota = Quota.objects.create(licence=licence, starts_at=NOW, max_tokens=10**9)
    quota.refresh_from_db()
    assert quota.max_tokens == 1_000
    with pytest.raises(ProgrammingError, match="never_changed"), transaction.atomic():
        Quota.objects.update(max_tokens=2_000)
