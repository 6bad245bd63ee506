"""`python -m tests.faults.runner`: a stub runner, whole or without one guard of the protocol.

FAULTS_MUTANT names the shortcut; each is one that is natural to write. FAULTS_GRANT_S makes the
transaction of a renewal last, so that others can come in between.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from bench import stub_runner
from bench.stub_engine import StubEngine
from worker import boot

boot.boot()


class Engine(StubEngine):
    """Takes as long over a word as FAULTS_COMPUTE_S says."""

    compute_s = float(os.environ.get("FAULTS_COMPUTE_S", "0"))

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, compute_s=self.compute_s, **named)


def no_shared_lock() -> None:
    """R2 reads policy and writes its row without the lock."""
    from governance.services import leases

    leases._SHARE_POLICY = "SELECT 1"


def deadline_from_reply() -> None:
    """R3 counts the lease from when the answer came."""
    from worker.runner import lease

    swap = lease.LeaseHolder._swap
    lease.LeaseHolder._swap = lambda self, snapshot, _: swap(self, snapshot, self._clock_ns())


def early_ack() -> None:
    """R2 writes down the epoch it fetches as if it were applied."""
    from governance.services import leases

    leases._GRANT = leases._GRANT.replace(
        "applied_epoch = greatest(lease.applied_epoch, %(applied)s)",
        "applied_epoch = excluded.applied_epoch",
    ).replace("coalesce(nullif(%(applied)s, 0), epoch)", "epoch")


def no_check_after() -> None:
    """D4 lets out what was computed, whatever became of the lease meanwhile."""
    _skip_d4(lambda *_: True)


def no_epoch_check() -> None:
    """D4 looks at the deadline alone, not at the epoch."""
    _skip_d4(lambda engine, _stream, _warrant: engine.authority.warrant() is not None)


def _skip_d4(may_leave: Callable[..., bool]) -> None:
    """Replace the check after computing, in the engine and at the desk, and what foreruns it."""
    from modelops.contract import EndCause, WithdrawalAck
    from worker.runner.desk import Desk

    Engine._may_leave = may_leave
    Engine.withdraw = lambda _, name, epoch: WithdrawalAck(name, epoch, True, (), 0)
    Desk.why_held_back = lambda *_: EndCause.NONE


MUTANTS = {
    one.__name__: one
    for one in (no_shared_lock, deadline_from_reply, early_ack, no_check_after, no_epoch_check)
}


def main() -> int:
    """Serve until SIGTERM."""
    from governance.services import leases

    if grant_s := os.environ.get("FAULTS_GRANT_S"):
        leases._GRANT = leases._GRANT.replace(
            "EXISTS (SELECT FROM noted)", f"EXISTS (SELECT FROM noted, pg_sleep({grant_s}))"
        )
    if mutant := os.environ.get("FAULTS_MUTANT"):
        MUTANTS[mutant]()
    return stub_runner.main(Engine)


if __name__ == "__main__":
    sys.exit(main())
