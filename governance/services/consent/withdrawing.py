"""Consent taken back: one act that nobody may refuse or delay."""

from __future__ import annotations

from datetime import datetime
from typing import overload

from governance.models import Account, Ending, Expert, Withdrawal
from governance.services import effects
from governance.services.consent.standing import check_speaks_for
from governance.services.effects.scope import EVERYTHING, Scope
from governance.vocabulary import Instrument


@overload
def withdraw(
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    reason: str = "",
    method: str,
    instrument: Instrument = Instrument.WITHDRAW,
) -> Withdrawal: ...


@overload
def withdraw(
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    reason: str = "",
    method: str,
    instrument: Instrument = Instrument.WITHDRAW,
    scope: Scope,
) -> Withdrawal | Ending: ...


def withdraw(
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    reason: str = "",
    method: str,
    instrument: Instrument = Instrument.WITHDRAW,
    scope: Scope = EVERYTHING,
) -> Withdrawal | Ending:
    """Take an expert back: one transaction, after which no runner is granted its use again.

    It works in every state of the expert and whatever runs on it. Repeated, or pressed twice at
    once, it gives the first withdrawal back unchanged. Everything, which is the default, is
    erased; a narrower scope is disabled and gives the ending back.

    Raises:
        NotPermitted: the person speaks neither for the owner nor as legal staff.
        InvalidTerms: the scope names what does not exist.
    """
    check_speaks_for(expert, by)
    done = effects.put_into_effect(
        instrument, expert, by=by, at=at, method=method, scope=scope, reason=reason
    )
    return done.withdrawal or done.ending
