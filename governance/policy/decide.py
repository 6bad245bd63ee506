"""The policy decision: who may use which experts now, and every reason why not.

Pure: the same snapshot, question and instant give the same answer anywhere, so a decision can be
replayed years later. The rules, in order of weight:

1. The public expert is always allowed and never listed.
2. Deny overrides: what bars an expert (withdrawn, suspended, unreadable, not audited, another
   revision, an excluded consumer) bars it whatever a licence grants.
3. Default deny: an expert is allowed when at least one licence fits in *every* dimension. A
   purpose, consumer or territory that policy does not know fits none.
4. Deny on error: terms that cannot be read darken exactly their expert.
5. All reasons: no dimension is skipped because another one already denies.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import datetime
from itertools import compress
from operator import not_

from governance.policy.masks import LANE_BITS, PLACE, WHYS, Layer, Masks, microseconds
from governance.policy.terms import is_consumer, is_territory
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot
from governance.vocabulary import PUBLIC_EXPERT, Why

# Reasons travel as their place in the vocabulary: members of an enumeration hash slowly.
_WITHDRAWN, _SUSPENDED = PLACE[Why.WITHDRAWN], PLACE[Why.SUSPENDED]
_NO_LICENCE, _PURPOSE, _CONSUMER = PLACE[Why.NO_LICENCE], PLACE[Why.PURPOSE], PLACE[Why.CONSUMER]
_JURISDICTION, _NOT_YET, _EXPIRED = PLACE[Why.JURISDICTION], PLACE[Why.NOT_YET], PLACE[Why.EXPIRED]
_AUDIT, _REVISION, _EXCLUDED = (
    PLACE[Why.AUDIT],
    PLACE[Why.REVISION],
    PLACE[Why.EXCLUDED_BY_REQUEST],
)

_Reasons = list[tuple[int, int]]
"""A reason by its place, and the experts it holds for."""


def decide(snapshot: Snapshot, ask: Ask, at: datetime) -> Decision:
    """What `ask` may use at `at`, with every reason for every expert it may not use.

    Raises:
        ValueError: `at` carries no offset.
    """
    masks = snapshot.masks
    now = microseconds(at)
    reasons = [*_from_standings(masks, now), *_from_licences(masks, ask, now)]
    reasons.append((_EXCLUDED, _named(masks, ask.exclude)))
    codes = _codes(masks, reasons)
    denied = {name: _MEANINGS[code] for name, code in zip(masks.bits, codes, strict=True) if code}
    unmet = _unmet(masks, ask, denied)
    if unmet:
        denied |= unmet
        why = {reason for whys in unmet.values() for reason in whys}
        return Denied(snapshot.policy_epoch, tuple(w for w in WHYS if w in why), denied)
    allowed = tuple(compress(snapshot.experts, map(not_, codes)))
    return Permitted(snapshot.policy_epoch, allowed, denied)


def _from_standings(masks: Masks, now: int) -> _Reasons:
    """What bars an expert whatever its licences say."""
    _, _, ended, suspended, withdrawn = masks.standings.at(now)
    return [
        *masks.barred,
        (_NO_LICENCE, masks.unlicensed),
        (_EXPIRED, ended),
        (_SUSPENDED, suspended),
        (_WITHDRAWN, withdrawn),
    ]


def _from_licences(masks: Masks, ask: Ask, now: int) -> _Reasons:
    """Why each expert that no licence covers is not covered, and prohibitions."""
    purpose = str(ask.purpose)
    consumer = ask.consumer if is_consumer(ask.consumer) else None
    territory = ask.territory if is_territory(ask.territory) else None
    found: _Reasons = []
    covered = forbidden = 0
    for layer in masks.layers:
        failures = _failures(layer, purpose, consumer, territory, now)
        failed = 0
        for _, mask in failures:
            failed |= mask
        covered |= layer.present & ~failed
        found += failures
        if consumer is not None and consumer in layer.excluded:
            not_yet, over, _, _, _ = layer.timeline.at(now)
            forbidden |= layer.excluded[consumer] & ~not_yet & ~over
    uncovered = [(place, mask & ~covered) for place, mask in found]
    return [*uncovered, (_CONSUMER, forbidden)]


def _failures(
    layer: Layer, purpose: str, consumer: str | None, territory: str | None, now: int
) -> _Reasons:
    """For each dimension, the experts whose grant in this layer does not fit."""
    present = layer.present
    consumers = 0 if consumer is None else layer.any_consumer | layer.consumers.get(consumer, 0)
    consumers &= ~layer.excluded.get(consumer or "", 0)
    lands = 0 if territory is None else layer.any_territory | layer.territories.get(territory, 0)
    not_yet, over, ended, suspended, withdrawn = layer.timeline.at(now)
    return [
        (_PURPOSE, present & ~layer.purposes.get(purpose, 0)),
        (_CONSUMER, present & ~consumers),
        (_JURISDICTION, present & ~lands),
        (_NOT_YET, not_yet),
        (_EXPIRED, over | ended),
        (_SUSPENDED, suspended),
        (_WITHDRAWN, withdrawn),
        (_AUDIT, layer.audit_failed),
        (_REVISION, layer.other_revision),
    ]


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
