"""Which licences cover what a decision allows, and which of them is charged.

Pure, and from the same masks as the decision: an expert is covered by exactly those of its
licences that alone would have let the request use it.
"""

from __future__ import annotations

from datetime import datetime

from governance.policy.decide import Said, covered_by, decide, failures_of
from governance.policy.masks import microseconds
from governance.policy.types import Ask, Permitted, Snapshot


def covering(
    snapshot: Snapshot, ask: Ask, at: datetime, *, exhausted: frozenset[str] = frozenset()
) -> dict[str, tuple[str, ...]]:
    """For each expert that `ask` may use at `at`, the references of the licences that cover it.

    The first is the one charged: the one that began last, and of two that began at the same
    instant the first by reference. Empty where the request is denied.

    Args:
        exhausted: references of licences whose quota is used up, as for `decide`.

    Raises:
        ValueError: `at` carries no offset.
    """
    decision = decide(snapshot, ask, at, exhausted=exhausted)
    if not isinstance(decision, Permitted):
        return {}
    masks, said, now = snapshot.masks, Said.by(ask), microseconds(at)
    found: dict[str, list[str]] = {ref.name: [] for ref in decision.allowed}
    for layer in masks.layers:
        covered = covered_by(layer, failures_of(layer, said, now, exhausted))
        for name, references in found.items():
            if masks.bits[name] & covered:
                references.append(layer.references[name])
    return {name: tuple(references) for name, references in found.items()}
