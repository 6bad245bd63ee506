"""What must follow an act, and what proves that it did."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


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
