"""What is said of corpora: what is sensitive in them, and how rights in them are reserved."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class Sensitive(Labelled):
    """What a corpus holds that asks for care."""

    PERSONAL_DATA = "personal_data"
    SPECIAL_CATEGORIES = "special_categories"
    CRIMINAL_RECORDS = "criminal_records"
    MINORS = "minors"
    PROFESSIONAL_SECRETS = "professional_secrets"
    TRADE_SECRETS = "trade_secrets"


class SignalKind(Labelled):
    """Where a reservation of rights was read."""

    ROBOTS = "robots"
    TDMREP = "tdmrep"
    RSL = "rsl"
    AIPREF = "aipref"
    AI_TXT = "ai_txt"

    @property
    def label(self) -> str:
        """The name the standard or the file goes by."""
        return {
            "robots": "robots.txt",
            "tdmrep": "TDMRep",
            "rsl": "RSL",
            "aipref": "AIPREF (draft)",
            "ai_txt": "ai.txt",
        }[self.value]
