"""The tables of governance, by what they are about."""

from governance.models.approvals import (
    ApprovalAct,
    ApprovalDelegation,
    ApprovalRequest,
    ApprovalRoute,
    ApprovalStep,
)
from governance.models.consents import (
    ConsentEvent,
    ConsentReceipt,
    ConsentRecord,
    ProcessingActivity,
)
from governance.models.contracts import ContractReading, Countersignature, LicenceTemplate
from governance.models.corpora import (
    CorpusProfile,
    CorpusSketch,
    CorpusSource,
    ReservationSignal,
)
from governance.models.documents import Document
from governance.models.duties import Duty
from governance.models.enforcement import (
    DecisionRecord,
    ExpertFence,
    PolicySnapshot,
    RunnerLease,
    WholeHistory,
    Withdrawal,
)
from governance.models.experts import (
    Anchor,
    Build,
    Expert,
    ExpertRevision,
    Finding,
    HandOut,
)
from governance.models.followups import Certificate, FollowUp
from governance.models.holds import ClockPause, LegalHold
from governance.models.invitations import Invitation
from governance.models.licences import Corpus, Ending, Licence
from governance.models.log import LogCheckpoint, LogLeaf, StagedEvent
from governance.models.notices import (
    Notice,
    NoticeCursor,
    NoticePreference,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from governance.models.owners import (
    Account,
    ApiKey,
    Consumer,
    DataOwner,
    Membership,
    OwnerChange,
)
from governance.models.preferences import SavedFilter
from governance.models.programs import KeptAnswer, PersonalKey
from governance.models.quotas import Quota, QuotaSlice
from governance.models.shadows import Shadow
from governance.models.statements import Statement, StatementRemark
from governance.models.suppression import Suppression, SuppressionLift
from governance.models.usage import UsageRecord

__all__ = [
    "Account",
    "Anchor",
    "ApiKey",
    "ApprovalAct",
    "ApprovalDelegation",
    "ApprovalRequest",
    "ApprovalRoute",
    "ApprovalStep",
    "Build",
    "Certificate",
    "ClockPause",
    "ConsentEvent",
    "ConsentReceipt",
    "ConsentRecord",
    "Consumer",
    "ContractReading",
    "Corpus",
    "CorpusProfile",
    "CorpusSketch",
    "CorpusSource",
    "Countersignature",
    "DataOwner",
    "DecisionRecord",
    "Document",
    "Duty",
    "Ending",
    "Expert",
    "ExpertFence",
    "ExpertRevision",
    "Finding",
    "FollowUp",
    "HandOut",
    "Invitation",
    "KeptAnswer",
    "LegalHold",
    "Licence",
    "LicenceTemplate",
    "LogCheckpoint",
    "LogLeaf",
    "Membership",
    "Notice",
    "NoticeCursor",
    "NoticePreference",
    "OwnerChange",
    "PersonalKey",
    "PolicySnapshot",
    "ProcessingActivity",
    "Quota",
    "QuotaSlice",
    "ReservationSignal",
    "RunnerLease",
    "SavedFilter",
    "Shadow",
    "StagedEvent",
    "Statement",
    "StatementRemark",
    "Suppression",
    "SuppressionLift",
    "UsageRecord",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WholeHistory",
    "Withdrawal",
]
