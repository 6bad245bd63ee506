"""Ending or pausing a licence by a named instrument, and lifting a pause."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from governance.errors import UnlawfulMove
from governance.log import events
from governance.models import Account, Ending, Licence
from governance.services import snapshots
from governance.services.locks import policy_act
from governance.vocabulary import EventTag, Instrument, LicenceState


def end(
    licence: Licence, *, instrument: Instrument, by: Account | None, at: datetime, reason: str = ""
) -> Ending:
    """End or pause a licence, and publish it. Ending it twice gives the first ending back.

    A termination takes effect after the licence's notice; every other instrument at once. Bytes
    stay: what erases is the withdrawal of an expert.

    Raises:
        UnlawfulMove: the licence was never approved.
    """
    instrument = Instrument(instrument)
    with policy_act():
        found = Licence.objects.select_for_update().get(pk=licence.pk)
        if found.state != LicenceState.APPROVED:
            raise UnlawfulMove(
                f"expected an approved licence, found {found} {found.state}. Reject it instead."
            )
        standing = _standing(found, instrument, at)
        if standing is not None:
            return standing
        days = found.notice_days if instrument == Instrument.TERMINATE else 0
        ending = Ending.objects.create(
            instrument=instrument,
            licence=found,
            reason=reason,
            ended_by=by,
            effective_at=at + timedelta(days=days),
            recorded_at=at,
        )
        if instrument != Instrument.SUSPEND:
            earliest = min(found.stops_at or ending.effective_at, ending.effective_at)
            Licence.objects.filter(pk=found.pk).update(stops_at=earliest)
        events.stage(
            EventTag.LICENCE_ENDED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={
                "instrument": instrument.value,
                "effective_at": ending.effective_at,
                "reason": reason,
            },
        )
        snapshots.publish(reason=f"licence {found.reference}: {instrument.label.lower()}", at=at)
    return ending


def _standing(licence: Licence, instrument: Instrument, at: datetime) -> Ending | None:
    """The ending that already does what is asked: a pause for a pause, else one as early."""
    endings = licence.endings.filter(lifts=None, lifted_by=None)
    if instrument == Instrument.SUSPEND:
        return endings.first()
    return (
        endings.exclude(instrument=Instrument.SUSPEND)
        .filter(Q(instrument=instrument) | Q(effective_at__lte=at))
        .order_by("effective_at")
        .first()
    )


def resume(licence: Licence, *, by: Account, at: datetime, reason: str = "") -> Ending:
    """Lift the suspension of a licence, and publish it.

    Raises:
        UnlawfulMove: it is not suspended.
    """
    with policy_act():
        found = Licence.objects.select_for_update().get(pk=licence.pk)
        paused = found.endings.filter(
            instrument=Instrument.SUSPEND, lifts=None, lifted_by=None
        ).first()
        if paused is None:
            raise UnlawfulMove(f"expected a suspended licence, found {found} not suspended.")
        lifting = Ending.objects.create(
            instrument=Instrument.SUSPEND,
            licence=found,
            lifts=paused,
            reason=reason,
            ended_by=by,
            effective_at=at,
            recorded_at=at,
        )
        events.stage(
            EventTag.LICENCE_RESUMED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={"suspended_at": paused.effective_at, "reason": reason},
        )
        snapshots.publish(reason=f"licence {found.reference} resumed", at=at)
    return lifting
