"""Usage rows of one runner: no first token without an open row, no last word before it closes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from django.db import DatabaseError, IntegrityError, InterfaceError
from django.utils import timezone

from governance.errors import GovernanceError, LeaseRefused, NotFound, StalePolicy
from governance.services import usage
from modelops.contract import (
    Done,
    EndCause,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
)
from worker.runner.lease import ask_of
from worker.runner.registry import kept_connection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Closing:
    """How a row is to be closed; kept until PostgreSQL takes it."""

    record_id: UUID
    finish_reason: str
    cause: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    routed: Mapping[str, int] | None = None
    mass: Mapping[str, float] | None = None
    recomputed_without: tuple[str, ...] = ()


class Meter:
    """Opens and closes the usage rows of one incarnation.

    `open` and `close` may be called from any thread, `settle` from one.
    """

    def __init__(self, incarnation: UUID) -> None:
        self._incarnation = incarnation
        self._owed: deque[Closing] = deque()

    def open(
        self,
        order: GenerationOrder,
        *,
        licences: Mapping[str, str] | None = None,
        quota_slices: Collection[UUID] = (),
        promised_tokens: int = 0,
    ) -> UUID | Refused:
        """The row for `order`, whose `allowed` and `policy_epoch` are those of this runner.

        A refusal says why nothing may be generated: licensed or not, no answer goes unrecorded.

        Raises:
            QuotaSpent: a slice has less than `promised_tokens` free; nothing was written.
        """
        ask = ask_of(order.ask)
        try:
            with kept_connection():
                record = usage.open_record(
                    incarnation=self._incarnation,
                    order_id=UUID(order.order_id),
                    decision_id=UUID(order.decision_id),
                    consumer=ask.consumer,
                    purpose=ask.purpose,
                    policy_epoch=order.policy_epoch,
                    build_digest=order.build_digest,
                    allowed=[ref.name for ref in order.allowed],
                    licences=licences,
                    quota_slices=quota_slices,
                    promised_tokens=promised_tokens,
                    at=timezone.now(),
                )
        except StalePolicy as error:
            return Refused(order.order_id, RefusalReason.STALE_EPOCH, str(error), retry=True)
        except LeaseRefused as error:
            return Refused(order.order_id, RefusalReason.NO_LEASE, str(error), retry=True)
        except (NotFound, IntegrityError, ValueError) as error:
            return Refused(order.order_id, RefusalReason.BAD_ORDER, str(error))
        except (DatabaseError, InterfaceError) as error:
            detail = f"expected to open a usage row, found: {error}; try again shortly"
            return Refused(order.order_id, RefusalReason.USAGE_UNRECORDED, detail, retry=True)
        return record.pk

    def close(
        self, record_id: UUID, end: Done | Refused, recomputed_without: tuple[str, ...] = ()
    ) -> Done | Refused:
        """Close the row, and say what the client may be told in place of `end`.

        An answer that was recomputed on its way ended well, and yet not as it was opened: its row
        says so, and the fences of the experts it went on without let it close.

        Where the database cannot be written the client is told that the answer ended in error, and
        the row is closed as it truly ended once the database is back.
        """
        closing = _closing(record_id, end, recomputed_without)
        try:
            self._write(closing)
        except StalePolicy as error:
            # The fence fell between the last token and this row: it is not a lawful end.
            log.warning("usage row %s met a fence: %s", record_id, error)
            return self._close_behind_fence(closing, end)
        except (DatabaseError, InterfaceError) as error:
            log.warning("usage row %s cannot be closed yet: %s", record_id, error)
            self._owe(closing)
            return _unrecorded(end)
        return end

    def _close_behind_fence(self, closing: Closing, end: Done | Refused) -> Done | Refused:
        try:
            self._write(_cut_off(closing))
        except (DatabaseError, InterfaceError):
            self._owe(_cut_off(closing))
        if isinstance(end, Refused):
            return end
        return replace(
            end, finish_reason=FinishReason.CONTENT_FILTER, cause=EndCause.CONSENT_WITHDRAWN
        )

    def settle(self) -> int:
        """Try again to close what could not be closed; returns how many rows are still owed."""
        while self._owed:
            closing = self._owed[0]
            try:
                self._write(closing)
            except StalePolicy:
                self._owe(_cut_off(closing))
            except (IntegrityError, GovernanceError) as error:
                log.critical("usage row %s cannot be closed as it ended: %s", closing, error)
            except (DatabaseError, InterfaceError):
                break
            self._owed.popleft()
        return len(self._owed)

    def _owe(self, closing: Closing) -> None:
        self._owed.append(closing)

    def _write(self, closing: Closing) -> None:
        with kept_connection():
            usage.close_record(
                closing.record_id,
                finish_reason=closing.finish_reason,
                cause=closing.cause,
                prompt_tokens=closing.prompt_tokens,
                completion_tokens=closing.completion_tokens,
                routed=dict(closing.routed or {}),
                mass=dict(closing.mass or {}),
                recomputed_without=closing.recomputed_without,
                at=timezone.now(),
            )


def _closing(record_id: UUID, end: Done | Refused, recomputed_without: tuple[str, ...]) -> Closing:
    if isinstance(end, Refused):
        return Closing(record_id, usage.REFUSED, end.reason.value[:32])
    reason, cause = end.finish_reason.value, end.cause.value
    if recomputed_without and end.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
        reason, cause = usage.RECOMPUTED, reason
    return Closing(
        record_id,
        reason,
        cause,
        end.tally.prompt_tokens,
        end.tally.completion_tokens,
        end.tally.routed,
        end.tally.mass,
        recomputed_without,
    )


def _cut_off(closing: Closing) -> Closing:
    return replace(
        closing, finish_reason=FinishReason.CONTENT_FILTER, cause=EndCause.CONSENT_WITHDRAWN
    )


def _unrecorded(end: Done | Refused) -> Done | Refused:
    if isinstance(end, Refused):
        return end
    return replace(
        end,
        finish_reason=FinishReason.ERROR,
        cause=EndCause.ENGINE_FAULT,
        detail="the usage of this answer could not be recorded; do not rely on its completeness",
    )
