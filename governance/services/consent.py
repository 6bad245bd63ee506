"""Consent: given under a licence, taken back with one act that nobody may refuse or delay."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max, OuterRef, QuerySet, Subquery

from governance.canonical import sha256_hex
from governance.errors import NotCovered, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    Build,
    ConsentEvent,
    ConsentRecord,
    Ending,
    Expert,
    ExpertFence,
    FollowUp,
    Licence,
    Membership,
    RunnerLease,
    Withdrawal,
)
from governance.services import builds, followups, snapshots
from governance.services.locks import policy_act
from governance.services.terms import plain_words
from governance.vocabulary import (
    CertificateStage,
    ConsentEventKind,
    EventTag,
    ExpertState,
    FollowUpKind,
    Instrument,
    LicenceState,
    Role,
)

CONTROLLER = "the operator of this Reclaim installation"
WITHDRAWAL_METHOD = "the owner's page: Withdraw; or POST /api/v1/experts/<name>/withdraw"
DEFAULT_LEASE_S = 10.0
_PERMITTING = (ConsentEventKind.GIVEN, ConsentEventKind.RENEWED)
_ENDED_BY = {
    Instrument.WITHDRAW: ConsentEventKind.WITHDRAWN,
    Instrument.REVOKE: ConsentEventKind.REVOKED,
    Instrument.INVALIDATE: ConsentEventKind.INVALIDATED,
}


def standing(expert: Expert) -> QuerySet[ConsentRecord]:
    """Records whose newest event permits use (only given and renewed do)."""
    newest = ConsentEvent.objects.filter(record=OuterRef("pk")).order_by("-at", "-id")
    return (
        ConsentRecord.objects.filter(expert=expert)
        .annotate(stands_as=Subquery(newest.values("kind")[:1]))
        .filter(stands_as__in=_PERMITTING)
    )


@transaction.atomic
def give(
    expert: Expert, *, licence: Licence, by: Account, at: datetime, method: str
) -> ConsentRecord:
    """Consent to what a licence says about an expert. Given again, it is renewed.

    Raises:
        NotPermitted: the person speaks neither for the owner nor as legal staff.
        NotCovered: the licence is not approved, or is about another corpus.
        UnlawfulMove: the expert was withdrawn; a new one must be proposed.
    """
    expert = (
        Expert.objects.select_for_update(of=("self",)).select_related("owner").get(pk=expert.pk)
    )
    _check_speaks_for(expert, by)
    if expert.state in (ExpertState.WITHDRAWN, ExpertState.ERASED):
        raise UnlawfulMove(
            f"expected an expert that was not withdrawn, found {expert} {expert.state}. A later "
            "consent is a new record: propose a new expert."
        )
    if licence.state != LicenceState.APPROVED or licence.corpus_id != expert.corpus_id:
        raise NotCovered(
            f"expected an approved licence of {expert.corpus}, found {licence} of "
            f"{licence.corpus}, {licence.state}. Approve one first."
        )
    record = standing(expert).filter(licence=licence).first()
    kind = ConsentEventKind.RENEWED if record else ConsentEventKind.GIVEN
    record = record or ConsentRecord.objects.create(
        owner=expert.owner,
        expert=expert,
        licence=licence,
        controller=CONTROLLER,
        purposes=licence.purposes,
        processing=licence.uses,
        jurisdiction=expert.owner.jurisdiction,
        notice_digest=sha256_hex(plain_words(licence).encode()),
        withdrawal_method=WITHDRAWAL_METHOD,
        created_at=at,
    )
    ConsentEvent.objects.create(record=record, kind=kind, actor=by, method=method, at=at)
    events.stage(
        EventTag.CONSENT_GIVEN,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={"record": str(record.pk), "licence": licence.reference, "kind": kind.value},
    )
    return record


def receipt(record: ConsentRecord) -> dict[str, Any]:
    """A consent receipt with the fields of ISO/IEC TS 27560:2023, as the owner gets it."""
    happened = list(record.events.all())
    return {
        "schema_version": record.schema_version,
        "receipt_id": str(record.pk),
        "record_id": str(record.pk),
        "pii_principal_id": record.owner.slug,
        "pii_principal_name": record.owner.legal_name,
        "controller": record.controller,
        "service": f"expert {record.expert.name}",
        "licence": record.licence.reference,
        "purposes": list(record.purposes),
        "processing": list(record.processing),
        "lawful_basis": record.lawful_basis,
        "jurisdiction": record.jurisdiction,
        "notice": {
            "language": record.notice_language,
            "digest": record.notice_digest,
            "text": plain_words(record.licence),
        },
        "withdrawal_method": record.withdrawal_method,
        "created_at": record.created_at.isoformat(),
        "state": happened[-1].kind if happened else "unknown",
        "events": [
            {"at": event.at.isoformat(), "kind": event.kind, "method": event.method}
            for event in happened
        ],
    }


def withdraw(
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    reason: str = "",
    method: str,
    instrument: Instrument = Instrument.WITHDRAW,
) -> Withdrawal:
    """Take an expert back: one transaction, after which no runner is granted its use again.

    It works in every state of the expert and whatever runs on it. Repeated, or pressed twice at
    once, it gives the first withdrawal back unchanged.

    Raises:
        NotPermitted: the person speaks neither for the owner nor as legal staff.
    """
    with policy_act():
        expert = _locked(expert)
        _check_speaks_for(expert, by)
        first = Withdrawal.objects.filter(expert=expert).first()
        if first is not None:
            return first
        was_built = builds.holding(expert.name).exists()
        ending = _end_consent(expert, instrument, by, at, reason, method)
        called_off = _call_off(expert, at)
        published = snapshots.publish(reason=f"{expert} withdrawn", at=at)
        longest_s = RunnerLease.objects.filter(closed_at=None).aggregate(s=Max("lease_s"))["s"]
        withdrawal = Withdrawal.objects.create(
            expert=expert,
            ending=ending,
            instrument=instrument,
            policy_epoch=published.policy_epoch,
            committed_at=at,
            lease_s=longest_s or DEFAULT_LEASE_S,
        )
        ExpertFence.objects.create(
            expert=expert, expert_name=expert.name, revoked_epoch=published.policy_epoch
        )
        rebuild = _promise(withdrawal, expert, called_off, at, is_rebuilt=was_built)
        events.stage(
            EventTag.CONSENT_WITHDRAWN,
            subject=f"expert:{expert.name}",
            by=by,
            at=at,
            details={
                "instrument": instrument.value,
                "policy_epoch": published.policy_epoch,
                "method": method,
                "reason": reason,
                "build": rebuild.number if rebuild else None,
            },
        )
    return withdrawal


def _end_consent(
    expert: Expert,
    instrument: Instrument,
    by: Account | None,
    at: datetime,
    reason: str,
    method: str,
) -> Ending:
    ending = Ending.objects.create(
        instrument=instrument,
        expert=expert,
        reason=reason,
        ended_by=by,
        effective_at=at,
        recorded_at=at,
    )
    for record in standing(expert):
        ConsentEvent.objects.create(
            record=record,
            kind=_ENDED_BY.get(instrument, ConsentEventKind.WITHDRAWN),
            actor=by,
            method=method,
            reason=reason,
            at=at,
        )
    expert.state = ExpertState.WITHDRAWN
    expert.save(update_fields=["state"])
    return ending


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


def _locked(expert: Expert) -> Expert:
    rows = Expert.objects.select_for_update(of=("self",)).select_related("owner", "corpus")
    return rows.get(pk=expert.pk)


def _check_speaks_for(expert: Expert, by: Account | None) -> None:
    """Owners act for themselves; legal staff may carry out what a letter says. None is us."""
    if by is None:
        return
    speaks = Membership.objects.filter(account=by, role=Role.OWNER, owner=expert.owner_id)
    if not (speaks | Membership.objects.filter(account=by, role=Role.LEGAL)).exists():
        raise NotPermitted(
            f"expected somebody who speaks for {expert.owner}, or legal staff, found {by}. Ask "
            "the owner."
        )
