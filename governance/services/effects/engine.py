"""Putting an instrument into effect, and lifting a pause: one transaction and one event each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from governance.errors import NotCovered, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import Account, Build, Ending, Expert, Licence, Withdrawal
from governance.services import builds, snapshots
from governance.services.effects import notice
from governance.services.effects.demand import NO_DEMAND, Demand
from governance.services.effects.rules import Capacity, capacities, check_may
from governance.services.effects.scope import EVERYTHING, Scope
from governance.services.effects.taking_back import locked, take_back
from governance.services.locks import policy_act
from governance.vocabulary import BuildState, EventTag, ExpertState, Instrument, LicenceState


@dataclass(frozen=True, slots=True)
class Effect:
    """What an act brought about. `withdrawal` is there when an expert's bytes are to go."""

    ending: Ending
    withdrawal: Withdrawal | None = None


def put_into_effect(
    instrument: Instrument,
    expert: Expert,
    *,
    by: Account | None,
    at: datetime,
    method: str,
    scope: Scope = EVERYTHING,
    reason: str = "",
    demand: Demand = NO_DEMAND,
) -> Effect:
    """End or pause use of an expert. Repeated, it gives the first effect back unchanged.

    Raises:
        NotPermitted: the instrument is not theirs to use.
        InvalidTerms: the scope names what does not exist, or the demand cannot be one.
        UnlawfulMove: the expert cannot be paused any more, or a licence still covers one that
            is said to have expired.
    """
    instrument = Instrument(instrument)
    scope.check()
    demand.check(instrument)
    with policy_act():
        found = locked(expert)
        held = check_may(instrument, by, found.owner_id, is_licence=False)
        if instrument == Instrument.EXPIRE:
            _check_nothing_covers(found, at)
        if instrument == Instrument.TERMINATE:
            return Effect(notice.give(found, by=by, at=at, scope=scope, reason=reason))
        if instrument == Instrument.SUSPEND or not scope.is_everything:
            is_owners = Capacity.OWNER in held
            said = {"reason": reason, **demand.as_columns()}
            return Effect(_disable(found, instrument, scope, by, at, said, is_owners=is_owners))
        withdrawal = take_back(
            found, instrument, by=by, at=at, reason=reason, method=method, demand=demand
        )
    return Effect(withdrawal.ending, withdrawal)


def _check_nothing_covers(expert: Expert, at: datetime) -> None:
    licences = Licence.objects.agreed().filter(corpus_id=expert.corpus_id)
    left = licences.filter(Q(ends_at=None) | Q(ends_at__gt=at))
    left = left.filter(Q(stops_at=None) | Q(stops_at__gt=at))
    if left.exists() or not licences.exists():
        raise NotCovered(
            f"expected {expert} with every licence at its end, found {left.first() or 'none ever'}."
            " An expert expires when its last licence has."
        )


def _disable(
    expert: Expert,
    instrument: Instrument,
    scope: Scope,
    by: Account | None,
    at: datetime,
    words: dict[str, str],
    *,
    is_owners: bool,
) -> Ending:
    """Disable all of an expert for a while, or a part of its use: nothing is erased.

    `words` are those of the ending's columns that say why.
    """
    standing = expert.endings.filter(instrument=instrument, lifts=None, lifted_by=None)
    for ending in scope.same(standing):
        if instrument != Instrument.SUSPEND or _is_owners(ending, expert) == is_owners:
            return ending
    is_whole = scope.is_everything
    _check_not_over(expert)
    # An owner's pause is taken in any state, and holds when the expert is activated after it.
    if is_whole and (not is_owners or ExpertState(expert.state).may_become(ExpertState.SUSPENDED)):
        _move(expert, ExpertState.SUSPENDED)
    ending = Ending.objects.create(
        instrument=instrument,
        expert=expert,
        ended_by=by,
        effective_at=at,
        recorded_at=at,
        **words,
        **scope.as_columns(),
    )
    said = f"{expert} suspended" if instrument == Instrument.SUSPEND else f"{expert}: {scope.words}"
    build = builds.replan_without(expert.name, reason=said, at=at) if is_whole else None
    is_pause = instrument == Instrument.SUSPEND
    events.stage(
        EventTag.EXPERT_SUSPENDED if is_pause else EventTag.CONSENT_NARROWED,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={
            "instrument": instrument.value,
            **words,
            "build": build.number if build else None,
            **scope.as_columns(),
        },
    )
    snapshots.publish(reason=said, at=at)
    return ending


