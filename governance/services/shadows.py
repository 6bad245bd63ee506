"""Licences on trial: a proposed licence is looked at as if it were in policy, and changes nothing.

Nothing happens on the way of a request: what would have differed is worked out from the recorded
decisions when somebody looks.
"""

from __future__ import annotations

from datetime import datetime

from django.db import IntegrityError, transaction

from governance.errors import NotFound, UnlawfulMove
from governance.log import events
from governance.models import Account, Licence, Shadow
from governance.services import whatif
from governance.vocabulary import EventTag, LicenceState


def start(licence: Licence, *, by: Account, at: datetime) -> Shadow:
    """Look at a proposed licence as if it were in policy, from `at` on.

    Raises:
        UnlawfulMove: it is not waiting for a decision, or is being looked at already.
    """
    if licence.state != LicenceState.REQUESTED:
        raise UnlawfulMove(
            f"expected {licence.reference} to wait for a decision, found it {licence.state}; "
            "only a proposed licence can be looked at as if it were in policy."
        )
    try:
        with transaction.atomic():
            shadow = Shadow.objects.create(licence=licence, started_by=by, started_at=at)
            _tell(EventTag.SHADOW_STARTED, shadow, by, at)
    except IntegrityError as error:
        raise UnlawfulMove(
            f"expected {licence.reference} not to be on trial, found it is; look at that trial."
        ) from error
    return shadow


def end(licence: Licence, *, by: Account, at: datetime) -> Shadow:
    """Stop looking at a licence as if it were in policy; what was seen stays to be seen.

    Raises:
        NotFound: it is not being looked at.
    """
    with transaction.atomic():
        open_ones = Shadow.objects.select_for_update().select_related("licence")
        shadow = open_ones.filter(licence=licence, ended_at=None).first()
        if shadow is None:
            raise NotFound(f"expected {licence.reference} to be on trial, found it is not.")
        shadow.ended_by, shadow.ended_at = by, at
        shadow.save(update_fields=["ended_by", "ended_at"])
        _tell(EventTag.SHADOW_ENDED, shadow, by, at)
    return shadow


def seen(shadow: Shadow, *, by: Account | None, at: datetime) -> whatif.Effect:
    """What the licence on trial would have changed since the trial began, up to `at` or its end.

    Raises:
        NotFound: nothing is promoted.
    """
    return whatif.effect(
        whatif.Proposed.of(shadow.licence),
        since=shadow.started_at,
        until=shadow.ended_at or at,
        by=by,
    )


def _tell(tag: EventTag, shadow: Shadow, by: Account, at: datetime) -> None:
    events.stage(
        tag,
        subject=f"licence:{shadow.licence.reference}",
        by=by,
        at=at,
        details={"terms_digest": shadow.licence.terms_digest},
    )
