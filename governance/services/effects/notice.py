"""Notice and wind-down: the one instrument whose effect waits, and what happens when it comes.

Until the notice is over everything stays as it is. Then a licence lets those consumers go on that
were permitted to use it before the notice was given, for as many days as it names; nobody else.
After that, nobody. Both instants are known when notice is given and compiled into policy, so no job
has to run in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from governance.log import events
from governance.models import Account, Ending, Expert, Licence, UsageRecord
from governance.services import snapshots
from governance.services.effects.scope import Scope
from governance.services.effects.taking_back import take_back
from governance.services.locks import policy_act
from governance.vocabulary import EventTag, ExpertState, Instrument


@dataclass(frozen=True, slots=True)
class Phases:
    """When a termination takes effect, and until when existing consumers may go on after that."""

    effective_at: datetime
    wind_down_until: datetime | None


def phases(licence: Licence, at: datetime, scope: Scope) -> Phases:
    """The instants a termination given at `at` would have. A part of a licence has no wind-down."""
    effective_at = at + timedelta(days=licence.notice_days)
    if not (licence.wind_down_days and scope.is_everything):
        return Phases(effective_at, None)
    return Phases(effective_at, effective_at + timedelta(days=licence.wind_down_days))


def existing_consumers(licence: Licence, *, before: datetime) -> list[str]:
    """Consumers that were permitted an expert of the licence's corpus before `before`, by slug."""
    names = list(Expert.objects.filter(corpus_id=licence.corpus_id).values_list("name", flat=True))
    used = UsageRecord.objects.filter(allowed__overlap=names, opened_at__lt=before)
    return sorted(set(used.order_by().values_list("consumer__slug", flat=True).distinct()))


def notice_days(expert: Expert, at: datetime) -> int:
    """The longest notice among the licences in force on the expert's corpus; 0 without any."""
    licences = Licence.objects.in_force(at).filter(corpus_id=expert.corpus_id)
    return licences.aggregate(days=Max("notice_days"))["days"] or 0


def give(expert: Expert, *, by: Account | None, at: datetime, scope: Scope, reason: str) -> Ending:
    """Give notice for an expert, inside `put_into_effect`. It erases when the notice is over."""
    standing = expert.endings.filter(instrument=Instrument.TERMINATE)
    known = scope.same(standing).first() or getattr(
        getattr(expert, "withdrawal", None), "ending", None
    )
    if known is not None:
        return known
    ending = Ending.objects.create(
        instrument=Instrument.TERMINATE,
        expert=expert,
        erases=scope.is_everything,
        reason=reason,
        ended_by=by,
        effective_at=at + timedelta(days=notice_days(expert, at)),
        recorded_at=at,
        **scope.as_columns(),
    )
    events.stage(
        EventTag.NOTICE_GIVEN,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={
            "effective_at": ending.effective_at,
            "erases": ending.erases,
            "reason": reason,
            **scope.as_columns(),
        },
    )
    snapshots.publish(reason=f"notice given for {expert}", at=at)
    return ending


def carry_out_notices(*, at: datetime) -> list[str]:
    """Take back every expert whose notice is over; their names. Policy has denied them since."""
    over = Ending.objects.filter(
        instrument=Instrument.TERMINATE,
        expert__isnull=False,
        erases=True,
        effective_at__lte=at,
        withdrawal=None,
    ).exclude(expert__state__in=(ExpertState.WITHDRAWN, ExpertState.ERASED))
    done = []
    for ending in over.select_related("expert", "ended_by"):
        assert ending.expert is not None
        with policy_act():
            take_back(
                ending.expert,
                Instrument.TERMINATE,
                by=ending.ended_by,
                at=at,
                reason=ending.reason,
                method="the notice is over",
                ending=ending,
            )
        done.append(ending.expert.name)
    return done
