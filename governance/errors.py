"""The error tree of governance.

    GovernanceError              carries `code` and `status` for the edges that answer over HTTP
    ├── NotPermitted             the actor may not do this
    │   └── FourEyes             the same person may not request and decide
    ├── InvalidTerms             terms that contradict themselves, the law or each other
    ├── UnlawfulMove             a state change the vocabulary does not allow
    ├── NotFound                 no such row for this actor
    ├── NotCovered               no licence in force covers the act
    ├── QuotaSpent               a licence's quota does not reach that far
    ├── StalePolicy              an older policy epoch than one already seen
    ├── LeaseRefused             a lease that cannot be granted or renewed
    ├── LogIntegrityError        the log is not what was signed
    └── SignatureInvalid         bytes that are not what a key holder signed

Every message says what was expected, what was found, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping


class GovernanceError(Exception):
    """A lawful refusal. `fields` maps form field names to messages where that helps."""

    code = "governance_error"
    status = 400

    def __init__(self, message: str, *, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})


class NotPermitted(GovernanceError):
    """The actor may not do this."""

    code, status = "not_permitted", 403


class FourEyes(NotPermitted):
    """The same person may not request and decide."""

    code = "four_eyes"


class InvalidTerms(GovernanceError):
    """Terms that contradict themselves, the law or each other."""

    code, status = "invalid_terms", 422


class UnlawfulMove(GovernanceError):
    """A state change the vocabulary does not allow."""

    code, status = "unlawful_move", 409


class NotFound(GovernanceError):
    """No such row for this actor."""

    code, status = "not_found", 404


class NotCovered(GovernanceError):
    """No licence in force covers the act."""

    code, status = "not_covered", 403


class QuotaSpent(GovernanceError):
    """A licence's quota does not reach that far."""

    code, status = "quota_spent", 409


class StalePolicy(GovernanceError):
    """An older policy epoch than one already seen."""

    code, status = "stale_policy", 503


class LeaseRefused(GovernanceError):
    """A lease that cannot be granted or renewed."""

    code, status = "lease_refused", 503


class LogIntegrityError(GovernanceError):
    """The log is not what was signed."""

    code, status = "log_integrity", 500


class SignatureInvalid(GovernanceError):
    """Bytes that are not what a key holder signed."""

    code, status = "signature_invalid", 422
