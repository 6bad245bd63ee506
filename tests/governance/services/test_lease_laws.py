"""The lease protocol under any order of events: the laws I1 to I5 of the trust design, section 2.4.

The database side is the real one; runners and the coordinator are models with a clock of their
own, whose rates may differ by the margin the protocol allows. Replies may be lost or late, runners
may pause, crash and come back, and so may the coordinator.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from governance.errors import LeaseRefused
from governance.models import ExpertFence, PolicySnapshot, RunnerLease
from governance.services import leases, locks, withdrawals
from governance.services.leases import CLOCK_MARGIN
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

LEASE_S = 10.0
RUNNERS, EXPERTS = ("a", "b"), ("x", "y")


@dataclass
class Runner:
    """What one runner knows. `deadline_s` is in true seconds, as its clock of `rate` makes it."""

    rate: float
    incarnation: UUID = field(default_factory=uuid4)
    held: int = 0
    deadline_s: float = -1.0
    asked_s: float = 0.0
    replies: list[tuple[int, float]] = field(default_factory=list)


class LeaseLaws(RuleBasedStateMachine):
    """Two runners, two experts, one coordinator, and bad luck."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = transaction.atomic()
        self.outer._from_testcase = True  # renewals insist on a transaction of their own
        self.outer.__enter__()
        self.now_s = 0.0
        self.epoch = 0
        self.ended: dict[str, int] = {}
        self.open: dict[str, tuple[object, float]] = {}
        self.quiesced: set[str] = set()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.outer.__exit__(None, None, None)

    @initialize(rates=st.tuples(*[st.sampled_from([0.99, 1.0, 1.01])] * 3))
    def begin(self, rates):
        self.publish()
        self.runners = {name: Runner(rate) for name, rate in zip(RUNNERS, rates[:2], strict=True)}
        self.coordinator_rate = rates[2]

    @property
    def at(self):
        return NOW + timedelta(seconds=self.now_s)

    def publish(self):
        self.epoch += 1
        factories.snapshot(self.epoch)

    # ── What may happen ──────────────────────────────────────────────────────────────────────────
    # Few rules, each with its own luck, so that a short story already has all that can go wrong.
    @rule(seconds=st.sampled_from([0.1, 5.0, 10.1]))
    def time_passes(self, seconds):
        self.now_s += seconds

    @rule(name=st.sampled_from(RUNNERS), luck=st.sampled_from(["acked", "swapped", "late", "lost"]))
    def renew(self, name, luck):
        runner, asked_s = self.runners[name], self.now_s
        try:
            renewal = self.renewed(runner, name)
        except LeaseRefused:
            self.runners[name] = Runner(runner.rate)
            return
        runner.replies.append((renewal.policy_epoch, asked_s))
        if luck == "lost":
            runner.replies.pop()
        elif luck != "late":
            self.reply_arrives(name)
            if luck == "acked":
                self.ack(name)

    def renewed(self, runner, name):
        return leases.renew(
            runner.incarnation,
            runner=name,
            applied_epoch=runner.held,
            lease_s=LEASE_S,
            started_at=NOW,
            at=self.at,
        )

    @rule(name=st.sampled_from(RUNNERS))
    def reply_arrives(self, name):
        runner = self.runners[name]
        if runner.replies:
            epoch, asked_s = runner.replies.pop(0)
            if epoch < runner.held:
                runner.deadline_s = -1.0
                return
            runner.held, runner.asked_s = epoch, asked_s
            runner.deadline_s = self.deadline_s(runner, asked_s)

    def deadline_s(self, runner, asked_s):
        return asked_s + LEASE_S * (1 - CLOCK_MARGIN) / runner.rate

    @rule(name=st.sampled_from(RUNNERS))
    def ack(self, name):
        runner = self.runners[name]
        if runner.held:
            try:
                leases.ack(runner.incarnation, policy_epoch=runner.held, at=self.at)
            except LeaseRefused:
                self.runners[name] = Runner(runner.rate)

    @rule(what=st.sampled_from(["a crashes", "b crashes", "a closes", "coordinator", "policy"]))
    def trouble(self, what):
        name = what[0]
        if what == "policy":
            with locks.policy_act():
                self.publish()
        elif what == "coordinator":
            self.open = {expert: (row, self.now_s) for expert, (row, _) in self.open.items()}
        else:
            if what == "a closes":
                leases.close(self.runners[name].incarnation, at=self.at)
            self.runners[name] = Runner(self.runners[name].rate)

    @precondition(lambda self: len(self.ended) < len(EXPERTS))
    @rule()
    def withdraw(self):
        expert = EXPERTS[len(self.ended)]
        with locks.policy_act():
            self.publish()
            row = factories.withdrawal(policy_epoch=self.epoch, committed_at=self.at)
            ExpertFence.objects.create(
                expert=row.expert, expert_name=row.expert.name, revoked_epoch=self.epoch
            )
        self.ended[expert] = self.epoch
        self.open[expert] = (row, self.now_s)

    @rule()
    def settle(self):
        for expert, (row, seen_s) in list(self.open.items()):
            waited_s = (self.now_s - seen_s) * self.coordinator_rate
            if withdrawals.try_settle(row, waited_s=waited_s, at=self.at):
                row.refresh_from_db()
                self.check_settled(row, waited_s)
                self.quiesced.add(expert)
                del self.open[expert]

    def check_settled(self, row, waited_s):
        is_waited = waited_s >= LEASE_S * (1 + CLOCK_MARGIN)
        for line in row.settled:
            is_acked = line["applied_epoch"] >= row.policy_epoch
            assert is_acked or line["how"] == "closed" or is_waited, f"I3: {line}"

    # ── What must hold ───────────────────────────────────────────────────────────────────────────
    def may_use(self, runner, expert):
        is_permitted = runner.held < self.ended.get(expert, 1 << 62)
        return is_permitted and self.now_s < runner.deadline_s

    @invariant()
    def no_lease_reaches_past_a_settlement(self):
        for expert in self.quiesced:
            for name, runner in self.runners.items():
                assert not self.may_use(runner, expert), f"I1: {name} could use {expert}"

    @invariant()
    def epochs_never_decrease(self):
        epochs = list(PolicySnapshot.objects.order_by("published_at").values_list("pk", flat=True))
        assert sorted(epochs) == list(range(1, self.epoch + 1)), "I2"
        for runner in getattr(self, "runners", {}).values():
            assert runner.held <= self.epoch, "I2"

    @invariant()
    def no_lease_outlives_its_grant(self):
        for runner in getattr(self, "runners", {}).values():
            assert runner.deadline_s <= runner.asked_s + LEASE_S + 1e-6, "I4"

    @invariant()
    def nothing_is_acknowledged_that_is_not_held(self):
        applied = dict(RunnerLease.objects.values_list("incarnation", "applied_epoch"))
        for runner in getattr(self, "runners", {}).values():
            is_live = self.now_s < runner.deadline_s
            assert not is_live or applied.get(runner.incarnation, 0) <= runner.held, "early ack"


