"""Walks an admitted order through the runner and hands its pieces out, under a last check.

The runner enforces; the gateway looks once more before each write, because bytes handed to a
socket cannot be called back: when policy has moved on and no longer permits what the order was
permitted, the stream ends here and now.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

from django.utils import timezone

from governance.policy.decide import decide, may_outlive
from governance.policy.types import Ask, Denied, Snapshot
from web.gateway.errors import GatewayError, unavailable
from web.gateway.orders import Admitted
from web.gateway.policy_feed import PolicyFeed
from web.gateway.pool import RunnerPool
from web.gateway.port import (
    Delta,
    Done,
    EndCause,
    ExpertRef,
    FinishReason,
    HungUp,
    RefusalReason,
    Refused,
    RunnerLost,
    RunnerUnavailable,
    Tally,
)

_REFUSALS = {
    RefusalReason.CONTEXT_LENGTH: (HTTPStatus.BAD_REQUEST, None),
    RefusalReason.EMPTY_PROMPT: (HTTPStatus.BAD_REQUEST, None),
    RefusalReason.BAD_SAMPLING: (HTTPStatus.BAD_REQUEST, None),
    RefusalReason.NOT_PERMITTED: (HTTPStatus.FORBIDDEN, None),
    RefusalReason.OVERLOADED: (HTTPStatus.TOO_MANY_REQUESTS, 1),
    RefusalReason.QUOTA: (HTTPStatus.PAYMENT_REQUIRED, None),
    RefusalReason.BAD_ORDER: (HTTPStatus.INTERNAL_SERVER_ERROR, None),
}


class RetryDecision(Exception):
    """The runner refused in a way that a new decision may mend."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.refused = refused


@dataclass
class Passage:
    """One order on its way: pulls from the runner, checks policy, ends with exactly one `Done`."""

    port: RunnerPool
    feed: PolicyFeed
    admitted: Admitted
    ask: Ask
    kept: tuple[ExpertRef, ...] = field(init=False)
    outlived_s: float | None = None

    def __post_init__(self) -> None:
        self.kept = self.admitted.order.allowed

    async def pieces(self) -> AsyncGenerator[Delta | Done]:
        """What may be handed out.

        Raises:
            GatewayError: the runner refused, cannot be reached, or went away in the middle.
            RetryDecision: it refused because it knows newer policy.
        """
        checked_epoch, is_begun = self.admitted.order.policy_epoch, False
        try:
            async with aclosing(self.port.stream(self.admitted.order)) as messages:
                async for message in messages:
                    if isinstance(message, Refused):
                        raise refused_for_good(message) if is_begun else refusal(message)
                    is_begun = True
                    if isinstance(message, Delta) and message.recomputed_without:
                        self._narrow(message.recomputed_without)
                    newest = self.feed.newest()
                    if newest is not None and newest.policy_epoch != checked_epoch:
                        lost, may_wait = self._lost(newest, timezone.now())
                        if lost and not may_wait and isinstance(message, Delta):
                            yield self._cut(lost, newest.policy_epoch)
                            return
                        checked_epoch = checked_epoch if lost else newest.policy_epoch
                    yield message
        except RunnerUnavailable as error:
            raise unavailable("runner_unavailable", str(error)) from error
        except HungUp as error:
            raise unavailable("gateway_ending", str(error)) from error
        except RunnerLost as error:
            raise GatewayError(HTTPStatus.BAD_GATEWAY, "runner_lost", str(error)) from error

    def _narrow(self, names: tuple[str, ...]) -> None:
        """From here on it is an answer of the others alone."""
        self.kept = tuple(expert for expert in self.kept if expert.name not in names)
        self.outlived_s = None

    def _lost(self, newest: Snapshot, at: datetime) -> tuple[str, bool]:
        """An expert that policy took from this answer, and whether its words may still pass.

        Where the answer outlives the expert they may, until the runner has computed it again: the
        runner says from where on. It may not have heard of the new policy yet, and has to within
        its lease; beyond that nothing waits.
        """
        decision = decide(newest.over(self.admitted.order.build_digest), self.ask, at)
        still = (
            set()
            if isinstance(decision, Denied)
            else {(expert.name, expert.digest) for expert in decision.allowed}
        )
        lost = [e.name for e in self.kept if (e.name, e.digest) not in still]
        if not lost:
            return "", True
        now_s = time.monotonic()
        self.outlived_s = now_s if self.outlived_s is None else self.outlived_s
        is_lasting = set(lost) <= set(self.admitted.order.recompute_without)
        is_in_time = now_s < self.outlived_s + self.feed.lease_s
        return lost[0], is_lasting and is_in_time and may_outlive(decision, lost)

    def _cut(self, expert: str, policy_epoch: int) -> Done:
        return Done(
            order_id=self.admitted.order.order_id,
            finish_reason=FinishReason.CONTENT_FILTER,
            tally=Tally(prompt_tokens=0, completion_tokens=0),
            policy_epoch=policy_epoch,
            cause=EndCause.CONSENT_WITHDRAWN,
            expert=expert,
            detail="cut at the gateway: policy moved on before the runner had ended the stream",
        )


def refusal(refused: Refused) -> Exception:
    """The error a runner's refusal stands for."""
    if refused.retry:
        return RetryDecision(refused)
    return refused_for_good(refused)


def refused_for_good(refused: Refused) -> GatewayError:
    """A refusal as the consumer sees it."""
    status, retry_after_s = _REFUSALS.get(refused.reason, (HTTPStatus.SERVICE_UNAVAILABLE, 2))
    param = None
    if refused.reason in (RefusalReason.CONTEXT_LENGTH, RefusalReason.EMPTY_PROMPT):
        param = "messages"
    return GatewayError(
        status, refused.reason.value, refused.detail, param=param, retry_after_s=retry_after_s
    )
