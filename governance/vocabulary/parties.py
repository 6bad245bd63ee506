"""Who takes part: roles, kinds of organisations, groups of countries."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class Role(Labelled):
    """What a person may do here. OWNER belongs to a data owner; the others are staff."""

    OWNER = "owner"
    LEGAL = "legal"
    ENGINEER = "engineer"
    AUDITOR = "auditor"


class RecipientClass(Labelled):
    """What kind of organisation a consumer is (the user classes of RSL 1.0)."""

    COMMERCIAL = "commercial"
    NON_COMMERCIAL = "non_commercial"
    EDUCATION = "education"
    GOVERNMENT = "government"
    PERSONAL = "personal"


class TerritoryGroup(Labelled):
    """Groups of countries a licence may name instead of listing them."""

    EU = "EU"
    EEA = "EEA"

    @property
    def label(self) -> str:
        """The name in full."""
        return {"EU": "European Union", "EEA": "European Economic Area"}[self.value]

    @property
    def countries(self) -> frozenset[str]:
        """The members, as ISO 3166-1 alpha-2 codes (Union members since 1 February 2020)."""
        return _UNION if self is TerritoryGroup.EU else _UNION | {"IS", "LI", "NO"}


_UNION = frozenset(
    {"AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU"}
    | {"IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"}
)
