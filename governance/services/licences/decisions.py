"""Deciding on a licence: a second person approves or rejects what the first requested."""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from governance.errors import FourEyes, UnlawfulMove
from governance.log import events
from governance.models import Account, Ending, Licence
from governance.services import snapshots
from governance.services import terms as terms_of
from governance.services.licences.contracts import check_contract
from governance.services.licences.requests import overlaps
from governance.services.locks import policy_act
from governance.vocabulary import EventTag, Instrument, LicenceState


def approve(licence: Licence, *, by: Account, at: datetime, note: str = "") -> Licence:
    """Grant what was requested, and publish it.

    Raises:
        FourEyes: the requester may not approve.
        UnlawfulMove: decided already, the terms are not those requested (then nothing stands), or
            its signed file has no second reader yet.
        InvalidTerms: an exclusive licence approved meanwhile overlaps.
    """
    try:
        with policy_act():
            found = _decided(licence, LicenceState.APPROVED, by, at, note)
            check_contract(found)
            if found.supersedes is not None:
                _replace(found.supersedes, found, by, at)
            found.save()
            events.stage(
                EventTag.LICENCE_APPROVED,
                subject=f"licence:{found.reference}",
                by=by,
                at=at,
                details={"terms_digest": found.terms_digest, "requested_by": found.requested_by_id},
            )
            snapshots.publish(reason=f"licence {found.reference} approved", at=at)
    except IntegrityError as refusal:
        if "licence_exclusive" not in str(refusal) and "licence_none_beside" not in str(refusal):
            raise
        raise overlaps("one approved meanwhile") from refusal
    return found


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


@transaction.atomic
def reject(licence: Licence, *, by: Account, at: datetime, note: str = "") -> Licence:
    """Refuse what was requested.

    Raises:
        FourEyes: the requester may not decide.
        UnlawfulMove: decided already, or the terms are not those requested.
    """
    found = _decided(licence, LicenceState.REJECTED, by, at, note)
    found.save()
    events.stage(
        EventTag.LICENCE_REJECTED,
        subject=f"licence:{found.reference}",
        by=by,
        at=at,
        details={"terms_digest": found.terms_digest, "note": note},
    )
    return found


def _decided(
    licence: Licence, state: LicenceState, by: Account, at: datetime, note: str
) -> Licence:
    found = (
        Licence.objects.select_for_update(of=("self",))
        .select_related("corpus", "supersedes")
        .get(pk=licence.pk)
    )
    if found.state != LicenceState.REQUESTED:
        raise UnlawfulMove(
            f"expected {found} to await a decision, found it {found.state}. Request new terms."
        )
    if found.requested_by_id == by.pk:
        raise FourEyes(
            f"expected a second person to decide on {found}, found the requester. Ask a colleague."
        )
    if terms_of.digest(found.corpus, terms_of.of(found)) != found.terms_digest:
        raise UnlawfulMove(
            f"expected the terms of {found} as they were requested, found them changed since. "
            "Request them anew; nothing was approved."
        )
    found.state, found.decided_by, found.decided_at = state, by, at
    found.decision_note = note
    return found
