"""The policy decision: who may use which experts now, and every reason why not.

Pure: the same snapshot, question and instant give the same answer anywhere, so a decision can be
replayed years later. The rules, in order of weight:

1. The public expert is always allowed and never listed.
2. Deny overrides: what bars an expert (withdrawn, suspended, unreadable, not audited, another
   revision) and what any licence prohibits (answering, a purpose with all below it, a consumer, a
   territory, a sector) bars it whatever another licence grants.
3. Default deny: an expert is allowed when at least one licence fits in *every* dimension and has
   quota left. A purpose, consumer, territory, kind or sector that policy does not know fits none.
4. Deny on error: terms that cannot be read darken exactly their expert.
5. All reasons: no dimension is skipped because another one already denies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import datetime
from itertools import compress
from operator import not_
from typing import NamedTuple

from governance.policy.masks import (
    DIMENSIONS,
    LANE_BITS,
    PLACE,
    WHYS,
    Layer,
    Masks,
    microseconds,
)
from governance.policy.terms import is_consumer, is_territory
from governance.policy.types import Ask, Decision, Denied, ExpertRef, Permitted, Snapshot
from governance.vocabulary import PUBLIC_EXPERT, RecipientClass, Sector, Why

# Reasons travel as their place in the vocabulary: members of an enumeration hash slowly.
_WITHDRAWN, _SUSPENDED = PLACE[Why.WITHDRAWN], PLACE[Why.SUSPENDED]
_VOIDED = PLACE[Why.VOIDED]
_NO_LICENCE, _NOT_YET, _EXPIRED = PLACE[Why.NO_LICENCE], PLACE[Why.NOT_YET], PLACE[Why.EXPIRED]
_QUOTA, _EXCLUDED = PLACE[Why.QUOTA], PLACE[Why.EXCLUDED_BY_REQUEST]

_RECIPIENT_CLASSES = frozenset(("", *(known.value for known in RecipientClass)))
_SECTORS = frozenset(("", *(known.value for known in Sector)))

_Reasons = list[tuple[int, int]]
"""A reason by its place, and the experts it holds for."""


def decide(
    snapshot: Snapshot, ask: Ask, at: datetime, *, exhausted: frozenset[str] = frozenset()
) -> Decision:
    """What `ask` may use at `at`, with every reason for every expert it may not use.

    Args:
        exhausted: references of licences whose quota is used up; they cover nothing.

    Raises:
        ValueError: `at` carries no offset.
    """
    masks = snapshot.masks
    said, now = Said.by(ask), microseconds(at)
    failures, outlived = _from_licences(masks, said, now, exhausted)
    reasons = [
        *_from_standings(masks, said, now),
        *_from_prohibitions(masks, said, now),
        *failures,
        (_EXCLUDED, _named(masks, ask.exclude)),
    ]
    codes = _codes(masks, reasons)
    denied = {name: _MEANINGS[code] for name, code in zip(masks.bits, codes, strict=True) if code}
    unmet = _unmet(masks, ask, denied)
    if unmet:
        denied |= unmet
        why = {reason for whys in unmet.values() for reason in whys}
        return Denied(snapshot.policy_epoch, tuple(w for w in WHYS if w in why), denied)
    allowed = tuple(compress(snapshot.experts, map(not_, codes)))
    return Permitted(
        snapshot.policy_epoch, allowed, denied, _outlived(masks, ask, outlived, allowed)
    )


def may_outlive(decision: Decision, lost: Iterable[str]) -> bool:
    """Whether an answer under way may go on without `lost`, for all that policy says of them now.

    Never where an authority or a court voided one, whatever the licence says; and never where
    nothing is said about why one is gone.
    """
    return all(Why.VOIDED not in decision.denied.get(name, (Why.VOIDED,)) for name in lost)


class Said(NamedTuple):
    """What a request says in each of `DIMENSIONS`; None where policy does not know the word."""

    purpose: str | None
    consumer: str | None
    territory: str | None
    recipient_class: str | None
    sector: str | None

    @classmethod
    def by(cls, ask: Ask) -> Said:
        """What `ask` says."""
        return cls(
            str(ask.purpose),
            ask.consumer if is_consumer(ask.consumer) else None,
            ask.territory if is_territory(ask.territory) else None,
            str(ask.recipient_class) if ask.recipient_class in _RECIPIENT_CLASSES else None,
            str(ask.sector) if ask.sector in _SECTORS else None,
        )


def _from_standings(masks: Masks, said: Said, now: int) -> _Reasons:
    """What bars an expert whatever its licences say."""
    _, _, ended, suspended, withdrawn, voided = masks.standings.at(now, said.purpose, said.consumer)
    return [
        *masks.barred,
        (_NO_LICENCE, masks.unlicensed),
        (_EXPIRED, ended),
        (_SUSPENDED, suspended),
        (_WITHDRAWN, withdrawn),
        (_VOIDED, voided),
    ]


def _from_prohibitions(masks: Masks, said: Said, now: int) -> _Reasons:
    """What any licence of an expert forbids while its written period lasts."""
    found = [(_NO_LICENCE, masks.unanswerable.at(now)[0])]
    for place, word, prohibited in zip(DIMENSIONS, said, masks.prohibited, strict=True):
        if word is not None and word in prohibited:
            found.append((place, prohibited[word].at(now)[0]))
    return found


def _from_licences(
    masks: Masks, said: Said, now: int, exhausted: frozenset[str]
) -> tuple[_Reasons, int]:
    """Why each expert that no licence covers is not covered; and those of the others whose loss an
    answer under way outlives, by the licence that is charged: the first that covers."""
    found: _Reasons = []
    covered = outlived = 0
    for layer in masks.layers:
        failures = failures_of(layer, said, now, exhausted)
        newly = covered_by(layer, failures) & ~covered
        covered |= newly
        outlived |= newly & layer.outlived
        found += failures
    return [(place, mask & ~covered) for place, mask in found], outlived


def failures_of(layer: Layer, said: Said, now: int, exhausted: frozenset[str]) -> _Reasons:
    """For each dimension, the experts whose grant in this layer does not fit."""
    not_yet, over, ended, suspended, withdrawn, voided = layer.schedule.at(
        now, said.purpose, said.consumer
    )
    spent = 0
    for reference in exhausted:
        spent |= layer.licences.get(reference, 0)
    return [
        *(
            (place, layer.present & ~dimension.fitting(word))
            for place, dimension, word in zip(DIMENSIONS, layer.dimensions, said, strict=True)
        ),
        *layer.failed,
        (_NOT_YET, not_yet),
        (_EXPIRED, over | ended),
        (_SUSPENDED, suspended),
        (_WITHDRAWN, withdrawn),
        (_VOIDED, voided),
        (_QUOTA, spent),
    ]


def covered_by(layer: Layer, failures: _Reasons) -> int:
    """The experts whose grant in this layer fails in nothing."""
    failed = 0
    for _, mask in failures:
        failed |= mask
    return layer.present & ~failed


def _outlived(
    masks: Masks, ask: Ask, outlived: int, allowed: tuple[ExpertRef, ...]
) -> tuple[str, ...]:
    """Whoever insists on an expert asks for all or nothing, so that one is never among them."""
    if not outlived:
        return ()
    may = outlived & ~_named(masks, ask.require)
    return tuple(ref.name for ref in allowed if may & masks.bits[ref.name])


def _named(masks: Masks, names: Iterable[str]) -> int:
    """The mask of `names`; one that is not in the build has nothing to be excluded from."""
    found = 0
    for name in names:
        found |= masks.bits.get(name, 0)
    return found


def _codes(masks: Masks, reasons: _Reasons) -> tuple[int, ...]:
    """For each expert, in build order, its reasons as bits (bit n: the n-th of the vocabulary).

    The masks of all reasons are laid over one another, each a bit higher in the experts' lanes.
    """
    merged = [0] * len(WHYS)
    for place, mask in reasons:
        merged[place] |= mask
    whole = 0
    for place, mask in enumerate(merged):
        whole |= mask << place
    lanes = whole.to_bytes(len(masks.bits) * LANE_BITS // 8, "little")
    return struct.unpack(f"<{len(masks.bits)}I", lanes)


class _Meanings(dict[int, tuple[Why, ...]]):
    """What a code says. The same for every policy, so each is spelled out once."""

    def __missing__(self, code: int) -> tuple[Why, ...]:
        said = tuple(why for place, why in enumerate(WHYS) if code >> place & 1)
        self[code] = said
        return said


_MEANINGS = _Meanings()


def _unmet(
    masks: Masks, ask: Ask, denied: dict[str, tuple[Why, ...]]
) -> dict[str, tuple[Why, ...]]:
    """What the request insists on and cannot have."""
    unmet: dict[str, tuple[Why, ...]] = {}
    for name in sorted(ask.require - {PUBLIC_EXPERT}):
        if name not in masks.bits:
            unmet[name] = (Why.UNKNOWN_EXPERT,)
        elif name in denied:
            unmet[name] = denied[name]
    if PUBLIC_EXPERT in ask.exclude:
        unmet[PUBLIC_EXPERT] = (Why.EXCLUDED_BY_REQUEST,)
    return unmet
