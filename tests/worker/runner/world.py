"""The lease protocol in one process: time, policy, lease rows and a coordinator, all of them ours.

Between the statements of a renewal and inside a decode step the world stops at named *points*; a
test says what happens there. The holder is the real one. What the mutants change is named for the
shortcut it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.worker.policies import ref, snapshot
from worker.runner.lease import CLOCK_RATE_MARGIN, LeaseHolder

LEASE_S = 10.0
X = ref("code")

Happening = Callable[[], None]


class LateToken(AssertionError):
    """A token made with a withdrawn expert left after the withdrawal was said to be effective."""


class ReplyLost(ConnectionError):
    """The registry wrote what it wrote; its answer never came."""


@dataclass(frozen=True)
class Answer:
    policy_epoch: int
    body: Mapping[str, Any] | None


class World:
    """Expert `code` may be used in policy epoch 1 and is withdrawn in epoch 2."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.policy_epoch = 1
        self.committed_s: float | None = None
        self.is_quiesced = False
        self.rows: dict[str, int] = {}
        self.shared = 0
        self.waiting_withdrawal = False
        self.agenda: dict[str, list[Happening]] = {}

    def clock_ns(self) -> int:
        return int(self.now_s * 1e9)

    def at(self, point: str) -> None:
        """Let happen what was put on the agenda for the next time this point is passed."""
        while self.agenda.get(point):
            self.agenda[point].pop(0)()

    def when(self, point: str, *happenings: Happening) -> None:
        self.agenda.setdefault(point, []).extend(happenings)

    def tick(self, seconds: float) -> None:
        self.now_s += seconds

    def withdraw(self) -> None:
        """W1: the exclusive lock waits for those who share it."""
        if self.committed_s is not None:
            return
        if self.shared:
            self.waiting_withdrawal = True
            return
        self.waiting_withdrawal = False
        self.policy_epoch, self.committed_s = 2, self.now_s

    def unshare(self) -> None:
        self.shared -= 1
        if self.waiting_withdrawal and not self.shared:
            self.withdraw()

    def look(self) -> None:
        """W2, W3: the coordinator counts rows, or has waited long enough since the commit."""
        if self.committed_s is None or self.is_quiesced:
            return
        behind = [row for row in self.rows.values() if row < 2]
        waited_s = self.now_s - self.committed_s
        self.is_quiesced = not behind or waited_s >= LEASE_S * (1 + CLOCK_RATE_MARGIN)


class FakeRegistry:
    """R2 and R4 of one incarnation, statement by statement."""

    shares_lock = True
    acks_early = False

    def __init__(self, world: World, name: str = "runner") -> None:
        self._world, self._name = world, name
        self.loses_reply = False
        self.acks: list[int] = []

    def renew(self, applied_epoch: int) -> Answer:
        world = self._world
        world.at("asked")
        if self.shares_lock:
            world.shared += 1
        found = world.policy_epoch
        world.at("read")
        noted = found if self.acks_early else applied_epoch
        if self._name in world.rows:
            world.rows[self._name] = max(world.rows[self._name], noted)
        else:
            world.rows[self._name] = found
        if self.shares_lock:
            world.unshare()
        world.at("written")
        if self.loses_reply:
            raise ReplyLost("the answer was lost")
        without = {X.name} if found >= 2 else set()
        body = None if found == applied_epoch else snapshot(found, without=without).to_body()
        return Answer(found, body)

    def ack(self, policy_epoch: int) -> None:
        self._world.at("acking")
        self._world.rows[self._name] = max(self._world.rows[self._name], policy_epoch)
        self.acks.append(policy_epoch)

    def is_closed(self) -> bool:
        return False


class NoSharedLock(FakeRegistry):
    """Mutant: policy is read and the row written without the lock."""

    shares_lock = False


class EarlyAck(FakeRegistry):
    """Mutant: the row says the epoch fetched, not the epoch applied."""

    acks_early = True


class DeadlineFromReply(LeaseHolder):
    """Mutant: the lease counts from when the answer came."""

    def _swap(self, snapshot: Any, asked_ns: int) -> None:
        super()._swap(snapshot, self._clock_ns())


def holder(
    world: World,
    registry: FakeRegistry | None = None,
    kind: type[LeaseHolder] = LeaseHolder,
    withdraw: Callable[..., None] = lambda *_: None,
) -> LeaseHolder:
    return kind(
        registry or FakeRegistry(world),
        lease_s=LEASE_S,
        withdraw=withdraw,
        clock_ns=world.clock_ns,
    )


def decode(world: World, held: LeaseHolder, *, checks_after: bool = True) -> bool:
    """D1, D3, D4 of one step that uses the expert; whether a token left.

    Raises:
        LateToken: one left although the withdrawal had been declared effective.
    """
    warrant = held.warrant()
    if warrant is None or X not in warrant.live:
        return False
    world.at("computing")
    if checks_after and not held.holds(warrant):
        return False
    if world.is_quiesced:
        raise LateToken(f"at {world.now_s}")
    return True
