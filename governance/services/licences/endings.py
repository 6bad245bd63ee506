"""Ending or pausing a licence by a named instrument, and lifting a pause."""

from __future__ import annotations

from datetime import datetime

from governance.models import Account, Ending, Licence
from governance.services import effects
from governance.services.effects.demand import NO_DEMAND, Demand
from governance.services.effects.scope import EVERYTHING, Scope
from governance.vocabulary import Instrument


def end(
    licence: Licence,
    *,
    instrument: Instrument,
    by: Account | None,
    at: datetime,
    reason: str = "",
    scope: Scope = EVERYTHING,
    demand: Demand = NO_DEMAND,
) -> Ending:
    """End or pause a licence, and publish it. Ending it twice gives the first ending back.

    A termination takes effect after the licence's notice, and then lets existing consumers wind
    down; every other instrument at once. Bytes stay: what erases is the withdrawal of an expert.

    Raises:
        NotPermitted: the instrument is not theirs to use.
        InvalidTerms: the scope names what does not exist, or the demand cannot be one.
        UnlawfulMove: the licence was never approved.
    """
    return effects.put_on_licence(
        instrument, licence, by=by, at=at, scope=scope, reason=reason, demand=demand
    )


def resume(licence: Licence, *, by: Account | None, at: datetime, reason: str = "") -> Ending:
    """Lift the suspension of a licence, and publish it.

    Raises:
        UnlawfulMove: it is not suspended.
        NotPermitted: the other side suspended it.
    """
    return effects.lift_pause(licence, by=by, at=at, reason=reason)
