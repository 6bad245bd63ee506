"""Revisions on their way in: submitted, let in or refused by the gate, audited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max

from governance.errors import UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    Anchor,
    Expert,
    ExpertRevision,
    Finding,
    FollowUp,
)
from governance.services import followups, snapshots, suppression
from governance.services.experts import rows
from governance.services.locks import policy_act
from governance.vocabulary import (
    EventTag,
    ExpertState,
    FollowUpKind,
    RevisionState,
    Verdict,
)


@transaction.atomic
def submit(
    expert: Expert,
    *,
    digest: str,
    weights_digest: str,
    anchor: Anchor,
    size_bytes: int,
    by: Account | None,
    at: datetime,
) -> ExpertRevision:
    """Take in a contribution to be verified. The same digest again gives the same revision.

    Raises:
        NotCovered: no consent stands, or no licence in force lets us train.
        UnlawfulMove: the expert was withdrawn, or these very weights were and are erased.
    """
    found = rows.locked(expert)
    rows.check_covered(found, at)
    suppression.check_weights(digest, weights_digest)
    known = found.revisions.filter(digest=digest).first()
    if known is not None:
        return known
    newest = found.revisions.aggregate(number=Max("number"))["number"] or 0
    revision = ExpertRevision.objects.create(
        expert=found,
        number=newest + 1,
        digest=digest,
        weights_digest=weights_digest,
        anchor=anchor,
        size_bytes=size_bytes,
        submitted_by=by,
        submitted_at=at,
    )
    if found.state not in rows.SERVING:
        rows.move(found, ExpertState.IN_REVIEW)
    followups.open(
        FollowUpKind.VERIFY,
        subject_kind="revision",
        subject_id=revision.pk,
        cause=f"{revision} was submitted",
        order={"digest": digest, "anchor_digest": anchor.digest},
        at=at,
    )
    events.stage(
        EventTag.REVISION_SUBMITTED,
        subject=f"expert:{found.name}",
        by=by,
        at=at,
        details={"revision": revision.number, "digest": digest, "anchor": anchor.digest},
    )
    return revision


@transaction.atomic
def record_verified(
    revision: ExpertRevision, *, report: Mapping[str, Any], at: datetime
) -> ExpertRevision:
    """Note that the gate let a revision in. Repeating it changes nothing.

    The audit is opened at once where the text is known from the training ordered here; for an
    upload, staff order it with the owner's paths.
    """
    found = rows.locked_revision(revision)
    if found.state != RevisionState.SUBMITTED:
        return found
    found.state, found.gate_report = RevisionState.VERIFIED, dict(report)
    found.save(update_fields=["state", "gate_report"])
    trained = (
        FollowUp.objects.filter(kind=FollowUpKind.TRAIN, subject_id=found.expert_id)
        .order_by("-opened_at")
        .first()
    )
    if trained is not None and trained.order.get("heldout_path"):
        paths = {
            "members_path": trained.order.get("corpus_path", ""),
            "controls_path": trained.order["heldout_path"],
        }
        _open_audit(found, paths, f"{found} was verified", at)
    events.stage(
        EventTag.REVISION_VERIFIED,
        subject=f"expert:{found.expert.name}",
        by=None,
        at=at,
        details={"revision": found.number, "digest": found.digest},
    )
    return found


@transaction.atomic
def record_refused(
    revision: ExpertRevision, *, report: Mapping[str, Any], at: datetime
) -> ExpertRevision:
    """Note that the gate refused a revision, with every refusal. Repeating it changes nothing."""
    found = rows.locked_revision(revision)
    if found.state != RevisionState.SUBMITTED:
        return found
    found.state, found.gate_report = RevisionState.REFUSED, dict(report)
    found.save(update_fields=["state", "gate_report"])
    if found.expert.state == ExpertState.IN_REVIEW:
        rows.move(found.expert, ExpertState.REJECTED)
    events.stage(
        EventTag.REVISION_REFUSED,
        subject=f"expert:{found.expert.name}",
        by=None,
        at=at,
        details={"revision": found.number, "digest": found.digest},
    )
    return found


@transaction.atomic
def order_audit(
    revision: ExpertRevision, *, order: Mapping[str, Any], by: Account | None, at: datetime
) -> FollowUp:
    """Have a verified revision audited, for the first time or again.

    Raises:
        UnlawfulMove: it has not passed the gate, was refused, or its bytes are gone.
    """
    found = rows.locked_revision(revision)
    if found.state in (RevisionState.SUBMITTED, RevisionState.REFUSED, RevisionState.ERASED):
        raise UnlawfulMove(f"expected a verified revision, found {found} {found.state}.")
    rows.check_not_ended(found.expert)
    follow_up = _open_audit(found, order, f"an audit of {found} was ordered", at)
    events.stage(
        EventTag.AUDIT_ORDERED,
        subject=f"expert:{found.expert.name}",
        by=by,
        at=at,
        details={"revision": found.number, "follow_up": str(follow_up.pk)},
    )
    return follow_up


def _open_audit(
    revision: ExpertRevision, order: Mapping[str, Any], cause: str, at: datetime
) -> FollowUp:
    return followups.open(
        FollowUpKind.AUDIT,
        subject_kind="revision",
        subject_id=revision.pk,
        cause=cause,
        order={"seed": 7, "windows": 300, **order},
        at=at,
    )


def record_finding(
    revision: ExpertRevision,
    *,
    verdict: Verdict,
    rate: float,
    rate_low: float,
    rate_high: float,
    threshold: float,
    seed: int,
    report: Mapping[str, Any],
    at: datetime,
) -> Finding:
    """Note what an audit found. A pass makes the revision ready for activation.

    What is found about a revision that serves changes policy, so it is published at once.

    Args:
        rate, rate_low, rate_high: shares in [0, 1] with their two-sided 95 % interval.
    """
    with policy_act():
        found = rows.locked_revision(revision)
        finding = Finding.objects.create(
            revision=found,
            verdict=verdict,
            rate=rate,
            rate_low=rate_low,
            rate_high=rate_high,
            threshold=threshold,
            seed=seed,
            report=dict(report),
            found_at=at,
        )
        _judge(found, Verdict(verdict))
        events.stage(
            EventTag.FINDING_RECORDED,
            subject=f"expert:{found.expert.name}",
            by=None,
            at=at,
            details={
                "revision": found.number,
                "verdict": Verdict(verdict).value,
                "rate": rate,
                "interval": [rate_low, rate_high],
                "threshold": threshold,
                "seed": seed,
            },
        )
        if found.state in (RevisionState.ACTIVATED, RevisionState.SUPERSEDED):
            snapshots.publish(reason=f"{found} was audited again", at=at)
    return finding


def _judge(revision: ExpertRevision, verdict: Verdict) -> None:
    """Move a revision that awaits activation, and its expert, to where the verdict puts them."""
    expert, waits = revision.expert, (RevisionState.VERIFIED, RevisionState.AUDITED)
    if revision.state not in waits:
        return
    is_passed = verdict == Verdict.PASS
    revision.state = RevisionState.AUDITED if is_passed else RevisionState.VERIFIED
    revision.save(update_fields=["state"])
    if is_passed and expert.state == ExpertState.REJECTED:
        rows.move(expert, ExpertState.IN_REVIEW)
    if is_passed and expert.state == ExpertState.IN_REVIEW:
        rows.move(expert, ExpertState.READY)
    if verdict == Verdict.FAIL and expert.state in (ExpertState.IN_REVIEW, ExpertState.READY):
        rows.move(expert, ExpertState.REJECTED)
