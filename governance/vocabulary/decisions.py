"""Why an expert is denied."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class Why(Labelled):
    """Why an expert (or a whole request) is denied; a denial lists all that apply."""

    WITHDRAWN = "WITHDRAWN"
    VOIDED = "VOIDED"
    SUSPENDED = "SUSPENDED"
    NO_LICENCE = "NO_LICENCE"
    PURPOSE = "PURPOSE"
    CONSUMER = "CONSUMER"
    JURISDICTION = "JURISDICTION"
    NOT_YET = "NOT_YET"
    EXPIRED = "EXPIRED"
    QUOTA = "QUOTA"
    RECIPIENT = "RECIPIENT"
    AUDIT = "AUDIT"
    REVISION = "REVISION"
    LEASE = "LEASE"
    EPOCH_STALE = "EPOCH_STALE"
    LICENCE_UNREADABLE = "LICENCE_UNREADABLE"
    UNKNOWN_EXPERT = "UNKNOWN_EXPERT"
    EXCLUDED_BY_REQUEST = "EXCLUDED_BY_REQUEST"

    @property
    def label(self) -> str:
        """What the code means, in words a person outside can act on."""
        return _WHY_LABELS[self]


_WHY_LABELS = {
    Why.WITHDRAWN: "The owner has withdrawn this expert",
    Why.VOIDED: "An authority or a court has voided it",
    Why.SUSPENDED: "This expert is suspended",
    Why.NO_LICENCE: "No licence covers this use",
    Why.PURPOSE: "The licence does not cover this purpose",
    Why.CONSUMER: "The licence does not cover this consumer",
    Why.JURISDICTION: "The licence does not cover this territory",
    Why.NOT_YET: "The licence has not begun",
    Why.EXPIRED: "The licence has ended",
    Why.QUOTA: "The licence's quota is used up",
    Why.RECIPIENT: "The licence does not cover this kind of organisation or sector",
    Why.AUDIT: "The expert has not passed the audit the licence asks for",
    Why.REVISION: "The licence covers another revision of this expert",
    Why.LEASE: "The runner holds no valid lease on policy",
    Why.EPOCH_STALE: "The policy read is older than one already seen",
    Why.LICENCE_UNREADABLE: "The licence cannot be read; legal staff have been told",
    Why.UNKNOWN_EXPERT: "No such expert in the build being served",
    Why.EXCLUDED_BY_REQUEST: "The request itself excludes this expert",
}
