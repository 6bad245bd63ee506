"""What licences and consent are made of."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class Use(Labelled):
    """What a licence lets us do, or forbids us to do, with a corpus or the expert trained on it.

    ANSWER is what the gateway asks for; MERGE into a build and AUDIT are part of it unless
    forbidden. The others are never implied.
    """

    TRAIN = "train"
    ANSWER = "answer"
    MERGE = "merge"
    AUDIT = "audit"
    TUNE_ROUTER = "tune_router"
    QUANTISE = "quantise"
    DISTIL = "distil"
    FINE_TUNE = "fine_tune"
    REDISTRIBUTE = "redistribute"


class Purpose(Labelled):
    """Why a consumer calls the model: nodes of a tree. A node covers everything below it."""

    RESEARCH = "research"
    ACADEMIC_RESEARCH = "academic_research"
    INDUSTRIAL_RESEARCH = "industrial_research"
    EDUCATION = "education"
    TEACHING = "teaching"
    EXAMINATION = "examination"
    COMMERCIAL = "commercial"
    INTERNAL_BUSINESS = "internal_business"
    CUSTOMER_PRODUCT = "customer_product"
    ADVERTISING = "advertising"
    PUBLIC_SERVICE = "public_service"
    PUBLIC_ADMINISTRATION = "public_administration"
    HEALTHCARE = "healthcare"
    JUSTICE = "justice"
    EVALUATION = "evaluation"
    BENCHMARKING = "benchmarking"
    SAFETY_TESTING = "safety_testing"

    @property
    def parent(self) -> Purpose | None:
        """The wider purpose this one is part of; None for the five at the top."""
        return _PURPOSE_PARENTS.get(self)

    @property
    def lineage(self) -> tuple[Purpose, ...]:
        """This purpose and every wider one, from narrow to wide."""
        return (self,) if self.parent is None else (self, *self.parent.lineage)

    def is_part_of(self, other: Purpose) -> bool:
        """Whether whoever may do `other` may do this."""
        return other in self.lineage


_PURPOSE_PARENTS = {
    Purpose.ACADEMIC_RESEARCH: Purpose.RESEARCH,
    Purpose.INDUSTRIAL_RESEARCH: Purpose.RESEARCH,
    Purpose.TEACHING: Purpose.EDUCATION,
    Purpose.EXAMINATION: Purpose.EDUCATION,
    Purpose.INTERNAL_BUSINESS: Purpose.COMMERCIAL,
    Purpose.CUSTOMER_PRODUCT: Purpose.COMMERCIAL,
    Purpose.ADVERTISING: Purpose.COMMERCIAL,
    Purpose.PUBLIC_ADMINISTRATION: Purpose.PUBLIC_SERVICE,
    Purpose.HEALTHCARE: Purpose.PUBLIC_SERVICE,
    Purpose.JUSTICE: Purpose.PUBLIC_SERVICE,
    Purpose.BENCHMARKING: Purpose.EVALUATION,
    Purpose.SAFETY_TESTING: Purpose.EVALUATION,
}


class QuotaPeriod(Labelled):
    """The period a quota of a licence is counted over; calendar periods in UTC."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"
    TERM = "term"


class PaymentType(Labelled):
    """How a licence is paid for (the payment types of RSL 1.0)."""

    FREE = "free"
    PURCHASE = "purchase"
    SUBSCRIPTION = "subscription"
    TRAINING = "training"
    CRAWL = "crawl"
    USE = "use"
    CONTRIBUTION = "contribution"
    ATTRIBUTION = "attribution"


class OnWithdrawal(Labelled):
    """What becomes of an answer under way when a licence's expert is withdrawn from it."""

    ABORT = "abort"
    RECOMPUTE = "recompute"

    @property
    def label(self) -> str:
        """What it means for the answer."""
        return _ON_WITHDRAWAL_LABELS[self]


_ON_WITHDRAWAL_LABELS = {
    OnWithdrawal.ABORT: "Ends at once",
    OnWithdrawal.RECOMPUTE: "Goes on without the expert",
}


class DutyAction(Labelled):
    """What a licence obliges us to do (the ODRL actions of duties)."""

    ATTRIBUTE = "attribute"
    INFORM = "inform"
    COMPENSATE = "compensate"
    DELETE = "delete"


class RemarkKind(Labelled):
    """What is said about a statement after it was issued; the last one tells where it stands."""

    DISPUTED = "disputed"
    COMMENTED = "commented"
    ANSWERED = "answered"
    SETTLED = "settled"


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
