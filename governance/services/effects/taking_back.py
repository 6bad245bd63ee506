"""Taking the whole of an expert back: disabled in this transaction, erased by what follows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Max

from governance.log import events
from governance.models import (
    Account,
    Build,
    ConsentEvent,
    Ending,
    Expert,
    ExpertFence,
    FollowUp,
    RunnerLease,
    Withdrawal,
)
from governance.services import builds, followups, snapshots
from governance.services.effects.demand import NO_DEMAND, Demand
from governance.services.effects.rules import RULES
from governance.vocabulary import (
    CertificateStage,
    ConsentEventKind,
    EventTag,
    ExpertState,
    FollowUpKind,
    Instrument,
)

DEFAULT_LEASE_S = 10.0
_ENDED_BY = {
    Instrument.WITHDRAW: ConsentEventKind.WITHDRAWN,
    Instrument.TERMINATE: ConsentEventKind.WITHDRAWN,
    Instrument.EXPIRE: ConsentEventKind.EXPIRED,
    Instrument.REVOKE: ConsentEventKind.REVOKED,
    Instrument.INVALIDATE: ConsentEventKind.INVALIDATED,
}


def locked(expert: Expert) -> Expert:
    """The expert's row, locked, with its owner and corpus."""
    rows = Expert.objects.select_for_update(of=("self",)).select_related("owner", "corpus")
    return rows.get(pk=expert.pk)


def take_back(
    expert: Expert,
    instrument: Instrument,
    *,
    by: Account | None,
    at: datetime,
    reason: str,
    method: str,
    demand: Demand = NO_DEMAND,
    ending: Ending | None = None,
) -> Withdrawal:
    """End all use of an expert inside the caller's policy act, and promise what must follow.

    It works in every state of the expert and whatever runs on it. Repeated, it gives the first
    withdrawal back. Who may is the caller's question.

    Args:
        ending: the ending that this carries out, where notice was given; default a new one.
    """
    expert = locked(expert)
    first = Withdrawal.objects.filter(expert=expert).select_related("ending").first()
    if first is not None:
        return first
    was_built = builds.holding(expert.name).exists()
    ending = ending or Ending.objects.create(
        instrument=instrument,
        expert=expert,
        erases=RULES[instrument].erases_expert,
        reason=reason,
        ended_by=by,
        effective_at=at,
        recorded_at=at,
        **demand.as_columns(),
    )
    _end_consent(expert, instrument, by, at, reason, method)
    called_off = _call_off(expert, at)
    withdrawal = _withdrawn(expert, ending, instrument, at)
    rebuild = _promise(withdrawal, expert, called_off, at, is_rebuilt=was_built)
    events.stage(
        EventTag.CONSENT_WITHDRAWN,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={
            "instrument": instrument.value,
            "policy_epoch": withdrawal.policy_epoch,
            "method": method,
            "reason": reason,
            "build": rebuild.number if rebuild else None,
            "erases": ending.erases,
            **demand.as_columns(),
        },
    )
    return withdrawal


def _withdrawn(expert: Expert, ending: Ending, instrument: Instrument, at: datetime) -> Withdrawal:
    """The policy epoch without the expert, the row that waits for it, and the fence behind it."""
    published = snapshots.publish(reason=f"{expert} withdrawn", at=at)
    longest_s = RunnerLease.objects.filter(closed_at=None).aggregate(s=Max("lease_s"))["s"]
    ExpertFence.objects.create(
        expert=expert, expert_name=expert.name, revoked_epoch=published.policy_epoch
    )
    return Withdrawal.objects.create(
        expert=expert,
        ending=ending,
        instrument=instrument,
        policy_epoch=published.policy_epoch,
        committed_at=at,
        lease_s=longest_s or DEFAULT_LEASE_S,
    )


def _end_consent(
    expert: Expert,
    instrument: Instrument,
    by: Account | None,
    at: datetime,
    reason: str,
    method: str,
) -> None:
    # Imported here: the verbs of consent are made of this engine.
    from governance.services.consent.standing import standing

    ConsentEvent.objects.bulk_create(
        ConsentEvent(
            record=record,
            kind=_ENDED_BY[instrument],
            actor=by,
            method=method,
            reason=reason,
            at=at,
        )
        for record in standing(expert)
    )
    expert.state = ExpertState.WITHDRAWN
    expert.save(update_fields=["state"])


def _call_off(expert: Expert, at: datetime) -> list[Any]:
    """Stop all work on the expert, and bury every build with it but the one served until its
    successor is. Returns the rebuilds called off: others may be waiting for them."""
    reason = f"{expert} was withdrawn"
    buried = builds.tombstone(expert.name, at=at, is_served_spared=True)
    build_ids = list(Build.objects.filter(number__in=buried).values_list("pk", flat=True))
    called_off = followups.cancel_about(
        "build", build_ids, kinds=builds.ABOUT_BUILDS, reason=reason, at=at
    )
    revision_ids = list(expert.revisions.values_list("pk", flat=True))
    followups.cancel_about("revision", revision_ids, reason=reason, at=at)
    followups.cancel_about("expert", [expert.pk], reason=reason, at=at)
    return called_off


def _promise(
    withdrawal: Withdrawal,
    expert: Expert,
    called_off: list[Any],
    at: datetime,
    *,
    is_rebuilt: bool,
) -> Build | None:
    """Write down what must follow: enforce, rebuild, erase, and certify each stage.

    Without a build that ever held the expert there is nothing to rebuild and nothing to certify
    as rebuilt; what was uploaded is erased once it is enforced.
    """
    cause = f"{expert} withdrawn"
    quiesce = _open(FollowUpKind.QUIESCE, withdrawal, cause, at)
    _certify(withdrawal, CertificateStage.BLOCKED, quiesce, cause, at)
    build, before_erasure = None, quiesce
    if is_rebuilt:
        build, before_erasure = builds.draft(reason=cause, at=at, withdrawal=withdrawal)
        followups.wait_instead(called_off, after=before_erasure)
    revisions = expert.revisions.order_by("number")
    order = {
        "expert": expert.name,
        "digests": [revision.digest for revision in revisions],
        "weights_digests": [one.weights_digest for one in revisions if one.weights_digest],
        "builds": sorted(builds.holding(expert.name).values_list("number", flat=True)),
    }
    erase = _open(FollowUpKind.ERASE, withdrawal, cause, at, order=order, after=before_erasure)
    _certify(withdrawal, CertificateStage.UNLOADED, erase, cause, at)
    if is_rebuilt:
        _certify(withdrawal, CertificateStage.REBUILT, erase, cause, at)
    return build


def _open(
    kind: FollowUpKind,
    withdrawal: Withdrawal,
    cause: str,
    at: datetime,
    *,
    order: dict[str, Any] | None = None,
    after: FollowUp | None = None,
) -> FollowUp:
    return followups.open(
        kind,
        subject_kind="withdrawal",
        subject_id=withdrawal.pk,
        cause=cause,
        at=at,
        order=order,
        after=after,
    )


def _certify(
    withdrawal: Withdrawal, stage: CertificateStage, after: FollowUp, cause: str, at: datetime
) -> None:
    _open(FollowUpKind.CERTIFY, withdrawal, cause, at, order={"stage": stage.value}, after=after)
