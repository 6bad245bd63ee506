"""Usage rows: one an answer, opened before its first token and closed before its last chunk.

`gw_seq` counts without gaps within one incarnation, so that a row taken away shows. What an answer
used is told by the router's own indices, never by policy. Bookkeeping: no log events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from governance.errors import GovernanceError, LeaseRefused, NotFound, StalePolicy
from governance.models import Consumer, RunnerLease, UsageRecord
from governance.services import locks, quotas

LOST = "lost"
"""Finish reason of a row whose runner ended before it could close it."""

RECOMPUTED = "recomputed"
"""Finish reason of a row whose answer went on without an expert that was withdrawn; its cause says
how it then ended. The fences of the experts it names let it through."""

REFUSED = "refused"
"""Finish reason of a row that was opened for an answer the engine then would not begin."""


def open_record(
    *,
    incarnation: UUID,
    order_id: UUID,
    decision_id: UUID,
    consumer: str,
    purpose: str,
    policy_epoch: int,
    build_digest: str,
    allowed: Collection[str],
    licences: Mapping[str, str] | None = None,
    quota_slices: Collection[UUID] = (),
    promised_tokens: int = 0,
    at: datetime,
) -> UsageRecord:
    """Open the row an answer needs before its first token.

    Args:
        consumer: slug, as in the decision's Ask.
        allowed: names of the licensed experts the answer may route to.
        licences: the licence each of them is allowed under.
        quota_slices: slices of this incarnation that the answer is charged to.
        promised_tokens: the most it can take of each, prompt and completion.

    Raises:
        QuotaSpent: a slice cannot promise that much.
        NotFound: no such consumer.
        LeaseRefused: the incarnation is unknown or closed.
        StalePolicy: an allowed expert is behind its fence for this policy epoch.
    """
    with transaction.atomic():
        locks.hold_shared(locks.Lock.USAGE)
        consumer_id = Consumer.objects.filter(slug=consumer).values_list("pk", flat=True).first()
        if consumer_id is None:
            raise NotFound(f"expected a registered consumer, found {consumer!r}. Register it.")
        record = UsageRecord(
            incarnation_id=incarnation,
            gw_seq=_next_sequence(incarnation),
            order_id=order_id,
            decision_id=decision_id,
            consumer_id=consumer_id,
            purpose=purpose,
            policy_epoch=policy_epoch,
            build_digest=build_digest,
            allowed=sorted(allowed),
            licences=dict(licences or {}),
            quota_slices=sorted(set(quota_slices)),
            promised_tokens=promised_tokens,
            opened_at=at,
        )
        _write(record)
        if quota_slices:
            quotas.promise(quota_slices, incarnation=incarnation, tokens=promised_tokens)
    return record


def _next_sequence(incarnation: UUID) -> int:
    """The next number of this incarnation, its row locked until it is used: no gaps."""
    if not RunnerLease.objects.filter(pk=incarnation, closed_at=None).update(
        gw_seq=F("gw_seq") + 1
    ):
        raise LeaseRefused(
            f"expected an open lease of incarnation {incarnation}, found it closed or unknown. "
            "Generate nothing; start again under a new incarnation."
        )
    return RunnerLease.objects.values_list("gw_seq", flat=True).get(pk=incarnation)


def close_record(
    record_id: UUID,
    *,
    finish_reason: str,
    cause: str = "",
    prompt_tokens: int,
    completion_tokens: int,
    routed: Mapping[str, int],
    mass: Mapping[str, float],
    recomputed_without: Collection[str] = (),
    at: datetime,
) -> UsageRecord:
    """Account for an answer. Closing it again with the same reason changes nothing.

    Args:
        routed: (token, layer) places computed, by expert name, `public` included.
        mass: router weight summed over those places, by expert name.
        recomputed_without: experts withdrawn on its way, without which it went on.

    Raises:
        NotFound: no such row.
        StalePolicy: it would end as if nothing had happened, behind the fence of an expert.
        GovernanceError: it was closed for another reason.
    """
    with transaction.atomic():
        locks.hold_shared(locks.Lock.USAGE)
        record = UsageRecord.objects.select_for_update().filter(pk=record_id).first()
        if record is None:
            raise NotFound(f"expected usage row {record_id}, found none. Open it first.")
        if record.closed_at is not None:
            return _same_end(record, finish_reason)
        record.finish_reason, record.cause, record.closed_at = finish_reason, cause, at
        record.prompt_tokens, record.completion_tokens = prompt_tokens, completion_tokens
        record.routed, record.mass = dict(routed), dict(mass)
        record.recomputed_without = sorted(recomputed_without)
        _write(record)
        if record.quota_slices:
            quotas.settle(
                record.quota_slices,
                promised=record.promised_tokens,
                tokens=prompt_tokens + completion_tokens,
                answers=int(finish_reason != REFUSED),
            )
    return record


def close_lost(*, at: datetime) -> int:
    """Close what runners left open when they ended; how many rows. For the upkeep task.

    What such an answer took nobody knows, so its quotas are charged all that was promised to it.
    """
    with transaction.atomic():
        locks.hold_shared(locks.Lock.USAGE)
        left = (
            UsageRecord.objects.select_for_update(of=("self",))
            .filter(closed_at=None, incarnation__closed_at__isnull=False)
            .order_by("pk")
        )
        rows = list(left.values_list("pk", "quota_slices", "promised_tokens"))
        UsageRecord.objects.filter(pk__in=[pk for pk, _, _ in rows]).update(
            closed_at=at, finish_reason=LOST, cause="runner_ended"
        )
        for _, slices, promised in sorted(rows, key=lambda row: row[1]):
            if slices:
                quotas.settle(slices, promised=promised, tokens=promised)
    return len(rows)


def _same_end(record: UsageRecord, finish_reason: str) -> UsageRecord:
    if record.finish_reason != finish_reason:
        raise GovernanceError(
            f"expected usage row {record.pk} to be open or closed as {finish_reason!r}, found it "
            f"closed as {record.finish_reason!r}. A closed row is never changed."
        )
    return record


def _write(record: UsageRecord) -> None:
    try:
        record.save()
    except IntegrityError as refusal:
        if "usage without a withdrawn expert" not in str(refusal):
            raise
        raise StalePolicy(
            f"expected a policy epoch after the withdrawal of every allowed expert, found "
            f"{record.policy_epoch} allowing {', '.join(record.allowed)}. Discard the tokens and "
            "decide again on the newest snapshot."
        ) from refusal
