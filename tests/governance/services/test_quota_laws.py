"""I9, in every order of things: Σ slices + spent never exceeds the quota, and nothing is lost.

The machine plays three runners that reserve, open, close, die and are cleared away, while an
auditor that knows only the usage rows adds up what they charge.
"""

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from governance.errors import LeaseRefused, QuotaSpent
from governance.models import Quota, QuotaSlice, RunnerLease, UsageRecord
from governance.services import leases, quotas, usage
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

MAX_TOKENS, MAX_ANSWERS, RUNNERS = 1_000, 12, 3
runners = st.integers(0, RUNNERS - 1)
tokens = st.integers(1, 400)


class Runners(RuleBasedStateMachine):
    """Three runners on one quota."""

    def __init__(self):
        super().__init__()
        self.licence = factories.licence(
            max_tokens=MAX_TOKENS, max_answers=MAX_ANSWERS, quota_period="term"
        )
        self.consumer = factories.consumer()
        self.leases = [factories.lease() for _ in range(RUNNERS)]
        self.held = [None] * RUNNERS
        self.open = []
        self.made = 0

    @rule(number=runners, wanted=tokens)
    def reserve(self, number, wanted):
        lease = self.leases[number]
        try:
            self.held[number] = quotas.reserve(
                self.licence.reference, incarnation=lease.pk, tokens=wanted, at=NOW
            )
        except LeaseRefused:
            assert RunnerLease.objects.get(pk=lease.pk).closed_at is not None

    @rule(number=runners, worst=tokens)
    def begin(self, number, worst):
        """An answer begins on what the runner believes it holds, however old that belief."""
        part = self.held[number]
        if part is None:
            return
        try:
            row = usage.open_record(
                incarnation=self.leases[number].pk,
                order_id=uuid4(),
                decision_id=uuid4(),
                consumer=self.consumer.slug,
                purpose="research",
                policy_epoch=1,
                build_digest="0" * 64,
                allowed=["code"],
                licences={"code": self.licence.reference},
                quota_slices=[part.id],
                promised_tokens=worst,
                at=NOW,
            )
        except (QuotaSpent, LeaseRefused):
            return
        self.open.append([row, worst, 0])

    @rule(share=st.floats(0, 1))
    def make_tokens(self, share):
        """Tokens leave; never more than were promised."""
        for answer in self.open:
            more = int((answer[1] - answer[2]) * share)
            answer[2] += more
            self.made += more

    @rule(is_refused=st.booleans())
    def end(self, is_refused):
        if not self.open:
            return
        row, _, made = self.open.pop(0)
        refused = is_refused and made == 0
        usage.close_record(
            row.pk,
            finish_reason=usage.REFUSED if refused else "stop",
            prompt_tokens=0,
            completion_tokens=made,
            routed={},
            mass={},
            at=NOW,
        )

    @rule(number=runners)
    def die(self, number):
        """A runner is killed; one of its answers may be half made. Its lease runs out."""
        lease = self.leases[number]
        leases.close(lease.pk, at=NOW)
        self.open = [answer for answer in self.open if answer[0].incarnation_id != lease.pk]

    @rule()
    def clear_rows(self):
        usage.close_lost(at=NOW)

    @rule()
    def reclaim(self):
        quotas.reclaim(at=NOW)

    @rule(number=runners)
    def start_anew(self, number):
        if RunnerLease.objects.get(pk=self.leases[number].pk).closed_at is not None:
            self.leases[number], self.held[number] = factories.lease(), None

    @invariant()
    def nothing_is_overshot_and_nothing_lost(self):
        quota = Quota.objects.filter(licence=self.licence).first()
        if quota is None:
            return
        slices = list(QuotaSlice.objects.filter(quota=quota))
        held = sum(one.reserved_tokens - one.returned_tokens for one in slices)
        assert quota.taken_tokens == held <= MAX_TOKENS
        assert quota.taken_answers <= MAX_ANSWERS
        rows = list(UsageRecord.objects.filter(consumer=self.consumer))
        done = [row for row in rows if row.closed_at is not None]
        charged = sum(
            row.promised_tokens if row.finish_reason == usage.LOST else row.completion_tokens
            for row in done
        )
        assert sum(one.spent_tokens for one in slices) == charged
        promised = sum(row.promised_tokens for row in rows if row.closed_at is None)
        assert sum(one.promised_tokens for one in slices) == promised
        assert self.made <= charged + promised <= MAX_TOKENS
        answers = sum(row.finish_reason != usage.REFUSED for row in done)
        assert sum(one.spent_answers for one in slices) == answers <= MAX_ANSWERS


def test_no_order_of_things_overshoots_a_quota():
    run_state_machine_as_test(
        Runners,
        settings=settings(
            max_examples=10,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_shortcut_is_caught(monkeypatch):
    """Mutant: what a dead runner left open is believed to have taken nothing."""
    world = Runners()
    world.reserve(0, 400)
    world.begin(0, 400)
    world.make_tokens(1.0)
    world.nothing_is_overshot_and_nothing_lost()
    settle = quotas.settle
    monkeypatch.setattr(
        quotas,
        "settle",
        lambda slices, promised, tokens: settle(slices, promised=promised, tokens=0),
    )
    world.die(0)
    world.clear_rows()
    with pytest.raises(AssertionError):
        world.nothing_is_overshot_and_nothing_lost()
