"""Consent: given under a licence, taken back with one act that nobody may refuse or delay."""

from governance.services.consent.giving import ask, digest_of, give, refuse
from governance.services.consent.receipts import Checked, check, issue, receipt
from governance.services.consent.standing import UNANSWERED, standing, with_state
from governance.services.consent.validator import Fault, faults
from governance.services.consent.withdrawing import withdraw

__all__ = [
    "UNANSWERED",
    "Checked",
    "Fault",
    "ask",
    "check",
    "digest_of",
    "faults",
    "give",
    "issue",
    "receipt",
    "refuse",
    "standing",
    "with_state",
    "withdraw",
]
