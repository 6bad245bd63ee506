"""The runner's lease on policy: what may be used, until when, and how it is renewed.

The protocol is that of Gray & Cheriton's leases with numbered policy epochs. For one holder:

    R1  t0 = CLOCK_BOOTTIME before the request leaves
    R2  the registry reads policy under the shared lock and notes the epoch already *applied*
    R3  swap in (snapshot, deadline = t0 + L·(1 - ρ)); an older epoch than one seen drops the lease
    R4  only then, in a second write, acknowledge the epoch as applied

Between R3 and R4 the engine is told to end every stream that used an expert which vanished. If
that fails there is no acknowledgement, and the withdrawal settles by expiry instead.

CLOCK_BOOTTIME counts the time a machine was suspended and no clock setting moves it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.utils import timezone

from governance.errors import LeaseRefused, StalePolicy
from governance.policy.decide import decide, may_outlive
from governance.policy.types import Ask, Permitted, Snapshot
from modelops.contract import ExpertRef, GenerationOrder, Warrant

log = logging.getLogger(__name__)

CLOCK_RATE_MARGIN = 0.01
"""ρ: how much faster than true time the coordinator's clock may run, against ours."""

_RETRY_S = 0.2


def boottime_ns() -> int:
    """Nanoseconds since boot, time suspended included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Renewal(Protocol):
    """What the registry answers; `body` is None when the applied epoch is still the newest."""

    @property
    def policy_epoch(self) -> int: ...
    @property
    def body(self) -> Mapping[str, Any] | None: ...


class Registry(Protocol):
    """Where leases are granted: `worker.runner.registry` over PostgreSQL, a fake in tests."""

    def renew(self, applied_epoch: int) -> Renewal:
        """R2 for this incarnation. `applied_epoch` 0 means that nothing was applied yet."""

    def ack(self, policy_epoch: int) -> None:
        """R4 for this incarnation."""

    def is_closed(self) -> bool:
        """Whether this incarnation can never renew again."""


class Memory(Protocol):
    """What outlives this process: the highest policy epoch granted to it and those before it."""

    @property
    def epoch(self) -> int: ...
    def note(self, policy_epoch: int) -> None: ...


@dataclass(frozen=True)
class HeldWarrant(Warrant):
    """A warrant that remembers the policy it stands for, so that D2 decides on exactly that."""

    snapshot: Snapshot = field(kw_only=True, compare=False, repr=False)


@dataclass
class Counters:
    """What happened to this holder, for health and tests."""

    renewals: int = 0
    failures: int = 0
    alarms: int = 0
    last_error: str = ""


class LeaseHolder:
    """Holds one lease and renews it from its own thread; implements `contract.Authority`.

    `withdraw(name, policy_epoch)` is called for every expert that vanished from policy, after the
    swap and before the acknowledgement. `release` is the lock under which tokens leave: the swap
    takes it too, so that whatever is still leaving has left before the epoch is acknowledged.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        lease_s: float,
        withdraw: Callable[[ExpertRef, int], None],
        clock_ns: Callable[[], int] = boottime_ns,
        now: Callable[[], datetime] = timezone.now,
        seen: Memory | None = None,
    ) -> None:
        self.lease_s = lease_s
        self.release = threading.Lock()
        self.counters = Counters()
        self._registry = registry
        self._withdraw = withdraw
        self._clock_ns = clock_ns
        self._now = now
        self._held: HeldWarrant | None = None
        self._before: HeldWarrant | None = None
        self._last: Snapshot | None = None
        self._memory = seen
        self._seen_epoch = seen.epoch if seen is not None else 0
        self._acked_epoch = 0
        self._to_withdraw: set[ExpertRef] = set()
        self._renewing = threading.Lock()
        self._renewed = threading.Condition()
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._is_lost = threading.Event()

    # ── contract.Authority ───────────────────────────────────────────────────────────────────────
    def warrant(self) -> HeldWarrant | None:
        """D1: the warrant now, by one reference read; None without a valid lease."""
        held = self._held
        if held is None or self._clock_ns() >= held.deadline_ns:
            return None
        return held

    def holds(self, warrant: Warrant) -> bool:
        """D4: the same policy epoch as now, and now before the deadline."""
        held = self._held
        return (
            held is not None
            and held.policy_epoch == warrant.policy_epoch
            and self._clock_ns() < held.deadline_ns
        )

    def permits(self, order: GenerationOrder, warrant: Warrant) -> frozenset[ExpertRef]:
        """D2: which licensed experts of the order the warrant's own policy still allows it."""
        if not isinstance(warrant, HeldWarrant):
            return frozenset()
        policy = warrant.snapshot.over(order.build_digest)
        decision = decide(policy, ask_of(order.ask), self._now())
        if not isinstance(decision, Permitted):
            return frozenset()
        allowed = {ExpertRef(ref.name, ref.digest) for ref in decision.allowed}
        return frozenset(order.allowed) & allowed

    def may_outlive(self, order: GenerationOrder, lost: frozenset[str]) -> bool:
        """What the licences said at admission holds, unless policy now says a legal order came."""
        warrant = self.warrant()
        if warrant is None:
            return False
        policy = warrant.snapshot.over(order.build_digest)
        return may_outlive(decide(policy, ask_of(order.ask), self._now()), lost)

    def lets_out(self) -> bool:
        """Whether words handed over under the policy epoch before this one may still leave: until
        this one is acknowledged, and never beyond the deadline they were computed under. Asked
        under `release`, which the acknowledgement takes as well."""
        before = self._before
        return before is not None and self._clock_ns() < before.deadline_ns

    # ── renewal ──────────────────────────────────────────────────────────────────────────────────
    def renew_once(self) -> None:
        """R1 to R4, once. Errors of the registry pass through; the lease held so far stays."""
        with self._renewing:
            asked_ns = self._clock_ns()
            try:
                renewal = self._registry.renew(self._applied_epoch())
            except StalePolicy as error:
                self._drop(str(error))
                return
            if renewal.policy_epoch < self._seen_epoch:
                self._drop(f"found policy epoch {renewal.policy_epoch}")
                return
            self.counters.renewals += 1
            if renewal.policy_epoch:
                self._apply(renewal, asked_ns)
        if self._memory is not None:
            self._memory.note(self._seen_epoch)
        with self._renewed:
            self._renewed.notify_all()

    def _applied_epoch(self) -> int:
        # While an expert is still to be withdrawn from the engine, the older epoch is what counts
        # as applied: a renewal that said otherwise would be an acknowledgement by the back door.
        if self._to_withdraw or self._held is None:
            return self._acked_epoch
        return self._held.policy_epoch

    def _apply(self, renewal: Renewal, asked_ns: int) -> None:
        before, after = self._last, self._snapshot_of(renewal)
        if before is not None:
            self._to_withdraw |= vanished_experts(before, after)
        self._swap(after, asked_ns)
        for ref in sorted(self._to_withdraw):
            self._withdraw(ref, after.policy_epoch)
            self._to_withdraw.discard(ref)
        if after.policy_epoch != self._acked_epoch:
            with self.release:
                self._before = None
            self._registry.ack(after.policy_epoch)
            self._acked_epoch = after.policy_epoch

    def _snapshot_of(self, renewal: Renewal) -> Snapshot:
        if renewal.body is not None:
            return Snapshot.from_body(renewal.body)
        if self._last is None or self._last.policy_epoch != renewal.policy_epoch:
            raise ValueError(
                f"expected the body of policy epoch {renewal.policy_epoch}, found none, and that "
                "epoch is not the one applied; restart the runner to begin from nothing"
            )
        return self._last

    def _swap(self, snapshot: Snapshot, asked_ns: int) -> None:
        held = HeldWarrant(
            policy_epoch=snapshot.policy_epoch,
            deadline_ns=asked_ns + int(self.lease_s * (1 - CLOCK_RATE_MARGIN) * 1e9),
            live=live_experts(snapshot),
            snapshot=snapshot,
        )
        with self.release:
            if self._held is not None and self._held.policy_epoch != snapshot.policy_epoch:
                self._before = self._before or self._held
            self._held = held
        self._last = snapshot
        self._seen_epoch = snapshot.policy_epoch

    def _drop(self, found: str) -> None:
        with self.release:
            self._held = self._before = None
        self.counters.alarms += 1
        log.critical(
            "expected policy epoch %d or later, %s. Lease dropped: nothing licensed is served from "
            "a past that was restored. See docs/operate.md, After a restore",
            self._seen_epoch,
            found,
        )

    def ring(self) -> None:
        """Renew as soon as possible; called when policy is said to have changed."""
        self._rung.set()

    def await_epoch(self, policy_epoch: int, timeout_s: float) -> bool:
        """Renew out of turn until `policy_epoch` is held; False when the time is up."""
        if self._epoch_is_held(policy_epoch):
            return True
        self.ring()
        with self._renewed:
            return self._renewed.wait_for(lambda: self._epoch_is_held(policy_epoch), timeout_s)

    def _epoch_is_held(self, policy_epoch: int) -> bool:
        held = self.warrant()
        return held is not None and held.policy_epoch >= policy_epoch

    def run(self) -> None:
        """Renew every L/3, at once when rung, and again soon after a failure, until stopped."""
        while not self._stopping.is_set():
            pause_s = self.lease_s / 3
            self._rung.clear()
            try:
                self.renew_once()
                self.counters.last_error = ""
            except Exception as error:  # noqa: BLE001 - an edge: a lease must survive any fault
                pause_s = min(_RETRY_S, pause_s)
                self._note_failure(error)
            self._rung.wait(pause_s)

    def _note_failure(self, error: Exception) -> None:
        self.counters.failures += 1
        if not self.counters.last_error:
            log.warning("lease not renewed, trying again: %s", error)
        self.counters.last_error = str(error) or type(error).__name__
        if isinstance(error, LeaseRefused) and self._is_closed():
            log.error("this incarnation was closed; the runner must start anew: %s", error)
            self._is_lost.set()
            self.stop()

    def _is_closed(self) -> bool:
        try:
            return self._registry.is_closed()
        except Exception:  # noqa: BLE001 - unknown is not closed: the deadline decides meanwhile
            return False

    @property
    def is_lost(self) -> bool:
        """Whether this incarnation is over and the runner must start a new one."""
        return self._is_lost.is_set()

    def stop(self) -> None:
        """End `run`, and hold nothing any more."""
        self._stopping.set()
        self._rung.set()
        with self.release:
            self._held = self._before = None


def live_experts(snapshot: Snapshot) -> frozenset[ExpertRef]:
    """The licensed experts this policy lets anyone use at all, or go on to use."""
    policies = (snapshot, *snapshot.former)
    return frozenset(ExpertRef(ref.name, ref.digest) for one in policies for ref in one.live)


def vanished_experts(before: Snapshot, after: Snapshot) -> frozenset[ExpertRef]:
    """What `after` lets nobody use any more in any revision.

    A revision that was only replaced is not among them: its streams end at the engine's next step,
    and the new revision, which may be loaded already, stays.
    """
    names = {ref.name for ref in live_experts(after)}
    return frozenset(ref for ref in live_experts(before) if ref.name not in names)


def ask_of(fields: Mapping[str, Any]) -> Ask:
    """The question behind an order, as the gateway put it into `GenerationOrder.ask`."""
    return Ask.read(fields)