def put_on_licence(
    instrument: Instrument,
    licence: Licence,
    *,
    by: Account | None,
    at: datetime,
    scope: Scope = EVERYTHING,
    reason: str = "",
    demand: Demand = NO_DEMAND,
) -> Ending:
    """End or pause a licence. Repeated, it gives the first ending back. Bytes stay.

    Raises:
        NotPermitted: the instrument is not theirs to use.
        InvalidTerms: the scope names what does not exist, or the demand cannot be one.
        UnlawfulMove: the licence was never approved.
    """
    instrument = Instrument(instrument)
    scope.check()
    demand.check(instrument)
    with policy_act():
        locked = Licence.objects.select_for_update(of=("self",)).select_related("corpus")
        row = locked.get(pk=licence.pk)
        held = check_may(instrument, by, row.corpus.owner_id, is_licence=True)
        if row.state != LicenceState.APPROVED:
            raise UnlawfulMove(
                f"expected an approved licence, found {row} {row.state}. Reject it instead."
            )
        standing = _standing(row, instrument, scope, at, is_owners=Capacity.OWNER in held)
        if standing is not None:
            return standing
        said = {"reason": reason, **demand.as_columns(), **scope.as_columns()}
        ending = Ending.objects.create(
            instrument=instrument,
            licence=row,
            ended_by=by,
            recorded_at=at,
            **said,
            **_clocks(row, instrument, scope, at),
        )
        if instrument != Instrument.SUSPEND and scope.is_everything:
            over_at = ending.wind_down_until or ending.effective_at
            earliest = min(row.stops_at or over_at, over_at)
            Licence.objects.filter(pk=row.pk).update(stops_at=earliest)
        events.stage(
            EventTag.LICENCE_ENDED,
            subject=f"licence:{row.reference}",
            by=by,
            at=at,
            details={
                "instrument": instrument.value,
                "effective_at": ending.effective_at,
                "wind_down_until": ending.wind_down_until,
                **said,
            },
        )
        snapshots.publish(reason=f"licence {row.reference}: {instrument.label.lower()}", at=at)
    return ending


def _clocks(licence: Licence, instrument: Instrument, scope: Scope, at: datetime) -> dict[str, Any]:
    """When an ending takes effect, and who may go on for how long after that."""
    if instrument == Instrument.EXPIRE and licence.ends_at is not None:
        return {"effective_at": licence.ends_at}
    if instrument != Instrument.TERMINATE:
        return {"effective_at": at}
    phases = notice.phases(licence, at, scope)
    if phases.wind_down_until is None:
        return {"effective_at": phases.effective_at}
    return {
        "effective_at": phases.effective_at,
        "wind_down_until": phases.wind_down_until,
        "wind_down_consumers": notice.existing_consumers(licence, before=at),
    }


def _standing(
    licence: Licence, instrument: Instrument, scope: Scope, at: datetime, *, is_owners: bool
) -> Ending | None:
    """The ending that already does what is asked: a pause for a pause, else one as early."""
    endings = licence.endings.filter(lifts=None, lifted_by=None)
    if instrument == Instrument.SUSPEND:
        over = _over(endings.exclude(instrument=Instrument.SUSPEND), at)
        if over.exists():
            return over.first()
        pauses = scope.same(endings.filter(instrument=instrument))
        return next(
            (one for one in pauses if _speaks(one, licence.corpus.owner_id) == is_owners), None
        )
    ended = endings.exclude(instrument=Instrument.SUSPEND)
    again = scope.same(ended).filter(instrument=instrument)
    if instrument == Instrument.EXPIRE:
        at = min(at, licence.ends_at or at)  # what came after the written end changes nothing
    return (again | _over(ended, at)).order_by("effective_at").first()


def _over(endings: QuerySet[Ending], at: datetime) -> QuerySet[Ending]:
    """Those of whole scope under which nobody may go on at `at`."""
    is_wound_down = Q(wind_down_until=None) | Q(wind_down_until__lte=at)
    whole = endings.filter(purposes=None, consumers=None)
    return whole.filter(is_wound_down, effective_at__lte=at)


def lift_pause(
    target: Expert | Licence, *, by: Account | None, at: datetime, reason: str = ""
) -> Ending:
    """Lift the pause of an expert or a licence that `by` may lift; the widest, where several stand.

    Raises:
        UnlawfulMove: it is not suspended.
        NotPermitted: only the other side's pause stands.
    """
    pauses = target.endings.filter(instrument=Instrument.SUSPEND, lifts=None, lifted_by=None)
    standing = sorted(
        pauses.select_related("expert__owner", "licence__corpus__owner", "ended_by"),
        key=lambda one: not Scope.of_ending(one).is_everything,
    )
    if not standing:
        raise UnlawfulMove(
            f"expected {target} to be suspended, found that it is not. There is nothing to lift."
        )
    held = capacities(by, _owner_id(standing[0]))
    is_owner = Capacity.OWNER in held
    own = [one for one in standing if _speaks(one, _owner_id(one)) == is_owner]
    return lift((own or standing)[0], by=by, at=at, reason=reason)


