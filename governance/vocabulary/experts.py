"""Where experts, revisions and builds stand."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class ExpertState(Labelled):
    """Where an expert stands. Disabled (WITHDRAWN) is not erased (ERASED)."""

    PROPOSED = "proposed"
    IN_REVIEW = "in_review"
    REJECTED = "rejected"
    READY = "ready"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    WITHDRAWN = "withdrawn"
    ERASED = "erased"

    def may_become(self, other: ExpertState) -> bool:
        """Whether the move to `other` is lawful."""
        return other in _EXPERT_MOVES[self]


_ENDINGS = {ExpertState.WITHDRAWN}


_EXPERT_MOVES: dict[ExpertState, set[ExpertState]] = {
    ExpertState.PROPOSED: {ExpertState.IN_REVIEW} | _ENDINGS,
    ExpertState.IN_REVIEW: {ExpertState.READY, ExpertState.REJECTED} | _ENDINGS,
    ExpertState.REJECTED: {ExpertState.IN_REVIEW} | _ENDINGS,
    ExpertState.READY: {ExpertState.ACTIVE, ExpertState.IN_REVIEW, ExpertState.REJECTED} | _ENDINGS,
    ExpertState.ACTIVE: {ExpertState.SUSPENDED, ExpertState.IN_REVIEW} | _ENDINGS,
    ExpertState.SUSPENDED: {ExpertState.ACTIVE} | _ENDINGS,
    ExpertState.WITHDRAWN: {ExpertState.ERASED},
    ExpertState.ERASED: set(),
}


class RevisionState(Labelled):
    """Where one uploaded revision of an expert stands."""

    SUBMITTED = "submitted"
    VERIFIED = "verified"
    AUDITED = "audited"
    ACTIVATION_REQUESTED = "activation_requested"
    ACTIVATED = "activated"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    ERASED = "erased"


class BuildState(Labelled):
    """Where a build stands. TOMBSTONED: holds a withdrawn expert, must never return."""

    PLANNED = "planned"
    ASSEMBLED = "assembled"
    PROMOTED = "promoted"
    RETIRED = "retired"
    TOMBSTONED = "tombstoned"
    FAILED = "failed"


class Verdict(Labelled):
    """What an audit concluded."""

    PASS = "pass"  # noqa: S105 - an audit verdict
    REVIEW = "review"
    FAIL = "fail"
    INVALID = "invalid"
