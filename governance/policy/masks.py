"""Terms as integer bitmasks: each expert of the build has a lane, and a mask sets its lowest bit.

A lane is thirty-two bits wide, more than there are reasons, so that the masks of all reasons can be
laid over one another, each a bit higher, and read back as one number an expert.

One *layer* holds at most one grant of each expert, so that every question about a layer is a few
operations on whole masks; an expert with three licences has a bit in three layers. Instants are
microseconds since 1970 in UTC, as integers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from governance.policy.terms import ExpertRef, Gap, Grant, Standing, Stop
from governance.vocabulary import ExpertState, Instrument, Use, Verdict, Why

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FOREVER = 2**63

WHYS = tuple(Why)
LANE_BITS = 32  # at least as many as there are reasons
PLACE = {why: place for place, why in enumerate(WHYS)}
"""Where a reason stands in the vocabulary; reasons are listed in that order."""

NOT_YET, OVER, ENDED, SUSPENDED, WITHDRAWN = range(5)
"""Columns of a timeline: not begun, written end passed, ended by act, suspended, withdrawn."""

_COLUMN = {Instrument.SUSPEND: SUSPENDED, Instrument.WITHDRAW: WITHDRAWN}
"""Every other instrument ends what it names."""

Columns = tuple[int, int, int, int, int]


def microseconds(at: datetime) -> int:
    """`at` as an integer that orders like it.

    Raises:
        ValueError: `at` carries no offset.
    """
    if at.tzinfo is None:
        raise ValueError(f"expected an instant with its offset, found {at!r}; pass an aware one")
    return (at - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Timeline:
    """What holds when. `states[i]` is true from `instants[i-1]` until just before `instants[i]`."""

    instants: tuple[int, ...]
    states: tuple[Columns, ...]

    def at(self, instant: int) -> Columns:
        """The masks that hold at `instant`, one a column."""
        return self.states[bisect_right(self.instants, instant)]


@dataclass(frozen=True, slots=True)
class Layer:
    """At most one grant of each expert. `present`: experts with a grant to answer in this layer."""

    present: int
    purposes: Mapping[str, int]
    any_consumer: int
    consumers: Mapping[str, int]
    excluded: Mapping[str, int]
    any_territory: int
    territories: Mapping[str, int]
    audit_failed: int
    other_revision: int
    timeline: Timeline


@dataclass(frozen=True, slots=True)
class Masks:
    """A policy ready to be asked.

    `barred` holds what no licence can lift, at any time, as places in `WHYS`. `bits` names the
    experts in build order.
    """

    everyone: int
    barred: tuple[tuple[int, int], ...]
    unlicensed: int
    standings: Timeline
    layers: tuple[Layer, ...]
    bits: Mapping[str, int]

    @property
    def live(self) -> int:
        """Experts that at least one licence could let someone use at some time."""
        dark = self.unlicensed
        for _, mask in self.barred:
            dark |= mask
        return self.everyone & ~dark


def compile_masks(
    experts: Sequence[ExpertRef],
    standings: Mapping[str, Standing],
    grants: Iterable[Grant],
    gaps: Iterable[Gap],
) -> Masks:
    """Masks over `experts`, in that order. Grants and gaps of other experts are left out.

    Time is sorted once a layer: n grants cost O(n log n) comparisons.
    """
    bits = {ref.name: 1 << LANE_BITS * place for place, ref in enumerate(experts)}
    unreadable = _union(bits.get(gap.expert, 0) for gap in gaps)
    unreadable |= _union(bits[ref.name] for ref in experts if ref.name not in standings)
    answering = [grant for grant in grants if Use.ANSWER in grant.uses and grant.expert in bits]
    licensed = _union(bits[grant.expert] for grant in answering)
    everyone = _union(bits.values())
    return Masks(
        everyone=everyone,
        barred=(*_barred(experts, standings, bits), (PLACE[Why.LICENCE_UNREADABLE], unreadable)),
        unlicensed=everyone & ~licensed & ~unreadable,
        standings=_timeline(
            (bits[name], None, None, standing.stops)
            for name, standing in standings.items()
            if name in bits
        ),
        layers=tuple(_layer(layer, standings, bits) for layer in _layers(answering)),
        bits=bits,
    )


def _union(masks: Iterable[int]) -> int:
    whole = 0
    for mask in masks:
        whole |= mask
    return whole


def _barred(
    experts: Sequence[ExpertRef], standings: Mapping[str, Standing], bits: Mapping[str, int]
) -> tuple[tuple[int, int], ...]:
    found: dict[int, int] = defaultdict(int)
    for ref in experts:
        standing = standings.get(ref.name)
        if standing is None:
            continue
        for why in _why_barred(ref, standing):
            found[PLACE[why]] |= bits[ref.name]
    return tuple(found.items())


def _why_barred(ref: ExpertRef, standing: Standing) -> list[Why]:
    whys = []
    if standing.state in (ExpertState.WITHDRAWN, ExpertState.ERASED):
        whys.append(Why.WITHDRAWN)
    elif standing.state is ExpertState.SUSPENDED:
        whys.append(Why.SUSPENDED)
    elif standing.state is not ExpertState.ACTIVE:
        whys.append(Why.AUDIT)
    if standing.verdict is not Verdict.PASS and Why.AUDIT not in whys:
        whys.append(Why.AUDIT)
    if standing.digest != ref.digest:
        whys.append(Why.REVISION)
    return whys


def _layers(grants: Iterable[Grant]) -> list[list[Grant]]:
    """The grants dealt out so that no layer holds two of one expert."""
    layers: list[list[Grant]] = []
    dealt: dict[str, int] = defaultdict(int)
    for grant in grants:
        depth = dealt[grant.expert]
        dealt[grant.expert] += 1
        if depth == len(layers):
            layers.append([])
        layers[depth].append(grant)
    return layers


def _layer(
    grants: Sequence[Grant], standings: Mapping[str, Standing], bits: Mapping[str, int]
) -> Layer:
    purposes: dict[str, int] = defaultdict(int)
    consumers: dict[str, int] = defaultdict(int)
    excluded: dict[str, int] = defaultdict(int)
    territories: dict[str, int] = defaultdict(int)
    any_consumer = any_territory = audit_failed = other_revision = 0
    for grant in grants:
        bit = bits[grant.expert]
        _mark(purposes, grant.purposes, bit)
        _mark(excluded, grant.excluded_consumers, bit)
        _mark(consumers, grant.consumers or (), bit)
        _mark(territories, grant.territories or (), bit)
        any_consumer |= bit if grant.consumers is None else 0
        any_territory |= bit if grant.territories is None else 0
        standing = standings.get(grant.expert)
        audit_failed |= bit if _fails_audit(standing, grant) else 0
        other_revision |= bit if _is_of_other_revision(standing, grant) else 0
    return Layer(
        present=_union(bits[grant.expert] for grant in grants),
        purposes=dict(purposes),
        any_consumer=any_consumer,
        consumers=dict(consumers),
        excluded=dict(excluded),
        any_territory=any_territory,
        territories=dict(territories),
        audit_failed=audit_failed,
        other_revision=other_revision,
        timeline=_timeline(
            (bits[grant.expert], grant.starts_at, grant.ends_at, grant.stops) for grant in grants
        ),
    )


def _mark(masks: dict[str, int], codes: Iterable[str], bit: int) -> None:
    for code in codes:
        masks[str(code)] |= bit


def _fails_audit(standing: Standing | None, grant: Grant) -> bool:
    if standing is None or standing.extraction_rate is None:
        return True
    return standing.extraction_rate > grant.max_extraction_rate


def _is_of_other_revision(standing: Standing | None, grant: Grant) -> bool:
    return grant.revision is not None and (standing is None or standing.digest != grant.revision)


_Period = tuple[int, datetime | None, datetime | None, tuple[Stop, ...]]


def _timeline(periods: Iterable[_Period]) -> Timeline:
    """Sweep over all instants once; each (bit, column) is switched on and off in turn."""
    switches: dict[int, list[tuple[int, int]]] = defaultdict(list)
    state = [0, 0, 0, 0, 0]
    for bit, starts_at, ends_at, stops in periods:
        if starts_at is not None:
            state[NOT_YET] |= bit
            switches[microseconds(starts_at)].append((NOT_YET, bit))
        if ends_at is not None:
            switches[microseconds(ends_at)].append((OVER, bit))
        for column, spans in _spans(stops).items():
            for begin, end in spans:
                switches[begin].append((column, bit))
                if end != _FOREVER:
                    switches[end].append((column, bit))
    instants = sorted(switches)
    states: list[Columns] = [_frozen(state)]
    for instant in instants:
        for column, bit in switches[instant]:
            state[column] ^= bit
        states.append(_frozen(state))
    return Timeline(tuple(instants), tuple(states))


def _frozen(state: Sequence[int]) -> Columns:
    not_yet, over, ended, suspended, withdrawn = state
    return not_yet, over, ended, suspended, withdrawn


def _spans(stops: Iterable[Stop]) -> dict[int, list[tuple[int, int]]]:
    """The stops of one grant by column, as spans that neither overlap nor touch."""
    by_column: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for stop in stops:
        end = _FOREVER if stop.ends_at is None else microseconds(stop.ends_at)
        begin = microseconds(stop.starts_at)
        by_column[_COLUMN.get(stop.instrument, ENDED)].append((begin, end))
    return {column: _merged(sorted(spans)) for column, spans in by_column.items()}


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    whole: list[tuple[int, int]] = []
    for begin, end in spans:
        if whole and begin <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(whole[-1][1], end))
        else:
            whole.append((begin, end))
    return whole
