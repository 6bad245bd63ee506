"""The lease protocol under any order of events: the laws I1 to I9 of the trust design, section 2.4.

Everything is the product's own: lease holder, registry, leases, withdrawals, usage rows, quotas
and certificates, on the real database. Only the clocks and the way to the database are the
test's: each party's clock has its own rate, replies are lost or late, runners and coordinators
die, and a standby that has a prefix of what was committed takes over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from unittest.mock import patch
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from governance.errors import GovernanceError, LeaseRefused, NotFound, StalePolicy, UnlawfulMove
from governance.models import (
    LogCheckpoint,
    Quota,
    UsageRecord,
    Withdrawal,
)
from governance.services import certificates, leases, quotas, snapshots, usage, withdrawals
from governance.services.leases import CLOCK_MARGIN
from governance.vocabulary import CertificateStage
from modelops.contract import GenerationOrder
from tests.governance import stories
from tests.worker import served
from worker.runner.lease import HeldWarrant, LeaseHolder
from worker.runner.registry import DatabaseRegistry

LEASE_S = 10.0
RUNNERS, EXPERTS = ("a", "b"), ("code", "languages")
QUOTA_TOKENS, ANSWER_TOKENS = 100, 40
BEGIN_S = 1_000.0

HAPPENINGS = ("0.1 s", "5 s", "10.2 s", "withdraw", "settle", "failover")
happenings = st.sampled_from(
    [found for count in range(3) for found in itertools.product(HAPPENINGS, repeat=count)]
)


class Lost(ConnectionError):
    """The reply never came."""


class Line(DatabaseRegistry):
    """The registry of one incarnation, over a line that may lose replies or hold them back."""

    def __init__(self, laws: ProtocolLaws, name: str) -> None:
        super().__init__(uuid4(), runner=name, lease_s=LEASE_S)
        self.laws, self.luck, self.meanwhile = laws, "", list[str]()

    def renew(self, applied_epoch: int) -> leases.Renewal:
        renewal = self.granted(applied_epoch)
        self.laws.let_happen(self.meanwhile)
        if self.luck == "lost":
            raise Lost
        return renewal

    def granted(self, applied_epoch: int) -> leases.Renewal:
        return super().renew(applied_epoch)

    def ack(self, policy_epoch: int) -> None:
        if self.luck == "unacknowledged":
            raise Lost
        super().ack(policy_epoch)


@dataclass
class Answer:
    """An answer being written: its order, its usage row, what it was last checked under."""

    order: GenerationOrder
    record_id: UUID
    checked_epoch: int
    tokens: int = 0


@dataclass
class Runner:
    line: Line
    holder: LeaseHolder
    answers: list[Answer] = field(default_factory=list)
    asked_s: float = 0.0
    seen_epoch: int = 0


class ProtocolLaws(RuleBasedStateMachine):
    """Two runners, two experts of which one has a quota, one coordinator, and bad luck."""

    story: served.Served
    reference: str
    log: object
    line_of = Line
    holder_of = LeaseHolder
    checks_after_computing = True

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.now_s = BEGIN_S
        self.has_failed_over = False
        self.runners: dict[str, Runner] = {}
        self.waits: dict[str, tuple[Withdrawal, float]] = {}
        self.effective: set[str] = set()
        self.released = 0

    @initialize(rates=st.tuples(*[st.sampled_from([0.99, 1.0, 1.01])] * 3))
    def begin(self, rates):
        self.start = timezone.now()
        self.stack.enter_context(patch("django.utils.timezone.now", self.wall))
        # It would give up the connection, and with it the story's transaction.
        self.stack.enter_context(patch("worker.runner.registry.kept_connection", nullcontext))
        self.stack.enter_context(transaction.atomic())
        self.stack.callback(transaction.set_rollback, True)
        self.take_shortcut()
        self.rates = dict(zip((*RUNNERS, "coordinator"), rates, strict=True))
        for name in RUNNERS:
            self.restart(name)
        self.standby = transaction.savepoint()

    def take_shortcut(self) -> None:
        """What a mutant does differently by patching."""

    def teardown(self) -> None:
        with self.stack:
            self.liveness()

    def wall(self):
        return self.start + timedelta(seconds=self.now_s - BEGIN_S)

    def clock_ns(self, name: str) -> Callable[[], int]:
        return lambda: int(self.now_s * self.rates[name] * 1e9)

    def enter_history(self, *, timeline: int) -> None:
        """From now on the server says that it is on this timeline."""
        server = leases.history().split("/")[0]
        before, now = leases.HISTORY, f"'{server}/{timeline:08}'"
        for module, name in ((leases, "_GRANT"), (withdrawals, "_LOOK"), (leases, "HISTORY")):
            told = getattr(module, name)
            assert before in told
            self.stack.enter_context(patch.object(module, name, told.replace(before, now)))

    def restart(self, name: str) -> None:
        line = self.line_of(self, name)
        holder = self.holder_of(
            line,
            lease_s=LEASE_S,
            withdraw=lambda ref, _: self.end_streams(name, ref.name),
            clock_ns=self.clock_ns(name),
            now=self.wall,
        )
        self.runners[name] = Runner(line, holder)

    def let_happen(self, what: list[str]) -> None:
        while what:
            match what.pop(0):
                case "withdraw":
                    self.press()
                case "settle":
                    self.look()
                case "failover":
                    self.fail_over()
                case wait:
                    self.now_s += float(wait.split()[0])

    # ── What may happen ──────────────────────────────────────────────────────────────────────────
    @rule(what=st.sampled_from(HAPPENINGS))
    def world(self, what):
        self.let_happen([what])

    @rule(
        name=st.sampled_from(RUNNERS),
        luck=st.sampled_from(["", "", "lost", "unacknowledged"]),
        meanwhile=happenings,
    )
    def renew(self, name, luck, meanwhile):
        runner = self.runners[name]
        runner.line.luck, runner.line.meanwhile = luck, list(meanwhile)
        runner.asked_s = self.now_s
        try:
            runner.holder.renew_once()
        except LeaseRefused:
            if (
                runner.line.is_closed()
            ):  # else its row was lost, and the next renewal brings it back
                self.restart(name)
        except Lost:
            pass

    @rule(name=st.sampled_from(RUNNERS), with_both=st.booleans())
    def begin_answer(self, name, with_both):
        runner = self.runners[name]
        warrant = runner.holder.warrant()
        if warrant is None:
            return
        order = self.story.order(*(EXPERTS if with_both else EXPERTS[:1]))
        allowed = runner.holder.permits(order, warrant)
        if allowed != set(order.allowed):
            return
        with suppress(GovernanceError):
            record = self.opened(runner, order, warrant)
            runner.answers.append(Answer(order, record.pk, warrant.policy_epoch))

    def opened(self, runner: Runner, order: GenerationOrder, warrant: HeldWarrant) -> UsageRecord:
        is_limited = "languages" in {ref.name for ref in order.allowed}
        parts = self.promised(runner) if is_limited else []
        return usage.open_record(
            incarnation=runner.line.incarnation,
            order_id=UUID(order.order_id),
            decision_id=UUID(order.decision_id),
            consumer="dara",
            purpose="research",
            policy_epoch=warrant.policy_epoch,
            build_digest=order.build_digest,
            allowed=[ref.name for ref in order.allowed],
            quota_slices=parts,
            promised_tokens=ANSWER_TOKENS if parts else 0,
            at=self.wall(),
        )

    def promised(self, runner: Runner) -> list[UUID]:
        found = quotas.reserve(
            self.reference,
            incarnation=runner.line.incarnation,
            tokens=ANSWER_TOKENS,
            at=self.wall(),
        )
        return [found.id]

    @rule(name=st.sampled_from(RUNNERS), while_computing=happenings)
    def step(self, name, while_computing):
        runner = self.runners[name]
        warrant = runner.holder.warrant()  # D1
        for answer in list(runner.answers):
            if warrant is None:
                self.cut(runner, answer)
            elif answer.checked_epoch != warrant.policy_epoch:  # D2
                answer.checked_epoch = warrant.policy_epoch
                if runner.holder.permits(answer.order, warrant) != set(answer.order.allowed):
                    self.cut(runner, answer)
        self.let_happen(list(while_computing))  # D3
        for answer in list(runner.answers):
            assert warrant is not None
            if not self.checks_after_computing or runner.holder.holds(warrant):  # D4
                self.release(name, answer)

    def release(self, name: str, answer: Answer) -> None:
        late = self.effective & {ref.name for ref in answer.order.allowed}
        assert not late, f"I1: {name} released a token with {late} at {self.now_s}"
        if answer.tokens < ANSWER_TOKENS:
            answer.tokens += 20
            self.released += 20 * (len(answer.order.allowed) > 1)

    @rule(name=st.sampled_from(RUNNERS))
    def end_answer(self, name):
        runner = self.runners[name]
        if runner.answers:
            answer = runner.answers.pop(0)
            try:
                self.close(answer, "stop")
            except StalePolicy:
                self.close(answer, "content_filter")

    def cut(self, runner: Runner, answer: Answer) -> None:
        runner.answers.remove(answer)
        self.close(answer, "content_filter")

    def end_streams(self, name: str, expert: str) -> None:
        runner = self.runners[name]
        for answer in list(runner.answers):
            if expert in {ref.name for ref in answer.order.allowed}:
                self.cut(runner, answer)

    def close(self, answer: Answer, finish_reason: str) -> None:
        with suppress(NotFound):  # the standby never had the row
            usage.close_record(
                answer.record_id, finish_reason=finish_reason, prompt_tokens=0,
                completion_tokens=answer.tokens, routed={}, mass={}, at=self.wall(),
            )  # fmt: skip

    @rule(
        what=st.sampled_from(
            ["a dies", "b dies", "a leaves", "coordinator dies", "policy", "upkeep"]
        )
    )
    def trouble(self, what):
        name = what[0]
        if what == "upkeep":
            usage.close_lost(at=self.wall())
            quotas.reclaim(at=self.wall())
        elif what == "policy":
            snapshots.publish(reason="another act", at=self.wall())
        elif what == "coordinator dies":
            self.waits = {expert: (row, self.now_s) for expert, (row, _) in self.waits.items()}
        else:
            if what == "a leaves":
                for answer in list(self.runners[name].answers):
                    self.cut(self.runners[name], answer)
                self.runners[name].line.close()
            self.restart(name)

    @rule()
    def replicate(self):
        self.standby = transaction.savepoint()

    @rule()
    def certify(self):
        for row in Withdrawal.objects.all():
            with suppress(UnlawfulMove):
                made = certificates.issue(
                    row, stage=CertificateStage.BLOCKED, signer=stories.signer_of(2),
                    at=self.wall(), log=self.log,
                )  # fmt: skip
                row.refresh_from_db()
                assert row.quiesced_at is not None, "I8"
                assert made.leaf_index < LogCheckpoint.objects.first().size, "I8"

    def press(self) -> None:
        """The owner withdraws; it is confirmed once the standby has it."""
        left = [name for name in EXPERTS if not Withdrawal.objects.filter(expert__name=name)]
        if left:
            self.waits[left[0]] = (self.story.withdraw(left[0]), self.now_s)
            self.standby = transaction.savepoint()

    def look(self) -> None:
        for expert, (row, seen_s) in list(self.waits.items()):
            waited_s = (self.now_s - seen_s) * self.rates["coordinator"]
            if withdrawals.try_settle(row, waited_s=waited_s, at=self.wall()):
                row.refresh_from_db()
                for line in row.settled:
                    is_over = waited_s >= LEASE_S * (1 + CLOCK_MARGIN)
                    is_acked = line["applied_epoch"] >= row.policy_epoch
                    assert is_acked or line["how"] == "closed" or is_over, f"I3: {line}"
                self.effective.add(expert)
                del self.waits[expert]

    def fail_over(self) -> None:
        """The standby takes over; the coordinator sees another history and waits anew."""
        if not self.has_failed_over:
            self.has_failed_over = True
            transaction.savepoint_rollback(self.standby)
            self.enter_history(timeline=2)
            self.waits = {expert: (row, self.now_s) for expert, (row, _) in self.waits.items()}

    # ── What must hold ───────────────────────────────────────────────────────────────────────────
    @invariant()
    def epochs_never_decrease(self):
        for runner in self.runners.values():
            held = runner.holder.warrant()
            if held is not None:
                assert held.policy_epoch >= runner.seen_epoch, "I2"
                runner.seen_epoch = held.policy_epoch

    @invariant()
    def a_lease_counts_from_before_it_was_asked_for(self):
        for name, runner in self.runners.items():
            held = runner.holder.warrant()
            if held is not None:
                granted_ns = (runner.asked_s * self.rates[name] + LEASE_S) * 1e9
                assert held.deadline_ns <= granted_ns, "I4"

    @invariant()
    def without_a_lease_nothing_is_permitted(self):
        for runner in self.runners.values():
            held = runner.holder.warrant()
            is_valid = held is not None and runner.holder.holds(held)
            assert is_valid or runner.holder.warrant() is None, "I5"

    @invariant()
    def no_number_is_missing(self):
        rows = UsageRecord.objects.order_by("incarnation", "gw_seq")
        numbers: dict[UUID, list[int]] = {}
        for incarnation, number in rows.values_list("incarnation", "gw_seq"):
            numbers.setdefault(incarnation, []).append(number)
        for found in numbers.values():
            assert found == list(range(1, len(found) + 1)), "I7"

    @invariant()
    def no_quota_is_overdrawn(self):
        for quota in Quota.objects.all():
            assert quota.taken_tokens <= QUOTA_TOKENS, "I9"
            spent = sum(one.spent_tokens + one.promised_tokens for one in quota.slices.all())
            assert spent <= QUOTA_TOKENS, "I9"
        assert self.has_failed_over or self.released <= QUOTA_TOKENS, "I9"

    def liveness(self) -> None:
        """I6: whatever happened, a coordinator that goes on settles every withdrawal in time."""
        if self.waits:
            self.now_s += LEASE_S * (1 + CLOCK_MARGIN) / self.rates["coordinator"] + 0.001
            self.look()
            assert not self.waits, "I6"