def lift(ending: Ending, *, by: Account | None, at: datetime, reason: str = "") -> Ending:
    """Lift a pause. The owner's own pause is lifted by the owner alone, and ours by us.

    Raises:
        UnlawfulMove: it is no pause, or was lifted already.
        NotPermitted: the other side paused it.
    """
    with policy_act():
        found = Ending.objects.select_related("expert__owner", "licence__corpus__owner").get(
            pk=ending.pk
        )
        is_free = not Ending.objects.filter(lifts=found).exists()
        if found.instrument != Instrument.SUSPEND or found.lifts_id is not None or not is_free:
            raise UnlawfulMove(f"expected a pause that stands, found {found}. Look at its history.")
        _check_may_lift(found, by)
        lifting = Ending.objects.create(
            instrument=Instrument.SUSPEND,
            expert=found.expert,
            licence=found.licence,
            lifts=found,
            reason=reason,
            ended_by=by,
            effective_at=at,
            recorded_at=at,
            purposes=found.purposes,
            consumers=found.consumers,
        )
        if found.expert is not None:
            _serve_again(found.expert, at)
        _tell_lifted(found, by, at, reason)
    return lifting


def _check_may_lift(ending: Ending, by: Account | None) -> None:
    owner_id = _owner_id(ending)
    held = capacities(by, owner_id)
    if _speaks(ending, owner_id):
        if Capacity.OWNER not in held:
            raise NotPermitted(
                f"expected the owner to lift its own pause, found {by or 'the system'}. Only the "
                "owner may."
            )
    elif not held & {Capacity.LEGAL, Capacity.ENGINEER, Capacity.SYSTEM}:
        raise NotPermitted(f"expected our staff to lift a pause of ours, found {by}. Ask them.")


def _serve_again(expert: Expert, at: datetime) -> None:
    """Active again where no whole pause stands; built again where the newest build lacks it."""
    found = locked(expert)
    pauses = found.endings.filter(instrument=Instrument.SUSPEND, lifts=None, lifted_by=None)
    if found.state != ExpertState.SUSPENDED or EVERYTHING.same(pauses).exists():
        return
    _move(found, ExpertState.ACTIVE)
    newest = Build.objects.filter(
        state__in=(BuildState.PLANNED, BuildState.ASSEMBLED, BuildState.PROMOTED)
    ).first()
    if newest is None or found.name not in {row["name"] for row in newest.experts}:
        builds.draft(reason=f"{found} resumed", at=at)


def _tell_lifted(paused: Ending, by: Account | None, at: datetime, reason: str) -> None:
    if paused.expert is not None:
        tag, subject = EventTag.EXPERT_RESUMED, f"expert:{paused.expert.name}"
    else:
        assert paused.licence is not None
        tag, subject = EventTag.LICENCE_RESUMED, f"licence:{paused.licence.reference}"
    events.stage(
        tag,
        subject=subject,
        by=by,
        at=at,
        details={"suspended_at": paused.effective_at, "reason": reason},
    )
    snapshots.publish(reason=f"{subject} resumed", at=at)


def _owner_id(ending: Ending) -> Any:
    if ending.expert is not None:
        return ending.expert.owner_id
    assert ending.licence is not None
    return ending.licence.corpus.owner_id


def _speaks(ending: Ending, owner_id: Any) -> bool:
    """Whether the owner itself put the ending into effect."""
    return ending.ended_by is not None and Capacity.OWNER in capacities(ending.ended_by, owner_id)


def _is_owners(ending: Ending, expert: Expert) -> bool:
    return _speaks(ending, expert.owner_id)


def _check_not_over(expert: Expert) -> None:
    if expert.state in (ExpertState.WITHDRAWN, ExpertState.ERASED):
        raise UnlawfulMove(
            f"expected an expert that was not withdrawn, found {expert} {expert.state}. All use "
            "is over already."
        )


def _move(expert: Expert, state: ExpertState) -> None:
    if expert.state == state:
        return
    if not ExpertState(expert.state).may_become(state):
        raise UnlawfulMove(
            f"expected an expert that may become {state}, found {expert} {expert.state}."
        )
    expert.state = state
    expert.save(update_fields=["state"])
