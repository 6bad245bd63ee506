"""The closed vocabularies of governance: every word the law, the API and the pages share.

Standard library only. A word means one thing everywhere; labels for people stand beside the codes
so that no template invents its own.
"""

from governance.vocabulary.approvals import (
    ApprovalKind,
    ApprovalRule,
    ApprovalState,
    ApprovalVerb,
)
from governance.vocabulary.consents import (
    ConsentEventKind,
    ConsentType,
    LawfulBasis,
    SuppressedKind,
)
from governance.vocabulary.corpora import Sensitive, SignalKind
from governance.vocabulary.decisions import Why
from governance.vocabulary.events import EventTag
from governance.vocabulary.experts import BuildState, ExpertState, RevisionState, Verdict
from governance.vocabulary.followups import (
    CertificateStage,
    FollowUpKind,
    FollowUpState,
    QuiescedBy,
)
from governance.vocabulary.licensing import (
    DutyAction,
    Instrument,
    LicenceState,
    OnWithdrawal,
    PaymentType,
    Purpose,
    QuotaPeriod,
    RemarkKind,
    Use,
)
from governance.vocabulary.notices import (
    Clock,
    DeliveryState,
    HoldState,
    MailRhythm,
    NoticeKind,
)
from governance.vocabulary.parties import (
    ConsumerStatus,
    KeyScope,
    OwnerRole,
    OwnerStatus,
    RecipientClass,
    Role,
    Sector,
    TerritoryGroup,
)
from governance.vocabulary.words import PUBLIC_EXPERT, Digest, ExpertName, Labelled, PolicyEpoch

__all__ = [
    "PUBLIC_EXPERT",
    "ApprovalKind",
    "ApprovalRule",
    "ApprovalState",
    "ApprovalVerb",
    "BuildState",
    "CertificateStage",
    "Clock",
    "ConsentEventKind",
    "ConsentType",
    "ConsumerStatus",
    "DeliveryState",
    "Digest",
    "DutyAction",
    "EventTag",
    "ExpertName",
    "ExpertState",
    "FollowUpKind",
    "FollowUpState",
    "HoldState",
    "Instrument",
    "KeyScope",
    "Labelled",
    "LawfulBasis",
    "LicenceState",
    "MailRhythm",
    "NoticeKind",
    "OnWithdrawal",
    "OwnerRole",
    "OwnerStatus",
    "PaymentType",
    "PolicyEpoch",
    "Purpose",
    "QuiescedBy",
    "QuotaPeriod",
    "RecipientClass",
    "RemarkKind",
    "RevisionState",
    "Role",
    "Sector",
    "Sensitive",
    "SignalKind",
    "SuppressedKind",
    "TerritoryGroup",
    "Use",
    "Verdict",
    "Why",
]
