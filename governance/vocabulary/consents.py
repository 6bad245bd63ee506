"""The words of consent: what can happen to it, how it was expressed, why processing is lawful."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class ConsentEventKind(Labelled):
    """The state an event brings a consent record into (ISO/IEC TS 27560:2023, event state)."""

    REQUESTED = "requested"
    DEFERRED = "deferred"
    REFUSED = "refused"
    GIVEN = "given"
    RENEWED = "renewed"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"
    UNKNOWN = "unknown"

    @property
    def permits_use(self) -> bool:
        """Whether a record in this state lets anybody use anything. Only these two do."""
        return self in (ConsentEventKind.GIVEN, ConsentEventKind.RENEWED)


class ConsentType(Labelled):
    """How consent was expressed (ISO/IEC TS 27560:2023, event type)."""

    IMPLIED = "implied"
    EXPRESSED = "expressed"
    EXPLICIT = "explicit"


class LawfulBasis(Labelled):
    """Why a processing activity is lawful.

    The first three are grounds of GDPR article 6(1) (b, a and f); the fourth is the exception for
    text and data mining of Directive (EU) 2019/790, articles 3 and 4.
    """

    CONTRACT = "contract"
    CONSENT = "consent"
    LEGITIMATE_INTEREST = "legitimate_interest"
    TDM_EXCEPTION = "tdm_exception"
    PUBLIC_DOMAIN = "public_domain"

    @property
    def label(self) -> str:
        """The basis in words."""
        return {"tdm_exception": "Text and data mining exception"}.get(self.value, super().label)


class SuppressedKind(Labelled):
    """What is never to be admitted again."""

    EXPERT = "expert"
    CORPUS = "corpus"
    WEIGHTS = "weights"
