"""The laws of the lease protocol hold in any order of events, and each shortcut breaks one."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from governance.models import RunnerLease
from governance.services import usage, withdrawals
from tests.governance import stories
from tests.worker import served
from tests.worker.runner.laws import QUOTA_TOKENS, Line, ProtocolLaws
from worker.runner.lease import LeaseHolder

pytestmark = pytest.mark.django_db


# ── The shortcuts ────────────────────────────────────────────────────────────────────────────────


class AcknowledgingLine(Line):
    def granted(self, applied_epoch):
        renewal = super().granted(applied_epoch)
        mine = RunnerLease.objects.filter(pk=self.incarnation)
        mine.update(applied_epoch=renewal.policy_epoch)
        return renewal


class EarlyAck(ProtocolLaws):
    """What is fetched is acknowledged by the fetch."""

    line_of = AcknowledgingLine


class GenerousHolder(LeaseHolder):
    def _swap(self, snapshot, asked_ns):
        super()._swap(snapshot, self._clock_ns())


class DeadlineFromReply(ProtocolLaws):
    """The lease counts from when the reply came."""

    a_lease_counts_from_before_it_was_asked_for = None
    holder_of = GenerousHolder


class NoCheckAfterComputing(ProtocolLaws):
    """What was computed leaves, whatever happened meanwhile."""

    checks_after_computing = False


class AcksAfterFailover(ProtocolLaws):
    """Acknowledgements count at once where lease rows may have been lost."""

    def take_shortcut(self):
        self.stack.enter_context(patch.object(withdrawals, "_rows_are_whole", lambda _: True))


class CredulousLine(Line):
    def granted(self, applied_epoch):
        self._history = ""
        renewal = super().granted(applied_epoch)
        is_same = renewal.policy_epoch == applied_epoch
        return replace(renewal, body=None if is_same else renewal.body)


class NumberAlone(ProtocolLaws):
    """Policy of the same epoch number is taken for the same policy, in whatever history."""

    line_of = CredulousLine


class NothingPromised(ProtocolLaws):
    """An answer is begun without a promise out of the quota."""

    def promised(self, runner):
        return []


class NumberTakenInVain(ProtocolLaws):
    """A number is used up by an answer that was then not begun."""

    def opened(self, runner, order, warrant):
        usage._next_sequence(runner.line.incarnation)
        return super().opened(runner, order, warrant)


@pytest.fixture
def laws(db, tmp_path):
    """A kind of laws, in the world where `languages` has a quota."""
    story = served.served()
    told = {
        "story": story,
        "reference": story.limit("languages", max_tokens=QUOTA_TOKENS),
        "log": stories.a_log(tmp_path / "log"),
    }
    return lambda kind: type(kind.__name__, (kind,), told)


def test_the_laws_hold_whatever_happens(laws):
    run_state_machine_as_test(
        laws(ProtocolLaws),
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


# Each story is one that the shortcut gets wrong; all else about it is as the product does it.
def withdrawal_and_a_lost_reply(play):
    play.renew("a", "", ())
    play.begin_answer("a", False)
    play.world("withdraw")
    play.renew("a", "lost", ())
    play.world("settle")
    play.step("a", ())


def withdrawal_while_the_reply_travels(play):
    play.renew("a", "", ())
    play.begin_answer("a", False)
    play.renew("a", "", ("withdraw", "10.2 s", "settle"))
    play.step("a", ())


def withdrawal_while_it_computes(play):
    play.renew("a", "", ())
    play.begin_answer("a", False)
    play.step("a", ("withdraw", "10.2 s", "settle"))


def withdrawal_after_a_failover_that_lost_the_lease_row(play):
    play.renew("a", "", ())
    play.begin_answer("a", False)
    play.world("failover")
    play.world("withdraw")
    play.world("settle")
    play.step("a", ())


def withdrawal_under_a_number_that_stood_for_other_policy(play):
    play.trouble("policy")
    play.renew("a", "", ())
    play.begin_answer("a", False)
    play.world("failover")
    play.world("withdraw")
    play.world("5 s")
    play.renew("a", "", ())
    play.world("5 s")
    play.world("0.1 s")
    play.world("settle")
    play.step("a", ())


def three_answers_for_a_quota_of_two(play):
    play.renew("a", "", ())
    play.renew("b", "", ())
    for name in ("a", "a", "b"):
        play.begin_answer(name, True)
    for name in ("a", "b", "a", "b"):
        play.step(name, ())
    play.no_quota_is_overdrawn()


def an_answer(play):
    play.renew("a", "", ())
    play.begin_answer("a", False)
    play.no_number_is_missing()


SHORTCUTS = [
    (EarlyAck, withdrawal_and_a_lost_reply, "I1"),
    (DeadlineFromReply, withdrawal_while_the_reply_travels, "I1"),
    (NoCheckAfterComputing, withdrawal_while_it_computes, "I1"),
    (AcksAfterFailover, withdrawal_after_a_failover_that_lost_the_lease_row, "I1"),
    (NumberAlone, withdrawal_under_a_number_that_stood_for_other_policy, "I1"),
    (NothingPromised, three_answers_for_a_quota_of_two, "I9"),
    (NumberTakenInVain, an_answer, "I7"),
]


@pytest.mark.parametrize(("shortcut", "story", "law"), SHORTCUTS)
def test_each_shortcut_breaks_a_law_that_holds_without_it(laws, shortcut, story, law):
    played(laws(ProtocolLaws)(), story)
    with pytest.raises(AssertionError, match=law):
        played(laws(shortcut)(), story)


def played(play, story):
    play.begin((1.0, 1.0, 1.0))
    try:
        story(play)
    finally:
        play.teardown()
