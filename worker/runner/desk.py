"""Admission: the runner decides again, on its own leased policy, before anything is computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from governance.policy.decide import decide
from governance.policy.types import Denied
from modelops.contract import (
    Done,
    EndCause,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
)
from worker.runner.fleet import EngineLike, Fleet
from worker.runner.lease import HeldWarrant, LeaseHolder, ask_of
from worker.runner.meter import Meter

CATCH_UP_S = 1.0
"""How long an order from a later policy epoch waits for this runner to learn of that epoch."""

RECHECK_S = 1.0
"""How long a running answer may go on before its licences' written ends are looked at again."""


@dataclass
class Admission:
    """An order on its way: narrowed to what this runner permits, with its usage row open."""

    order: GenerationOrder
    engine: EngineLike
    record_id: UUID
    checked_epoch: int
    checked_s: float
    held_back: EndCause = EndCause.NONE

    def end(self, end: Done | Refused) -> Done | Refused:
        """`end`, or what it becomes when words of this answer were held back."""
        if self.held_back is EndCause.NONE or isinstance(end, Refused):
            return end
        if end.finish_reason is FinishReason.CONTENT_FILTER:
            return end
        return replace(
            end,
            finish_reason=FinishReason.CONTENT_FILTER,
            cause=self.held_back,
            detail="policy stopped permitting this answer while it was being written",
        )


class Desk:
    """Turns orders into admissions or refusals; from any thread, may wait for the database."""

    def __init__(
        self,
        holder: LeaseHolder,
        fleet: Fleet,
        meter: Meter,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._holder, self._fleet, self._meter, self._now = holder, fleet, meter, now

    def admit(self, order: GenerationOrder) -> Admission | Refused:
        """Decide about `order` and open its usage row. Nothing is generated yet."""
        if order.policy_epoch:
            self._holder.await_epoch(order.policy_epoch, CATCH_UP_S)
        warrant = self._holder.warrant()
        if warrant is None:
            return _refused(
                order,
                RefusalReason.NO_LEASE,
                "expected a valid lease on policy, found none; try again shortly",
                retry=True,
            )
        if warrant.policy_epoch < order.policy_epoch:
            return _refused(
                order,
                RefusalReason.STALE_EPOCH,
                f"expected policy epoch {order.policy_epoch}, found {warrant.policy_epoch} here; "
                "try again shortly",
                retry=True,
            )
        return self._decide(order, warrant)

    def _decide(self, order: GenerationOrder, warrant: HeldWarrant) -> Admission | Refused:
        ask, snapshot = ask_of(order.ask), warrant.snapshot
        decision = decide(snapshot, ask, self._now())
        if isinstance(decision, Denied):
            whys = ", ".join(why.value for why in decision.why)
            return _refused(order, RefusalReason.NOT_PERMITTED, f"policy denies this: {whys}")
        engine = self._fleet.engine(order.anchor_digest)
        if order.build_digest != snapshot.build_digest or engine is None:
            return _refused(
                order,
                RefusalReason.UNKNOWN_BUILD,
                f"expected build {snapshot.build_digest or 'none'}, found {order.build_digest}; "
                "decide again on the newest policy",
                retry=True,
            )
        permitted = {ExpertRef(ref.name, ref.digest) for ref in decision.allowed}
        allowed = tuple(sorted(permitted & set(order.allowed)))
        missing = ask.require - {ref.name for ref in allowed}
        if missing:
            detail = f"required but not permitted: {', '.join(sorted(missing))}"
            return _refused(order, RefusalReason.NOT_PERMITTED, detail, retry=True)
        return self._open(
            replace(order, allowed=allowed, policy_epoch=warrant.policy_epoch), engine
        )

    def _open(self, order: GenerationOrder, engine: EngineLike) -> Admission | Refused:
        record = self._meter.open(order)
        if isinstance(record, Refused):
            return record
        return Admission(order, engine, record, order.policy_epoch, time.monotonic())

    def why_held_back(self, admission: Admission) -> EndCause:
        """Why words computed for this admission may not leave now; asked under `holder.release`.

        The engine asked the same when it handed them over. They may have waited since, for the
        event loop or a slow reader, while policy changed; and a licence may have come to its own
        written end, which changes no policy epoch.
        """
        if not admission.order.allowed:
            return EndCause.NONE
        warrant = self._holder.warrant()
        if warrant is None:
            return EndCause.LEASE_LOST
        now_s = time.monotonic()
        if (
            warrant.policy_epoch == admission.checked_epoch
            and now_s < admission.checked_s + RECHECK_S
        ):
            return EndCause.NONE
        kept = self._holder.permits(admission.order, warrant)
        if not kept.issuperset(admission.order.allowed):
            return EndCause.CONSENT_WITHDRAWN
        admission.checked_epoch, admission.checked_s = warrant.policy_epoch, now_s
        return EndCause.NONE


def _refused(
    order: GenerationOrder, reason: RefusalReason, detail: str, *, retry: bool = False
) -> Refused:
    return Refused(order.order_id, reason, detail, retry)
