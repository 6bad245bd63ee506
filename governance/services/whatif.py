"""What would change: recorded decisions asked again of a policy that is not in force.

    effect(Proposed.of(licence), since=at - timedelta(days=30), until=at, by=account)

The policy of today and the same policy with the change are asked what was asked in the period, at
one instant by which the change has taken effect. Only what the change does shows: neither what
other acts did meanwhile nor what quotas were left. Nothing here writes.

Requests are counted by what they ask, in the database, so a hundred thousand of them cost a few
hundred decisions.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, assert_never

from django.db import connection

from governance import tenancy
from governance.errors import NotFound
from governance.models import Account, Build, Corpus, Expert, Licence, Membership, PolicySnapshot
from governance.policy.compiler import compile_snapshot
from governance.policy.decide import decide
from governance.policy.types import Ask, Decision, Denied, Gap, Grant, Snapshot, Standing, Stop
from governance.services import snapshots, terms
from governance.vocabulary import BuildState, Instrument, LicenceState, Purpose, Role

NEWEST: Final = 100_000
"""At most so many recorded decisions are replayed, the newest of the period."""


@dataclass(frozen=True)
class Proposed:
    """A licence that is not in policy: stored and waiting, or not even stored.

    `replaces` is the reference of the version it takes the place of; empty where there is none.
    """

    corpus: Corpus
    terms: terms.Terms
    reference: str = "proposed"
    replaces: str = ""

    @classmethod
    def of(cls, licence: Licence) -> Proposed:
        """A stored licence, whatever its state."""
        replaced = licence.supersedes.reference if licence.supersedes else ""
        return cls(licence.corpus, terms.of(licence), licence.reference, replaced)


@dataclass(frozen=True)
class Ended:
    """An act on the licence or the expert named; its scope is that of `Ending`."""

    instrument: Instrument
    effective_at: datetime
    licence: str = ""
    expert: str = ""
    purposes: frozenset[Purpose] | None = None
    consumers: frozenset[str] | None = None


@dataclass(frozen=True)
class Removed:
    """A licence as if it had never been approved, its prohibitions included."""

    licence: str


Change = Proposed | Ended | Removed


def deciding(licence: Licence) -> Change:
    """The change a licence stands for: one in policy as if it were not, any other as if it were."""
    is_granted = licence.state == LicenceState.APPROVED
    return Removed(licence.reference) if is_granted else Proposed.of(licence)


@dataclass(frozen=True)
class ConsumerEffect:
    """What changes for one consumer: of its `requests`, so many change at all.

    `refused` would no longer be answered, `admitted` would be answered though they are not now.
    """

    consumer: str
    requests: int
    changed: int
    refused: int
    admitted: int


@dataclass(frozen=True)
class ExpertEffect:
    """In how many requests an expert would be allowed that is not now, and the other way round."""

    expert: str
    gained: int
    lost: int


@dataclass(frozen=True)
class Effect:
    """What a change would do to the requests of a period.

    `requests` were replayed and `left_out` were not, being older than the newest so many;
    `asked_alike` is how many different questions they were. Both lists name only whom the change
    touches, most touched first.
    """

    since: datetime
    until: datetime
    as_of: datetime
    policy_epoch: int
    requests: int
    left_out: int
    asked_alike: int
    changed: int
    consumers: tuple[ConsumerEffect, ...]
    experts: tuple[ExpertEffect, ...]


def effect(
    change: Change,
    *,
    since: datetime,
    until: datetime,
    by: Account | None,
    newest: int = NEWEST,
) -> Effect:
    """What `change` would do to the requests decided from `since` until just before `until`.

    Args:
        by: who looks. For one who is not of our staff only the experts of its owners count; None
            is the system, which sees all.
        newest: at most so many of the newest decisions are replayed.

    Raises:
        NotFound: nothing is promoted, or what the change names is not in policy.
    """
    as_of = max(until, _takes_effect_at(change) or until)
    tally = _Tally(_seen_by(by))
    with tenancy.as_system():  # policy is made from all owners' licences, whoever looks
        today, changed = _policies(change, as_of)
        asked, left_out = _asked(since, until, newest)
    for fields, requests in asked:
        ask = Ask.read(fields)
        tally.count(ask, requests, decide(today, ask, as_of), decide(changed, ask, as_of))
    return Effect(
        since=since,
        until=until,
        as_of=as_of,
        policy_epoch=today.policy_epoch,
        requests=sum(requests for _, requests in asked),
        left_out=left_out,
        asked_alike=len(asked),
        changed=tally.changed.total(),
        consumers=tally.consumers(),
        experts=tally.experts(),
    )


class _Tally:
    """Counts requests whose answer differs, in the experts that may be seen (None: all)."""

    def __init__(self, seen: frozenset[str] | None) -> None:
        self._seen = seen
        self.changed: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._admitted: Counter[str] = Counter()
        self._gained: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def count(self, ask: Ask, requests: int, before: Decision, after: Decision) -> None:
        """Add so many requests that ask alike."""
        self._requests[ask.consumer] += requests
        had, has = self._allowed(before), self._allowed(after)
        if had == has and type(before) is type(after):
            return
        self.changed[ask.consumer] += requests
        if isinstance(after, Denied) and not isinstance(before, Denied):
            self._refused[ask.consumer] += requests
        if isinstance(before, Denied) and not isinstance(after, Denied):
            self._admitted[ask.consumer] += requests
        for name in has - had:
            self._gained[name] += requests
        for name in had - has:
            self._lost[name] += requests

    def _allowed(self, decision: Decision) -> frozenset[str]:
        if isinstance(decision, Denied):
            return frozenset()
        names = frozenset(ref.name for ref in decision.allowed)
        return names if self._seen is None else names & self._seen

    def consumers(self) -> tuple[ConsumerEffect, ...]:
        """Those with a changed request, most changed first."""
        return tuple(
            ConsumerEffect(
                name, self._requests[name], changed, self._refused[name], self._admitted[name]
            )
            for name, changed in sorted(self.changed.items(), key=lambda one: (-one[1], one[0]))
        )

    def experts(self) -> tuple[ExpertEffect, ...]:
        """Those won or lost, most often first."""
        touched = self._gained + self._lost
        return tuple(
            ExpertEffect(name, self._gained[name], self._lost[name])
            for name, _ in sorted(touched.items(), key=lambda one: (-one[1], one[0]))
        )


def _seen_by(account: Account | None) -> frozenset[str] | None:
    if account is None:
        return None
    held = list(Membership.objects.filter(account=account).values_list("role", "owner_id"))
    if any(role != Role.OWNER for role, _ in held):
        return None
    owners = [owner_id for _, owner_id in held]
    return frozenset(Expert.objects.filter(owner__in=owners).values_list("name", flat=True))


def _takes_effect_at(change: Change) -> datetime | None:
    match change:
        case Proposed():
            return change.terms.starts_at
        case Ended():
            return change.effective_at
        case Removed():
            return None
        case _:
            assert_never(change)


def _policies(change: Change, at: datetime) -> tuple[Snapshot, Snapshot]:
    """Policy as rows say it now, and with the change."""
    build = Build.objects.select_related("anchor").filter(state=BuildState.PROMOTED).first()
    epoch = PolicySnapshot.objects.values_list("policy_epoch", flat=True).first()
    if build is None or epoch is None:
        raise NotFound("expected a promoted build to ask about, found none; promote one first.")
    ref = snapshots.build_ref(build)
    standings, grants = snapshots.standings(build), list(snapshots.grants(build, at))
    today = compile_snapshot(epoch, ref, standings, grants)
    match change:
        case Proposed():
            kept = [one for one in grants if not change.replaces or one.licence != change.replaces]
            grants = [*kept, *_granted(change, today)]
        case Ended():
            standings, grants = _ended(change, standings, grants)
        case Removed():
            _expect(any(one.licence == change.licence for one in grants), change.licence)
            grants = [one for one in grants if one.licence != change.licence]
        case _:
            assert_never(change)
    return today, compile_snapshot(epoch, ref, standings, grants)


def _granted(change: Proposed, today: Snapshot) -> Iterable[Grant | Gap]:
    names = Expert.objects.filter(corpus=change.corpus).values_list("name", flat=True)
    in_build = {ref.name for ref in today.experts}
    fields = terms.columns(change.terms)
    return [
        snapshots.grant(name, change.reference, fields, endings=())
        for name in names
        if name in in_build
    ]


_Standings = list[Standing | Gap]
_Grants = list[Grant | Gap]


def _ended(change: Ended, standings: _Standings, grants: _Grants) -> tuple[_Standings, _Grants]:
    stop = Stop(
        instrument=change.instrument,
        starts_at=change.effective_at,
        purposes=change.purposes,
        consumers=change.consumers,
    )
    if change.expert:
        _expect(any(_name(one) == change.expert for one in standings), change.expert)
        return [_stopped(one, stop, _name(one) == change.expert) for one in standings], grants
    _expect(any(one.licence == change.licence for one in grants), change.licence)
    return standings, [_stopped(one, stop, one.licence == change.licence) for one in grants]


def _name(one: Standing | Gap) -> str:
    return one.expert if isinstance(one, Gap) else one.name


def _stopped(one: Any, stop: Stop, is_meant: bool) -> Any:
    if not is_meant or isinstance(one, Gap):
        return one
    return dataclasses.replace(one, stops=(*one.stops, stop))


def _expect(is_there: bool, name: str) -> None:
    if not is_there:
        raise NotFound(
            f"expected {name!r} in the policy of the promoted build, found it is not; "
            "nothing of it can end there."
        )


_ASKED = """
WITH newest AS (
    SELECT input FROM governance_decisionrecord
    WHERE timestamp >= %(since)s AND timestamp < %(until)s
    ORDER BY timestamp DESC LIMIT %(newest)s
)
SELECT (input - 'exhausted')::text, COUNT(*) FROM newest GROUP BY 1
"""


def _asked(
    since: datetime, until: datetime, newest: int
) -> tuple[list[tuple[Mapping[str, Any], int]], int]:
    """What was asked and how often, and how many older decisions of the period are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_ASKED, {"since": since, "until": until, "newest": newest})
        asked = [(json.loads(fields), int(requests)) for fields, requests in cursor]
        cursor.execute(
            "SELECT COUNT(*) FROM governance_decisionrecord"
            " WHERE timestamp >= %s AND timestamp < %s",
            [since, until],
        )
        (in_period,) = cursor.fetchone()
    return asked, in_period - sum(requests for _, requests in asked)
