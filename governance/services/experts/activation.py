"""Whether an expert that may serve does: suspended and resumed."""

from __future__ import annotations

from datetime import datetime

from governance.models import Account, Expert
from governance.services import effects
from governance.vocabulary import Instrument


def suspend(
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    reason: str,
    scope: effects.Scope = effects.EVERYTHING,
) -> Expert:
    """Disable an expert, or a part of its use, for a while: nothing is erased.

    Repeating it changes nothing. A build on its way that names the expert could not be promoted,
    so another is planned in its place.

    Raises:
        NotPermitted: the person is neither staff nor speaks for the owner.
        UnlawfulMove: the expert is not active.
    """
    effects.put_into_effect(
        Instrument.SUSPEND, expert, by=by, at=at, scope=scope, reason=reason, method="suspension"
    )
    return Expert.objects.select_related("owner", "corpus").get(pk=expert.pk)


def resume(expert: Expert, *, by: Account | None, at: datetime, reason: str = "") -> Expert:
    """Lift a suspension. Where the build served was made without the expert, plan another.

    Raises:
        UnlawfulMove: the expert is not suspended.
        NotPermitted: the other side suspended it: an owner's pause only the owner lifts.
    """
    effects.lift_pause(expert, by=by, at=at, reason=reason)
    return Expert.objects.select_related("owner", "corpus").get(pk=expert.pk)
