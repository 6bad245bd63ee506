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
from functools import cache
from typing import NamedTuple

from governance.policy.terms import ExpertRef, Gap, Grant, Standing, Stop
from governance.vocabulary import (
    ExpertState,
    Instrument,
    OnWithdrawal,
    Purpose,
    Use,
    Verdict,
    Why,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BEGINNING, _FOREVER = -(2**63), 2**63

WHYS = tuple(Why)
LANE_BITS = 32  # at least as many as there are reasons
PLACE = {why: place for place, why in enumerate(WHYS)}
"""Where a reason stands in the vocabulary; reasons are listed in that order."""

NOT_YET, OVER, ENDED, SUSPENDED, WITHDRAWN, VOIDED = COLUMNS = range(6)
"""Columns of a timeline: not begun, written end passed, ended by act, suspended, withdrawn, voided
by an authority or a court."""

_COLUMN = {
    Instrument.SUSPEND: SUSPENDED,
    Instrument.WITHDRAW: WITHDRAWN,
    Instrument.INVALIDATE: VOIDED,
}
"""Every other instrument ends what it names."""

Columns = tuple[int, ...]

DIMENSIONS = tuple(
    PLACE[why]
    for why in (Why.PURPOSE, Why.CONSUMER, Why.JURISDICTION, Why.RECIPIENT, Why.RECIPIENT)
)
"""What a request says, by the reason it is denied with: purpose, consumer, territory, the kind of
organisation, its sector. `decide` and everything compiled here keep this order."""

_BELOW = {
    purpose: frozenset(other for other in Purpose if other.is_part_of(purpose))
    for purpose in Purpose
}


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
class Scope:
    """Whom a stop bars: see `Stop`. Purposes are spelled out down to the leaves."""

    purposes: frozenset[str] | None
    consumers: frozenset[str] | None
    spares: frozenset[str]

    def hits(self, purpose: str | None, consumer: str | None) -> bool:
        """Whether a request for `purpose` by `consumer` is barred."""
        return (
            (self.purposes is None or purpose in self.purposes)
            and (self.consumers is None or consumer in self.consumers)
            and consumer not in self.spares
        )


_ALL = Scope(None, None, frozenset())


@dataclass(frozen=True, slots=True)
class Schedule:
    """What holds when: for everyone, and beyond that for some."""

    everyone: Timeline
    some: tuple[tuple[Scope, Timeline], ...]

    def at(self, instant: int, purpose: str | None, consumer: str | None) -> Columns:
        """The masks that hold at `instant` for such a request, one a column."""
        found = self.everyone.at(instant)
        for scope, timeline in self.some:
            if scope.hits(purpose, consumer):
                more = timeline.at(instant)
                found = tuple(one | other for one, other in zip(found, more, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class Dimension:
    """Whose grant fits what a request says: the experts by word, and for any word not named."""

    named: Mapping[str, int]
    otherwise: int

    def fitting(self, word: str | None) -> int:
        """The experts whose grant fits `word`; what policy does not know fits none."""
        return 0 if word is None else self.named.get(word, self.otherwise)


@dataclass(frozen=True, slots=True)
class Layer:
    """At most one grant of each expert. `present`: experts with a grant to answer in this layer.

    `dimensions` are those of `DIMENSIONS`. `references` and `licences` name the licence behind
    each expert's grant, and the experts behind each licence. `outlived`: experts whose grant lets
    an answer under way outlive their loss.
    """

    present: int
    dimensions: tuple[Dimension, ...]
    failed: tuple[tuple[int, int], ...]
    schedule: Schedule
    references: Mapping[str, str]
    licences: Mapping[str, int]
    outlived: int


@dataclass(frozen=True, slots=True)
class Masks:
    """A policy ready to be asked.

    `barred` holds what no licence can lift, at any time, as places in `WHYS`. While the written
    period of a prohibition lasts no licence lifts that either: `unanswerable` says for whom
    answering is prohibited, `prohibited` for whom a word is, in each of `DIMENSIONS`. `bits` names
    the experts in build order. Layers come in the order in which licences are charged.
    """

    everyone: int
    barred: tuple[tuple[int, int], ...]
    unlicensed: int
    standings: Schedule
    unanswerable: Timeline
    prohibited: tuple[Mapping[str, Timeline], ...]
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
    here = [grant for grant in grants if grant.expert in bits]
    answering = [grant for grant in here if Use.ANSWER in grant.uses]
    licensed = _union(bits[grant.expert] for grant in answering)
    everyone = _union(bits.values())
    return Masks(
        everyone=everyone,
        barred=(*_barred(experts, standings, bits), (PLACE[Why.LICENCE_UNREADABLE], unreadable)),
        unlicensed=everyone & ~licensed & ~unreadable,
        standings=_schedule(
            (bits[name], standing.stops, ()) for name, standing in standings.items() if name in bits
        ),
        unanswerable=_timeline(
            (_written_period(one, bits) for one in here if Use.ANSWER in one.prohibited_uses),
            columns=1,
        ),
        prohibited=_prohibited(here, bits),
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


def _prohibited(
    grants: Sequence[Grant], bits: Mapping[str, int]
) -> tuple[Mapping[str, Timeline], ...]:
    """In each of `DIMENSIONS`, when each word bars which experts."""
    found: list[dict[str, list[_Span]]] = [defaultdict(list) for _ in DIMENSIONS]
    for grant in grants:
        for spans, (_, excluded) in zip(found, _terms(grant), strict=True):
            for word in excluded:
                spans[word].append(_written_period(grant, bits))
    return tuple(
        {word: _timeline(spans, columns=1) for word, spans in by_word.items()} for by_word in found
    )


def _written_period(grant: Grant, bits: Mapping[str, int]) -> _Span:
    """Acts that end a licence leave this alone: they lift no prohibition."""
    ends_at = _FOREVER if grant.ends_at is None else microseconds(grant.ends_at)
    return _Span(0, bits[grant.expert], microseconds(grant.starts_at), ends_at)


_Terms = tuple[frozenset[str] | None, frozenset[str]]


def _terms(grant: Grant) -> tuple[_Terms, ...]:
    """In each of `DIMENSIONS`, the words the grant permits (None: any) and those it excludes."""
    # Who does not say its sector cannot be told from those a licence excludes.
    sectors = frozenset({*grant.excluded_sectors, ""} if grant.excluded_sectors else ())
    return (
        (_spelled_out(grant.purposes), _spelled_out(grant.prohibited_purposes)),
        (grant.consumers, grant.excluded_consumers),
        (grant.territories, grant.excluded_territories),
        (_plain(grant.recipient_classes), frozenset()),
        (_plain(grant.sectors), _plain(sectors) or frozenset()),
    )


def _plain(words: frozenset[str] | None) -> frozenset[str] | None:
    # Members of an enumeration are found as slowly as they hash.
    return None if words is None else frozenset(str(word) for word in words)


@cache
def _spelled_out(purposes: frozenset[Purpose]) -> frozenset[str]:
    """The purposes and everything below them."""
    return frozenset(below.value for purpose in purposes for below in _BELOW[purpose])


def _layers(grants: Iterable[Grant]) -> list[list[Grant]]:
    """The grants dealt out so that no layer holds two of one expert.

    The licence that began last is dealt first, because it is the one charged; where two began at
    the same instant, the reference decides.
    """
    layers: list[list[Grant]] = []
    dealt: dict[str, int] = defaultdict(int)
    for grant in sorted(grants, key=lambda one: (-microseconds(one.starts_at), one.licence)):
        depth = dealt[grant.expert]
        dealt[grant.expert] += 1
        if depth == len(layers):
            layers.append([])
        layers[depth].append(grant)
    return layers


def _layer(
    grants: Sequence[Grant], standings: Mapping[str, Standing], bits: Mapping[str, int]
) -> Layer:
    licences: dict[str, int] = defaultdict(int)
    terms: list[list[tuple[int, _Terms]]] = [[] for _ in DIMENSIONS]
    audit_failed = other_revision = 0
    for grant in grants:
        bit, standing = bits[grant.expert], standings.get(grant.expert)
        for place, said in enumerate(_terms(grant)):
            terms[place].append((bit, said))
        licences[grant.licence] |= bit
        audit_failed |= bit if _fails_audit(standing, grant) else 0
        other_revision |= bit if _is_of_other_revision(standing, grant) else 0
    return Layer(
        present=_union(bits[grant.expert] for grant in grants),
        dimensions=tuple(_dimension(said) for said in terms),
        failed=((PLACE[Why.AUDIT], audit_failed), (PLACE[Why.REVISION], other_revision)),
        schedule=_schedule(
            (bits[grant.expert], grant.stops, _outside(grant, bits[grant.expert]))
            for grant in grants
        ),
        references={grant.expert: grant.licence for grant in grants},
        licences=dict(licences),
        outlived=_union(
            bits[grant.expert] for grant in grants if grant.on_withdrawal is OnWithdrawal.RECOMPUTE
        ),
    )


def _dimension(terms: Iterable[tuple[int, _Terms]]) -> Dimension:
    """From the bit and the terms of each grant of a layer."""
    found = list(terms)
    otherwise = _union(bit for bit, (named, _) in found if named is None)
    fitting: dict[str, int] = {}
    for bit, (named, excluded) in found:
        for word in (named or frozenset()) - excluded:
            fitting[word] = fitting.get(word, otherwise) | bit
        for word in excluded:
            fitting[word] = fitting.get(word, otherwise) & ~bit
    return Dimension(fitting, otherwise)


def _fails_audit(standing: Standing | None, grant: Grant) -> bool:
    if standing is None or standing.extraction_rate is None:
        return True
    return standing.extraction_rate > grant.max_extraction_rate


def _is_of_other_revision(standing: Standing | None, grant: Grant) -> bool:
    return grant.revision is not None and (standing is None or standing.digest != grant.revision)


class _Span(NamedTuple):
    """A column of a timeline holds for `bit` from `begin` until just before `end`."""

    column: int
    bit: int
    begin: int
    end: int


def _outside(grant: Grant, bit: int) -> tuple[_Span, ...]:
    before = _Span(NOT_YET, bit, _BEGINNING, microseconds(grant.starts_at))
    if grant.ends_at is None:
        return (before,)
    return (before, _Span(OVER, bit, microseconds(grant.ends_at), _FOREVER))


def _schedule(
    periods: Iterable[tuple[int, tuple[Stop, ...], tuple[_Span, ...]]],
) -> Schedule:
    """From (bit, its stops, what else holds for everyone) of each grant or standing."""
    by_scope: dict[Scope, list[_Span]] = {_ALL: []}
    for bit, stops, spans in periods:
        by_scope[_ALL] += spans
        for stop in stops:
            begin = microseconds(stop.starts_at)
            end = _FOREVER if stop.ends_at is None else microseconds(stop.ends_at)
            column = _COLUMN.get(stop.instrument, ENDED)
            by_scope.setdefault(_scope(stop), []).append(_Span(column, bit, begin, end))
    timelines = {scope: _timeline(spans) for scope, spans in by_scope.items()}
    return Schedule(timelines.pop(_ALL), tuple(timelines.items()))


def _scope(stop: Stop) -> Scope:
    purposes = None if stop.purposes is None else _spelled_out(stop.purposes)
    return Scope(purposes, stop.consumers, stop.spares)


def _timeline(spans: Iterable[_Span], columns: int = len(COLUMNS)) -> Timeline:
    """Sweep over all instants once; each (column, bit) is switched on and off in turn."""
    state = [0] * columns
    switches: dict[int, list[_Span]] = defaultdict(list)
    for span in _merged(spans):
        if span.begin == _BEGINNING:
            state[span.column] |= span.bit
        else:
            switches[span.begin].append(span)
        if span.end != _FOREVER:
            switches[span.end].append(span)
    instants = sorted(switches)
    states: list[Columns] = [tuple(state)]
    for instant in instants:
        for span in switches[instant]:
            state[span.column] ^= span.bit
        states.append(tuple(state))
    return Timeline(tuple(instants), tuple(states))


def _merged(spans: Iterable[_Span]) -> list[_Span]:
    """The same, without two of one column and bit that overlap or touch."""
    whole: list[_Span] = []
    for span in sorted(spans):
        last = whole[-1] if whole else None
        if last and span[:2] == last[:2] and span.begin <= last.end:
            whole[-1] = last._replace(end=max(last.end, span.end))
        else:
            whole.append(span)
    return whole
