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

from collections.abc import Iterable
from datetime import datetime
from itertools import compress
from typing import TypeVar

from governance.policy.masks import Layer, Masks, microseconds
from governance.policy.terms import is_consumer, is_territory
from governance.policy.types import Ask, Decision, Denied, Permitted, Snapshot
from governance.vocabulary import PUBLIC_EXPERT, Why

_AS_BITS = bytes.maketrans(b"01", b"\x00\x01")

_T = TypeVar("_T")
_Reasons = list[tuple[Why, int]]


def decide(snapshot: Snapshot, ask: Ask, at: datetime) -> Decision:
    """What `ask` may use at `at`, with every reason for every expert it may not use.

    Raises:
        ValueError: `at` carries no offset.
    """
    masks = snapshot.masks
    now = microseconds(at)
    reasons = [*_from_standings(masks, now), *_from_licences(masks, ask, now)]
    reasons.append((Why.EXCLUDED_BY_REQUEST, _named(masks, ask.exclude)))
    dark = 0
    for _, mask in reasons:
        dark |= mask
    denied = _spelled_out(snapshot, reasons, dark)
    unmet = _unmet(snapshot, ask, denied)
    if unmet:
        denied |= unmet
        why = {reason for whys in unmet.values() for reason in whys}
        return Denied(snapshot.policy_epoch, tuple(w for w in Why if w in why), denied)
    allowed = tuple(_picked(snapshot.experts, masks.everyone & ~dark))
    return Permitted(snapshot.policy_epoch, allowed, denied)


def _from_standings(masks: Masks, now: int) -> _Reasons:
    """What bars an expert whatever its licences say."""
    _, _, ended, suspended, withdrawn = masks.standings.at(now)
    return [
        *masks.barred,
        (Why.NO_LICENCE, masks.unlicensed),
        (Why.EXPIRED, ended),
        (Why.SUSPENDED, suspended),
        (Why.WITHDRAWN, withdrawn),
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
    uncovered = [(why, mask & ~covered) for why, mask in found]
    return [*uncovered, (Why.CONSUMER, forbidden)]


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
        (Why.PURPOSE, present & ~layer.purposes.get(purpose, 0)),
        (Why.CONSUMER, present & ~consumers),
        (Why.JURISDICTION, present & ~lands),
        (Why.NOT_YET, not_yet),
        (Why.EXPIRED, over | ended),
        (Why.SUSPENDED, suspended),
        (Why.WITHDRAWN, withdrawn),
        (Why.AUDIT, layer.audit_failed),
        (Why.REVISION, layer.other_revision),
    ]


def _named(masks: Masks, names: Iterable[str]) -> int:
    """The mask of `names`; one that is not in the build has nothing to be excluded from."""
    found = 0
    for name in names:
        found |= masks.bits.get(name, 0)
    return found


def _spelled_out(snapshot: Snapshot, reasons: _Reasons, dark: int) -> dict[str, tuple[Why, ...]]:
    """Each denied expert with its reasons. Experts with the same reasons are told apart once."""
    alike: list[tuple[tuple[Why, ...], int]] = [((), dark)] if dark else []
    for why, of_why in _by_code(reasons):
        split = []
        for whys, mask in alike:
            inside, outside = mask & of_why, mask & ~of_why
            if inside:
                split.append(((*whys, why), inside))
            if outside:
                split.append((whys, outside))
        alike = split
    denied: dict[str, tuple[Why, ...]] = {}
    for whys, mask in alike:
        denied |= dict.fromkeys(_picked(snapshot.masks.bits, mask), whys)
    return denied


def _by_code(reasons: _Reasons) -> _Reasons:
    """One mask a code, in the vocabulary's order, without the codes nobody has."""
    whole: dict[str, int] = {}
    for why, mask in reasons:
        if mask:
            key = why.value
            whole[key] = whole.get(key, 0) | mask
    return [(why, whole[why.value]) for why in _ALL_WHYS if why.value in whole]


_ALL_WHYS = tuple(Why)


def _picked(things: Iterable[_T], mask: int) -> Iterable[_T]:
    """The things whose bit is set, in order."""
    return compress(things, f"{mask:b}"[::-1].encode().translate(_AS_BITS))


def _unmet(
    snapshot: Snapshot, ask: Ask, denied: dict[str, tuple[Why, ...]]
) -> dict[str, tuple[Why, ...]]:
    """What the request insists on and cannot have."""
    unmet: dict[str, tuple[Why, ...]] = {}
    for name in sorted(ask.require - {PUBLIC_EXPERT}):
        if name not in snapshot.masks.bits:
            unmet[name] = (Why.UNKNOWN_EXPERT,)
        elif name in denied:
            unmet[name] = denied[name]
    if PUBLIC_EXPERT in ask.exclude:
        unmet[PUBLIC_EXPERT] = (Why.EXCLUDED_BY_REQUEST,)
    return unmet
