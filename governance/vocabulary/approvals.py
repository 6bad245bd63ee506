"""Approvals: what needs a second person, and what people may do with a request."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class ApprovalKind(Labelled):
    """What is asked for. The first five cannot be switched off."""

    LICENCE = "licence"
    ACTIVATION = "activation"
    WAIVER = "waiver"
    HOLD = "hold"
    ROUTE = "route"
    OWNER = "owner"
    CONSUMER = "consumer"
    API_KEY = "api_key"
    PROMOTION = "promotion"
    EXPORT = "export"

    @property
    def is_always_asked(self) -> bool:
        """Whether the act is unlawful without an approval, whatever a route says."""
        return self in _ALWAYS

    @property
    def label(self) -> str:
        """The kind as a page names it."""
        return _LABELS.get(self, super().label)


_ALWAYS = frozenset(
    {
        ApprovalKind.LICENCE,
        ApprovalKind.ACTIVATION,
        ApprovalKind.WAIVER,
        ApprovalKind.HOLD,
        ApprovalKind.ROUTE,
    }
)
_LABELS = {
    ApprovalKind.WAIVER: "Audit waiver",
    ApprovalKind.HOLD: "Legal hold",
    ApprovalKind.ROUTE: "Change of a route",
    ApprovalKind.OWNER: "New owner",
    ApprovalKind.CONSUMER: "New consumer",
    ApprovalKind.API_KEY: "API key",
}


class ApprovalState(Labelled):
    """Where a request stands. The last four are final."""

    OPEN = "open"
    RETURNED = "returned"
    APPROVED = "approved"
    REJECTED = "rejected"
    VOID = "void"
    WITHDRAWN = "withdrawn"


class ApprovalVerb(Labelled):
    """What somebody did with a request. APPROVE, REJECT and RETURN decide; four eyes bind them."""

    SUBMIT = "submit"
    APPROVE = "approve"
    REJECT = "reject"
    RETURN = "return"
    COMMENT = "comment"
    ATTACH = "attach"
    DELEGATE = "delegate"
    PAUSE = "pause"
    RESUME = "resume"
    WITHDRAW = "withdraw"
    VOID = "void"


class ApprovalRule(Labelled):
    """Rules that may act on a route that names them, each as a bot account of its own."""

    REJECT_OPEN_GAP = "reject_open_gap"
    APPROVE_IDENTICAL_RENEWAL = "approve_identical_renewal"

    @property
    def label(self) -> str:
        """What the rule does, as a sentence's beginning."""
        return {
            "reject_open_gap": "Reject a licence while its corpus has an open gap",
            "approve_identical_renewal": "Approve a renewal whose terms differ in dates alone",
        }[self.value]
