"""The closed vocabularies of governance: every word the law, the API and the pages share.

Standard library only. A word means one thing everywhere; labels for people stand beside the codes
so that no template invents its own.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

ExpertName = NewType("ExpertName", str)
Digest = NewType("Digest", str)
"""SHA-256 as 64 lowercase hexadecimal characters."""
PolicyEpoch = NewType("PolicyEpoch", int)

PUBLIC_EXPERT = ExpertName("public")
"""The anchor's own expert: under no owner's licence, allowed to everyone."""


class Labelled(StrEnum):
    """A code with words for people: `Role.LEGAL.label == "Legal"`."""

    @property
    def label(self) -> str:
        """The code in sentence case."""
        return self.value.replace("_", " ").capitalize()

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """The pairs a form or a Django field offers."""
        return [(member.value, member.label) for member in cls]


class Role(Labelled):
    """What a person may do here. OWNER belongs to a data owner; the others are staff."""

    OWNER = "owner"
    LEGAL = "legal"
    ENGINEER = "engineer"
    AUDITOR = "auditor"


class Use(Labelled):
    """What a licence lets us do with a corpus or the expert trained on it."""

    TRAIN = "train"
    ANSWER = "answer"


class Purpose(Labelled):
    """Why a consumer calls the model."""

    RESEARCH = "research"
    EDUCATION = "education"
    COMMERCIAL = "commercial"
    PUBLIC_SERVICE = "public_service"
    EVALUATION = "evaluation"


class Why(Labelled):
    """Why an expert (or a whole request) is denied; a denial lists all that apply."""

    WITHDRAWN = "WITHDRAWN"
    SUSPENDED = "SUSPENDED"
    NO_LICENCE = "NO_LICENCE"
    PURPOSE = "PURPOSE"
    CONSUMER = "CONSUMER"
    JURISDICTION = "JURISDICTION"
    NOT_YET = "NOT_YET"
    EXPIRED = "EXPIRED"
    QUOTA = "QUOTA"
    AUDIT = "AUDIT"
    REVISION = "REVISION"
    LEASE = "LEASE"
    EPOCH_STALE = "EPOCH_STALE"
    LICENCE_UNREADABLE = "LICENCE_UNREADABLE"
    UNKNOWN_EXPERT = "UNKNOWN_EXPERT"
    EXCLUDED_BY_REQUEST = "EXCLUDED_BY_REQUEST"

    @property
    def label(self) -> str:
        """What the code means, in words a person outside can act on."""
        return _WHY_LABELS[self]


_WHY_LABELS = {
    Why.WITHDRAWN: "The owner has withdrawn this expert",
    Why.SUSPENDED: "This expert is suspended",
    Why.NO_LICENCE: "No licence covers this use",
    Why.PURPOSE: "The licence does not cover this purpose",
    Why.CONSUMER: "The licence does not cover this consumer",
    Why.JURISDICTION: "The licence does not cover this territory",
    Why.NOT_YET: "The licence has not begun",
    Why.EXPIRED: "The licence has ended",
    Why.QUOTA: "The licence's quota is used up",
    Why.AUDIT: "The expert has not passed the audit the licence asks for",
    Why.REVISION: "The licence covers another revision of this expert",
    Why.LEASE: "The runner holds no valid lease on policy",
    Why.EPOCH_STALE: "The policy read is older than one already seen",
    Why.LICENCE_UNREADABLE: "The licence cannot be read; legal staff have been told",
    Why.UNKNOWN_EXPERT: "No such expert in the build being served",
    Why.EXCLUDED_BY_REQUEST: "The request itself excludes this expert",
}


class LicenceState(Labelled):
    """Where a licence version stands; four eyes lie between REQUESTED and APPROVED."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"


class Instrument(Labelled):
    """The six legal acts that end or pause use. Each disables; only some also erase."""

    SUSPEND = "suspend"
    WITHDRAW = "withdraw"
    TERMINATE = "terminate"
    EXPIRE = "expire"
    REVOKE = "revoke"
    INVALIDATE = "invalidate"


class ConsentEventKind(Labelled):
    """What can happen to a consent record (ISO/IEC TS 27560, event type)."""

    GIVEN = "given"
    RENEWED = "renewed"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"


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


class FollowUpKind(Labelled):
    """What must follow an act. The courier's task is named for it."""

    TRAIN = "train"
    VERIFY = "verify"
    AUDIT = "audit"
    ASSEMBLE = "assemble"
    EXPORT = "export"
    LOAD = "load"
    QUIESCE = "quiesce"
    REBUILD = "rebuild"
    ERASE = "erase"
    CERTIFY = "certify"
    RESOLVE_GAP = "resolve_gap"


class FollowUpState(Labelled):
    """Where a follow-up stands. CLAIMED ends by itself when its claim runs out."""

    DUE = "due"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class QuiescedBy(Labelled):
    """How a withdrawal became effective on every runner."""

    ACKS = "acks"
    EXPIRY = "expiry"


class CertificateStage(Labelled):
    """The four statements of a withdrawal certificate (trust design, section 4)."""

    BLOCKED = "blocked"
    UNLOADED = "unloaded"
    REBUILT = "rebuilt"
    BACKUPS = "backups"


class EventTag(Labelled):
    """What the log records; one service call stages exactly one event."""

    OWNER_REGISTERED = "owner.registered"
    MEMBER_ADDED = "owner.member_added"
    CONSUMER_REGISTERED = "consumer.registered"
    API_KEY_ISSUED = "api_key.issued"
    API_KEY_REVOKED = "api_key.revoked"
    CORPUS_DESCRIBED = "corpus.described"
    LICENCE_REQUESTED = "licence.requested"
    LICENCE_APPROVED = "licence.approved"
    LICENCE_REJECTED = "licence.rejected"
    LICENCE_ENDED = "licence.ended"
    LICENCE_RESUMED = "licence.resumed"
    CONSENT_GIVEN = "consent.given"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    ANCHOR_REGISTERED = "anchor.registered"
    EXPERT_PROPOSED = "expert.proposed"
    EXPERT_SUSPENDED = "expert.suspended"
    EXPERT_RESUMED = "expert.resumed"
    TRAINING_ORDERED = "expert.training_ordered"
    AUDIT_ORDERED = "expert.audit_ordered"
    REVISION_SUBMITTED = "revision.submitted"
    REVISION_VERIFIED = "revision.verified"
    REVISION_REFUSED = "revision.refused"
    FINDING_RECORDED = "finding.recorded"
    ACTIVATION_REQUESTED = "revision.activation_requested"
    ACTIVATION_APPROVED = "revision.activation_approved"
    ACTIVATION_REJECTED = "revision.activation_rejected"
    BUILD_PLANNED = "build.planned"
    BUILD_ASSEMBLED = "build.assembled"
    BUILD_PROMOTED = "build.promoted"
    BUILD_FAILED = "build.failed"
    WITHDRAWAL_QUIESCED = "withdrawal.quiesced"
    EXPERT_ERASED = "expert.erased"
    CERTIFICATE_ISSUED = "certificate.issued"
    POLICY_GAP_FOUND = "policy.gap_found"
