"""The lease: what it lets out and when, and that each plausible shortcut lets out too much."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.errors import LeaseRefused, StalePolicy
from modelops.contract import Warrant
from tests.worker.policies import ASK, BEGIN, order, ref, snapshot
from tests.worker.runner.world import (
    LEASE_S,
    Answer,
    DeadlineFromReply,
    EarlyAck,
    FakeRegistry,
    LateToken,
    NoSharedLock,
    ReplyLost,
    World,
    X,
    decode,
    holder,
)
from worker.runner.lease import LeaseHolder, ask_of, boottime_ns, vanished_experts


@pytest.fixture
def world():
    return World()


def test_nothing_is_warranted_before_the_first_renewal(world):
    held = holder(world)
    assert held.warrant() is None
    held.renew_once()
    assert held.warrant().policy_epoch == 1
    assert held.warrant().live == {ref("code"), ref("languages")}


def test_the_lease_ends_one_percent_early_counted_from_before_the_request(world):
    world.when("written", lambda: world.tick(3))
    held = holder(world)
    held.renew_once()
    assert held.warrant().deadline_ns == int((1000 + LEASE_S * 0.99) * 1e9)
    world.tick(LEASE_S * 0.99 - 3)
    assert held.warrant() is None


def test_a_warrant_stands_through_a_renewal_of_the_same_epoch_and_not_past_the_deadline(world):
    held = holder(world)
    held.renew_once()
    old = held.warrant()
    world.tick(5)
    held.renew_once()
    world.tick(6)
    assert held.holds(old)
    world.tick(6)
    assert not held.holds(old)


def test_a_new_epoch_ends_every_older_warrant_at_once(world):
    held = holder(world)
    held.renew_once()
    old = held.warrant()
    world.withdraw()
    held.renew_once()
    assert not held.holds(old)
    assert X not in held.warrant().live


def test_the_engine_withdraws_after_the_swap_and_before_the_acknowledgement(world):
    told = []
    registry = FakeRegistry(world)

    def withdraw(gone, policy_epoch):
        told.append((gone, policy_epoch, held.warrant().policy_epoch, list(registry.acks)))

    held = holder(world, registry, withdraw=withdraw)
    held.renew_once()
    world.withdraw()
    held.renew_once()
    assert told == [(X, 2, 2, [1])]
    assert registry.acks == [1, 2]


def test_words_of_the_epoch_before_leave_until_the_acknowledgement(world):
    told = []

    class Looking(FakeRegistry):
        def ack(self, policy_epoch):
            told.append(held.lets_out())
            super().ack(policy_epoch)

    held = holder(world, Looking(world), withdraw=lambda *_: told.append(held.lets_out()))
    held.renew_once()
    world.withdraw()
    held.renew_once()
    assert told == [False, True, False]


def test_words_of_the_epoch_before_never_leave_beyond_its_own_deadline(world):
    def stuck(*_):
        raise RuntimeError("stuck")

    held = holder(world, withdraw=stuck)
    held.renew_once()
    world.withdraw()
    for is_in_time in (True, False):
        with pytest.raises(RuntimeError):
            held.renew_once()
        assert held.warrant().policy_epoch == 2
        assert held.lets_out() is is_in_time
        world.tick(LEASE_S * 0.99)


def test_an_engine_that_cannot_withdraw_is_never_acknowledged_not_even_by_the_next_renewal(world):
    broken = [True]

    def withdraw(*_):
        if broken[0]:
            raise RuntimeError("stuck")

    registry = FakeRegistry(world)
    held = holder(world, registry, withdraw=withdraw)
    held.renew_once()
    world.withdraw()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            held.renew_once()
        assert world.rows["runner"] == 1
        assert held.warrant().policy_epoch == 2
    broken[0] = False
    held.renew_once()
    assert world.rows["runner"] == 2


def test_a_replaced_revision_is_not_withdrawn_by_name():
    # its streams end by D2; the newer revision under the same name may be loaded already
    assert vanished_experts(snapshot(1), snapshot(2, text=" again")) == set()
    assert vanished_experts(snapshot(1), snapshot(2, without={"code"})) == {X}


def test_an_older_epoch_drops_the_lease_until_policy_has_caught_up(world):
    registry = FakeRegistry(world)
    held = holder(world, registry)
    world.withdraw()
    held.renew_once()
    world.policy_epoch = 1
    held.renew_once()
    assert held.warrant() is None
    assert held.counters.alarms == 1
    world.policy_epoch = 2
    held.renew_once()
    assert held.warrant().policy_epoch == 2


def test_a_database_that_has_forgotten_an_epoch_drops_the_lease(world):
    class Restored(FakeRegistry):
        def renew(self, applied_epoch):
            if applied_epoch:
                raise StalePolicy("restored")
            return super().renew(applied_epoch)

    held = holder(world, Restored(world))
    held.renew_once()
    held.renew_once()
    assert held.warrant() is None
    assert held.counters.alarms == 1


def test_a_database_without_any_policy_grants_nothing(world):
    class Empty(FakeRegistry):
        def renew(self, applied_epoch):
            return Answer(0, None)

    held = holder(world, Empty(world))
    held.renew_once()
    assert held.warrant() is None
    assert held.counters.alarms == 0


def test_a_closed_incarnation_holds_nothing_and_says_so(world):
    class Closed(FakeRegistry):
        def renew(self, applied_epoch):
            if applied_epoch:
                raise LeaseRefused("closed")
            return super().renew(applied_epoch)

        def is_closed(self):
            return True

    held = holder(world, Closed(world))
    held.renew_once()
    held.run()  # returns, because there is nothing left to renew
    assert held.is_lost
    assert held.warrant() is None


def test_permission_is_decided_on_the_policy_of_the_warrant_itself(world):
    held = holder(world)
    held.renew_once()
    before = held.warrant()
    world.withdraw()
    held.renew_once()
    asked = order()
    assert held.permits(asked, before) == set(asked.allowed)
    assert held.permits(asked, held.warrant()) == {ref("languages")}


@pytest.mark.parametrize(
    "ask",
    [
        {**ASK, "purpose": "commercial"},
        {**ASK, "consumer": "mallory"},
        {**ASK, "require": ["no-such-expert"]},
        {},
    ],
)
def test_whom_policy_does_not_know_is_permitted_nothing(world, ask):
    held = holder(world)
    held.renew_once()
    assert held.permits(order(ask=ask), held.warrant()) == set()


def test_an_order_is_never_given_more_than_it_asked_for(world):
    held = holder(world)
    held.renew_once()
    asked = order(allowed=(ref("languages"), ref("code", " of another revision")))
    assert held.permits(asked, held.warrant()) == {ref("languages")}


def test_a_licence_that_has_run_out_permits_nothing_although_the_epoch_is_the_same(world):
    now = [BEGIN]
    ending = snapshot(1, ends_at=BEGIN + timedelta(days=1)).to_body()

    class Ending(FakeRegistry):
        def renew(self, applied_epoch):
            super().renew(applied_epoch)
            return Answer(1, ending)

    held = LeaseHolder(
        Ending(world),
        lease_s=LEASE_S,
        withdraw=lambda *_: None,
        clock_ns=world.clock_ns,
        now=lambda: now[0],
    )
    held.renew_once()
    assert held.permits(order(), held.warrant())
    now[0] = BEGIN + timedelta(days=1)
    assert not held.permits(order(), held.warrant())


def test_a_warrant_made_elsewhere_permits_nothing(world):
    held = holder(world)
    held.renew_once()
    assert held.permits(order(), Warrant(1, 2**62, frozenset({X}))) == set()


def test_words_are_as_they_came_and_unknown_ones_are_left_to_policy():
    ask = ask_of({**ASK, "exclude": ["code"], "require": ["languages"], "later field": 1})
    assert (ask.consumer, ask.exclude, ask.require) == ("dara", {"code"}, {"languages"})


def test_the_clock_is_the_one_that_counts_suspended_time():
    assert boottime_ns() > 0


# ── The shortcuts ────────────────────────────────────────────────────────────────────────────────


def withdrawal_between_read_and_row(world, held):
    world.when("read", world.withdraw, world.look)
    held.renew_once()
    world.look()
    decode(world, held)


def withdrawal_while_the_answer_travels(world, held):
    world.when("written", world.withdraw, lambda: world.tick(LEASE_S * 1.02), world.look)
    held.renew_once()
    decode(world, held)


def withdrawal_and_a_lost_answer(world, held):
    held.renew_once()
    world.withdraw()
    held._registry.loses_reply = True
    with suppress(ReplyLost):
        held.renew_once()
    world.look()
    decode(world, held)


def withdrawal_while_the_step_computes(world, held, **decoding):
    held.renew_once()
    world.when("computing", world.withdraw, held.renew_once, world.look)
    decode(world, held, **decoding)


def pause_while_the_step_computes(world, held, **decoding):
    held.renew_once()
    world.when("computing", world.withdraw, lambda: world.tick(60), world.look)
    decode(world, held, **decoding)


@pytest.mark.parametrize(
    "story",
    [
        withdrawal_between_read_and_row,
        withdrawal_while_the_answer_travels,
        withdrawal_and_a_lost_answer,
        withdrawal_while_the_step_computes,
        pause_while_the_step_computes,
    ],
)
def test_nothing_leaves_late_in_any_of_the_stories(world, story):
    story(world, holder(world))


def test_without_the_shared_lock_a_token_leaves_late(world):
    with pytest.raises(LateToken):
        withdrawal_between_read_and_row(world, holder(world, NoSharedLock(world)))


def test_with_the_deadline_counted_from_the_answer_a_token_leaves_late(world):
    with pytest.raises(LateToken):
        withdrawal_while_the_answer_travels(world, holder(world, kind=DeadlineFromReply))


def test_with_the_acknowledgement_written_by_the_fetch_a_token_leaves_late(world):
    with pytest.raises(LateToken):
        withdrawal_and_a_lost_answer(world, holder(world, EarlyAck(world)))


@pytest.mark.parametrize(
    "story", [withdrawal_while_the_step_computes, pause_while_the_step_computes]
)
def test_without_the_check_after_computing_a_token_leaves_late(world, story):
    with pytest.raises(LateToken):
        story(world, holder(world), checks_after=False)


POINTS = ("asked", "read", "written", "acking", "computing")


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_whatever_happens_wherever_nothing_leaves_late(data):
    """I1 to I5 of the protocol, with two runners, lost answers, pauses and any interleaving."""
    world = World()
    registries = [FakeRegistry(world, name) for name in ("one", "two")]
    holders = [holder(world, registry) for registry in registries]
    happenings = st.sampled_from(
        [world.withdraw, world.look, *(lambda s=s: world.tick(s) for s in (0.5, 4, 9.95, 30))]
    )
    for _ in range(data.draw(st.integers(3, 12))):
        for point in data.draw(st.lists(st.sampled_from(POINTS), max_size=2)):
            world.when(point, data.draw(happenings))
        which = data.draw(st.integers(0, 1))
        registries[which].loses_reply = data.draw(st.booleans())
        act = data.draw(st.sampled_from(["renew", "decode", "happen"]))
        seen = holders[which].warrant()
        if act == "renew":
            with suppress(ReplyLost):
                holders[which].renew_once()
        elif act == "decode":
            decode(world, holders[which])
        else:
            data.draw(happenings)()
        now = holders[which].warrant()
        if seen is not None and now is not None:
            assert now.policy_epoch >= seen.policy_epoch
        if now is not None:
            assert now.deadline_ns <= world.clock_ns() + LEASE_S * 1e9


def test_an_answer_on_a_former_build_is_asked_about_as_policy_speaks_of_that_build(world):
    former = replace(snapshot(2, without={"code"}), build_digest="f" * 64)

    class Replaced(FakeRegistry):
        def renew(self, applied_epoch):
            super().renew(applied_epoch)
            return Answer(2, replace(snapshot(2, text=" again"), former=(former,)).to_body())

    held = holder(world, Replaced(world))
    held.renew_once()
    before, now = order(build_digest="f" * 64), order()
    kept = [held.permits(one, held.warrant()) for one in (before, now)]
    assert kept == [{ref("languages")}, set()]
    assert held.may_outlive(before, frozenset({"code"}))
    assert not held.may_outlive(now, frozenset({"code"}))
    assert ref("languages") in held.warrant().live
    assert ref("code") not in held.warrant().live
