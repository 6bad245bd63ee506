"""Consent: given under a licence, taken back with one act that nobody may refuse or delay."""

from governance.services.consent.giving import give
from governance.services.consent.receipts import receipt
from governance.services.consent.standing import standing
from governance.services.consent.withdrawing import withdraw

__all__ = ["give", "receipt", "standing", "withdraw"]
