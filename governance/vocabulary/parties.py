"""Who takes part: roles, kinds of organisations, groups of countries."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class Role(Labelled):
    """What a person may do here. OWNER belongs to a data owner; the others are staff."""

    OWNER = "owner"
    LEGAL = "legal"
    ENGINEER = "engineer"
    AUDITOR = "auditor"


class OwnerRole(Labelled):
    """What a member may do for a data owner. Every member may withdraw."""

    ADMIN = "admin"
    SIGNATORY = "signatory"
    VIEWER = "viewer"

    @property
    def may_bind(self) -> bool:
        """Whether this member may sign for the owner: consent, countersign, invite."""
        return self is not OwnerRole.VIEWER


class OwnerStatus(Labelled):
    """Where a data owner stands with us."""

    PROSPECT = "prospect"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEFT = "left"

    @property
    def moves(self) -> frozenset[OwnerStatus]:
        """The states it may lawfully move to. Who left comes back as a prospect."""
        return _OWNER_MOVES[self]


_OWNER_MOVES = {
    OwnerStatus.PROSPECT: frozenset({OwnerStatus.ACTIVE, OwnerStatus.LEFT}),
    OwnerStatus.ACTIVE: frozenset({OwnerStatus.SUSPENDED, OwnerStatus.LEFT}),
    OwnerStatus.SUSPENDED: frozenset({OwnerStatus.ACTIVE, OwnerStatus.LEFT}),
    OwnerStatus.LEFT: frozenset({OwnerStatus.PROSPECT}),
}


class ConsumerStatus(Labelled):
    """Whether a consumer may ask; unless it is active, its keys open nothing."""

    PROSPECT = "prospect"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"

    @property
    def moves(self) -> frozenset[ConsumerStatus]:
        """The states it may lawfully move to. Closed is for good."""
        return _CONSUMER_MOVES[self]


_CONSUMER_MOVES = {
    ConsumerStatus.PROSPECT: frozenset({ConsumerStatus.ACTIVE, ConsumerStatus.CLOSED}),
    ConsumerStatus.ACTIVE: frozenset({ConsumerStatus.SUSPENDED, ConsumerStatus.CLOSED}),
    ConsumerStatus.SUSPENDED: frozenset({ConsumerStatus.ACTIVE, ConsumerStatus.CLOSED}),
    ConsumerStatus.CLOSED: frozenset(),
}


class KeyScope(Labelled):
    """An endpoint of the gateway that a key may call; the playground is a page of our staff."""

    MODELS = "models"
    CHAT = "chat"
    COMPLETIONS = "completions"
    RECEIPTS = "receipts"
    PLAYGROUND = "playground"


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


class Sector(Labelled):
    """What an organisation does: the 21 sections of NACE Rev. 2.

    Source: Regulation (EC) No 1893/2006, annex I. The code is the section's letter.
    """

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741 - the section's letter
    J = "J"
    K = "K"
    L = "L"
    M = "M"
    N = "N"
    O = "O"  # noqa: E741 - the section's letter
    P = "P"
    Q = "Q"
    R = "R"
    S = "S"
    T = "T"
    U = "U"

    @property
    def label(self) -> str:
        """The section's title."""
        return _SECTIONS[self.value]

    @classmethod
    def named(cls, text: str) -> Sector | None:
        """The section a letter, a title or an everyday word means; None where nobody can say."""
        asked = text.strip()
        if asked.upper() in cls.__members__:
            return cls(asked.upper())
        known = {title.lower(): cls(code) for code, title in _SECTIONS.items()} | _EVERYDAY_SECTORS
        return known.get(asked.lower())


_SECTIONS = {
    "A": "Agriculture, forestry and fishing",
    "B": "Mining and quarrying",
    "C": "Manufacturing",
    "D": "Electricity, gas, steam and air conditioning supply",
    "E": "Water supply, sewerage, waste management and remediation",
    "F": "Construction",
    "G": "Wholesale and retail trade, repair of motor vehicles",
    "H": "Transportation and storage",
    "I": "Accommodation and food service",
    "J": "Information and communication",
    "K": "Financial and insurance activities",
    "L": "Real estate",
    "M": "Professional, scientific and technical activities",
    "N": "Administrative and support services",
    "O": "Public administration, defence and social security",
    "P": "Education",
    "Q": "Human health and social work",
    "R": "Arts, entertainment and recreation",
    "S": "Other services",
    "T": "Households as employers",
    "U": "Extraterritorial organisations",
}
_EVERYDAY_SECTORS = {
    "research": Sector.M,
    "science": Sector.M,
    "law": Sector.M,
    "news": Sector.J,
    "media": Sector.J,
    "publishing": Sector.J,
    "software": Sector.J,
    "telecommunications": Sector.J,
    "finance": Sector.K,
    "banking": Sector.K,
    "insurance": Sector.K,
    "government": Sector.O,
    "health": Sector.Q,
    "healthcare": Sector.Q,
    "culture": Sector.R,
}
