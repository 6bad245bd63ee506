"""Deciding on a licence: others approve, reject or send back what one person requested."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from governance.errors import UnlawfulMove
from governance.log import events
from governance.models import Account, ApprovalRequest, Ending, Licence
from governance.services import approvals, eyes, snapshots
from governance.services import terms as terms_of
from governance.services.approvals import subjects
from governance.services.licences.contracts import check_contract, check_owner
from governance.services.licences.requests import overlaps
from governance.services.locks import policy_act
from governance.vocabulary import EventTag, Instrument, LicenceState


def approve(licence: Licence, *, by: Account, at: datetime, note: str = "") -> Licence:
    """Sign a requested licence; the last signature its route asks for grants and publishes it.

    Until then the licence stays requested.

    Raises:
        FourEyes: the requester may not approve, nor one person twice.
        NotPermitted: the step it is at asks for somebody else.
        UnlawfulMove: decided already, the terms are not those requested (then the request is void),
            its signed file has no second reader yet, or its owner is a prospect.
        InvalidTerms: an exclusive licence approved meanwhile overlaps.
    """
    request = _request_for(licence, by, at)
    try:
        with policy_act():
            found = _decided(licence, LicenceState.APPROVED, by, at, note)
            check_owner(found)
            check_contract(found)
            if not approvals.sign(request, by=by, at=at, words=note).is_complete:
                licence.refresh_from_db()
                return licence
            if found.supersedes is not None:
                _replace(found.supersedes, found, by, at)
            found.save()
            events.stage(
                EventTag.LICENCE_APPROVED,
                subject=f"licence:{found.reference}",
                by=by,
                at=at,
                details={
                    "terms_digest": found.terms_digest,
                    "requested_by": found.requested_by_id,
                    "request": str(request.pk),
                },
            )
            snapshots.publish(reason=f"licence {found.reference} approved", at=at)
    except IntegrityError as refusal:
        if "licence_exclusive" not in str(refusal) and "licence_none_beside" not in str(refusal):
            raise
        raise overlaps("one approved meanwhile") from refusal
    return found


def _request_for(licence: Licence, by: Account, at: datetime) -> ApprovalRequest:
    """The request about a licence, void from here on if what it asks for has changed."""
    row = Licence.objects.select_related("corpus__owner", "supersedes").get(pk=licence.pk)
    _check_decidable(row, by)
    request = approvals.standing(
        subjects.licence(row), requested_by=row.requested_by, requested_at=row.requested_at
    )
    approvals.check_unchanged(request, at=at)
    return request


def _replace(former: Licence, newer: Licence, by: Account, at: datetime) -> None:
    """A superseded version ends where its successor begins, or now if that is past."""
    stops_at = max(newer.starts_at, at)
    Ending.objects.create(
        instrument=Instrument.TERMINATE,
        licence=former,
        reason=f"superseded by {newer.reference}",
        ended_by=by,
        effective_at=stops_at,
        recorded_at=at,
    )
    # The window freed for the constraint may not exceed what the new terms fill.
    Licence.objects.filter(pk=former.pk).update(stops_at=min(stops_at, newer.starts_at))


def reject(licence: Licence, *, by: Account, at: datetime, note: str = "") -> Licence:
    """Refuse what was requested.

    Raises:
        FourEyes: the requester may not decide.
        NotPermitted: the step it is at asks for somebody else.
        UnlawfulMove: decided already, or the terms are not those requested.
    """
    request = _request_for(licence, by, at)
    with transaction.atomic():
        found = _decided(licence, LicenceState.REJECTED, by, at, note)
        approvals.refuse(request, by=by, at=at, words=note)
        found.save()
        events.stage(
            EventTag.LICENCE_REJECTED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={
                "terms_digest": found.terms_digest,
                "note": note,
                "request": str(request.pk),
            },
        )
    return found


def send_back(licence: Licence, *, by: Account, at: datetime, note: str) -> Licence:
    """Return a request for change: this version is over, its thread goes on with the next one.

    Raises:
        InvalidTerms: no words on what to change.
        FourEyes, NotPermitted, UnlawfulMove: as for `reject`.
    """
    request = _request_for(licence, by, at)
    with transaction.atomic():
        found = _decided(licence, LicenceState.REJECTED, by, at, f"Returned for change: {note}")
        approvals.send_back(request, by=by, at=at, words=note)
        found.save()
        events.stage(
            EventTag.APPROVAL_RETURNED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={
                "terms_digest": found.terms_digest,
                "note": note,
                "request": str(request.pk),
            },
        )
    return found


def _decided(
    licence: Licence, state: LicenceState, by: Account, at: datetime, note: str
) -> Licence:
    found = (
        Licence.objects.select_for_update(of=("self",))
        .select_related("corpus__owner", "supersedes")
        .get(pk=licence.pk)
    )
    _check_decidable(found, by)
    if terms_of.digest(found.corpus, terms_of.of(found)) != found.terms_digest:
        raise UnlawfulMove(
            f"expected the terms of {found} as they were requested, found them changed since. "
            "Request them anew; nothing was approved."
        )
    found.state, found.decided_by, found.decided_at = state, by, at
    found.decision_note = note
    return found


def _check_decidable(licence: Licence, by: Account) -> None:
    if licence.state != LicenceState.REQUESTED:
        raise UnlawfulMove(
            f"expected {licence} to await a decision, found it {licence.state}. Request new terms."
        )
    eyes.check(by, asked=[licence.requested_by_id], to=f"decide on {licence}")
