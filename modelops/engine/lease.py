"""What a step must ask before and after it computes: steps D1, D2 and D4 of the lease protocol.

D1 the warrant is read once for the whole step; D2 under another policy epoch, and at every renewal
because a licence may have run out by itself, every row asks again whether it may keep its
experts; D3 is the forward; D4 nothing licensed is handed over unless the warrant still holds at
that moment. A pause between D1 and D4, however long, cannot let a token out: that is what the
second question is for.
"""

from __future__ import annotations

from modelops.contract import Authority, EndCause, RefusalReason, Warrant
from modelops.engine.sequence import Loss, Sequence


def loss(sequence: Sequence, warrant: Warrant | None, authority: Authority) -> Loss | None:
    """Why `sequence` must not go on under `warrant` (D1, D2), or None if it may.

    Notes on the sequence which policy epoch it was last checked under.
    """
    if not sequence.is_licensed:
        return None
    if warrant is None:
        return Loss(
            EndCause.LEASE_LOST,
            RefusalReason.NO_LEASE,
            "expected a valid lease for licensed experts, found none; try again shortly",
        )
    if sequence.checked_under == (warrant.policy_epoch, warrant.deadline_ns):
        return None
    if not sequence.is_begun and sequence.order.policy_epoch > warrant.policy_epoch:
        return Loss(
            EndCause.LEASE_LOST,
            RefusalReason.STALE_EPOCH,
            f"expected policy epoch {sequence.order.policy_epoch} or later, found "
            f"{warrant.policy_epoch} in force here; try again or ask another runner",
        )
    kept = authority.permits(sequence.order, warrant) & warrant.live
    lost = sorted(ref.name for ref in sequence.order.allowed if ref not in kept)
    if lost:
        is_gone = lost[0] not in {ref.name for ref in warrant.live}
        return Loss(
            EndCause.CONSENT_WITHDRAWN if is_gone else EndCause.LICENCE_ENDED,
            RefusalReason.NOT_PERMITTED,
            f"policy epoch {warrant.policy_epoch} no longer permits {', '.join(lost)}; "
            "ask again to be served without",
            lost[0],
            lost=frozenset(lost),
        )
    sequence.checked_epoch = warrant.policy_epoch
    sequence.checked_under = (warrant.policy_epoch, warrant.deadline_ns)
    return None


def may_release(sequence: Sequence, warrant: Warrant | None, authority: Authority) -> bool:
    """Whether what was computed under `warrant` may be handed over now (D4)."""
    return not sequence.is_licensed or (warrant is not None and authority.holds(warrant))
