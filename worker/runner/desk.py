"""Admission: the runner decides again, on its own leased policy, before anything is computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from governance.errors import QuotaSpent
from governance.policy.types import Ask, Denied
from governance.vocabulary import Why
from modelops.contract import (
    Done,
    EndCause,
    EngineClient,
    ExpertRef,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
)
from worker.runner.escrow import Escrow, Permission, most_prompt_tokens
from worker.runner.fleet import Fleet
from worker.runner.lease import HeldWarrant, LeaseHolder, ask_of
from worker.runner.meter import Meter

CATCH_UP_S = 1.0
"""How long an order from a later policy epoch waits for this runner to learn of that epoch."""

QUOTA_TRIES = 5
"""How often an order is decided anew because other runners took from the quota meanwhile."""

RECHECK_S = 1.0
"""How long a running answer may go on before its licences' written ends are looked at again."""


@dataclass
class Admission:
    """An order on its way: narrowed to what this runner permits, with its usage row open."""

    order: GenerationOrder
    engine: EngineClient
    record_id: UUID
    checked_epoch: int
    checked_s: float
    held_back: EndCause = EndCause.NONE
    shortened: str = ""
    recomputed_without: tuple[str, ...] = ()

    def narrow(self, names: tuple[str, ...]) -> None:
        """The engine computed this answer again without these experts: from here on it is an
        answer of the others alone, and checked as one."""
        kept = tuple(ref for ref in self.order.allowed if ref.name not in names)
        self.order = replace(self.order, allowed=kept)
        self.recomputed_without += names

    def end(self, end: Done | Refused) -> Done | Refused:
        """`end`, or what it becomes when words of this answer were held back or not to be had."""
        if isinstance(end, Refused) or end.finish_reason is FinishReason.CONTENT_FILTER:
            return end
        if self.held_back is EndCause.NONE:
            is_short = end.finish_reason is FinishReason.LENGTH and self.shortened
            return replace(end, detail=self.shortened) if is_short else end
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
        escrow: Escrow,
        now: Callable[[], datetime] = timezone.now,
    ) -> None:
        self._holder, self._fleet, self._now = holder, fleet, now
        self._meter, self._escrow = meter, escrow

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
        engine = self._fleet.engine(order.anchor_digest)
        for _ in range(QUOTA_TRIES):
            try:
                permission = self._escrow.permission(order, ask, snapshot, self._now())
            except (DatabaseError, InterfaceError) as error:
                detail = f"expected to read which licences have quotas, found: {error}"
                return _refused(order, RefusalReason.USAGE_UNRECORDED, detail, retry=True)
            if isinstance(permission.decision, Denied):
                return _denied(order, ask, permission.decision)
            if order.build_digest != snapshot.build_digest or engine is None:
                return _refused(
                    order,
                    RefusalReason.UNKNOWN_BUILD,
                    f"expected build {snapshot.build_digest or 'none'}, found "
                    f"{order.build_digest}; decide again on the newest policy",
                    retry=True,
                )
            try:
                return self._admit(order, ask, warrant, permission, engine)
            except QuotaSpent:
                self._escrow.forget(permission.slices)
        detail = "expected a share of the licence's quota, found other answers faster; try again"
        return _refused(order, RefusalReason.OVERLOADED, detail, retry=True)

    def _admit(
        self,
        order: GenerationOrder,
        ask: Ask,
        warrant: HeldWarrant,
        permission: Permission,
        engine: EngineClient,
    ) -> Admission | Refused:
        """Narrow `order` to what is permitted and open its row.

        Raises:
            QuotaSpent: other runners took from a quota since it was looked at.
        """
        assert not isinstance(permission.decision, Denied)
        permitted = {ExpertRef(ref.name, ref.digest) for ref in permission.decision.allowed}
        allowed = tuple(sorted(permitted & set(order.allowed)))
        missing = ask.require - {ref.name for ref in allowed}
        if missing:
            detail = f"required but not permitted: {', '.join(sorted(missing))}"
            return _refused(order, RefusalReason.NOT_PERMITTED, detail, retry=True)
        lasting = set(permission.decision.recompute_without)
        shortened, most = "", permission.max_tokens
        if most < order.sampling.max_tokens:
            shortened = f"shortened to {most} tokens, which is what a licence's quota has left"
        narrowed = replace(
            order,
            allowed=allowed,
            policy_epoch=warrant.policy_epoch,
            sampling=replace(order.sampling, max_tokens=most),
            recompute_without=tuple(one for one in order.recompute_without if one in lasting),
        )
        promised = most_prompt_tokens(order) + most if permission.slices else 0
        record = self._meter.open(
            narrowed,
            licences=permission.licences,
            quota_slices=permission.slices.values(),
            promised_tokens=promised,
        )
        if isinstance(record, Refused):
            return record
        self._escrow.note_promised(permission.slices, promised)
        now_s = time.monotonic()
        return Admission(narrowed, engine, record, warrant.policy_epoch, now_s, shortened=shortened)

    def why_held_back(self, admission: Admission) -> EndCause:
        """Why words computed for this admission may not leave now; asked under `holder.release`.

        The engine asked the same when it handed them over. They may have waited since, for the
        event loop or a slow reader, while policy changed; and a licence may have come to its own
        written end, which changes no policy epoch. Where the answer outlives what it lost, they
        leave before this runner acknowledges the new policy epoch, or not at all.
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
        if lost := frozenset(ref.name for ref in admission.order.allowed if ref not in kept):
            is_lasting = lost.issubset(admission.order.recompute_without)
            may_leave = is_lasting and self._holder.lets_out()
            if may_leave and self._holder.may_outlive(admission.order, lost):
                return EndCause.NONE
            return EndCause.CONSENT_WITHDRAWN
        admission.checked_epoch, admission.checked_s = warrant.policy_epoch, now_s
        return EndCause.NONE


def _denied(order: GenerationOrder, ask: Ask, denied: Denied) -> Refused:
    detail = f"policy denies this: {', '.join(why.value for why in denied.why)}"
    if denied.why != (Why.QUOTA,):
        return _refused(order, RefusalReason.NOT_PERMITTED, detail)
    # Whoever asked could not know, and is to decide again with this on record.
    spent = tuple(sorted(ask.require & denied.denied.keys()))
    return Refused(order.order_id, RefusalReason.QUOTA, detail, retry=True, experts=spent)


def _refused(
    order: GenerationOrder, reason: RefusalReason, detail: str, *, retry: bool = False
) -> Refused:
    return Refused(order.order_id, reason, detail, retry)