class EarlyAck(LeaseLaws):
    """Mutant: what is fetched is acknowledged in the same transaction."""

    nothing_is_acknowledged_that_is_not_held = None

    def renewed(self, runner, name):
        renewal = super().renewed(runner, name)
        RunnerLease.objects.filter(pk=runner.incarnation).update(applied_epoch=renewal.policy_epoch)
        return renewal


class DeadlineFromReply(LeaseLaws):
    """Mutant: the deadline counts from when the reply arrived."""

    no_lease_outlives_its_grant = None

    def deadline_s(self, runner, asked_s):
        return super().deadline_s(runner, self.now_s)


def tried(machine, examples, steps=25):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_laws_hold_whatever_happens():
    tried(LeaseLaws, 40)


@pytest.mark.slow
def test_the_laws_hold_for_longer():
    tried(LeaseLaws, 80, steps=50)


def test_mutant_early_ack_breaks_them():
    with pytest.raises(AssertionError, match="I1"):
        tried(EarlyAck, 200)


def told(machine):
    """A reply so late that its whole lease has passed meanwhile; I1 looked at after the end."""
    try:
        machine.begin((1.0, 1.0, 1.0))
        machine.renew("a", "late")
        machine.withdraw()
        machine.time_passes(10.1)
        machine.reply_arrives("a")
        machine.settle()
        assert machine.quiesced == {"x"}
        machine.no_lease_reaches_past_a_settlement()
    finally:
        machine.teardown()


def test_a_late_reply_brings_no_lease_back():
    told(LeaseLaws())


def test_mutant_deadline_from_the_reply_brings_one_back():
    with pytest.raises(AssertionError, match="I1"):
        told(DeadlineFromReply())
