"""The plain terms a policy is compiled from: what a licence grants, how an expert stands.

Everything here is frozen, JSON-able through `to_body`, and free of Django. Terms come from people
and databases, so they are *read*: `read_grant` and `read_standing` never raise on their content,
they answer with a `Gap`, and a gap darkens exactly the expert it names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from governance.vocabulary import ExpertState, Instrument, Purpose, Use, Verdict

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TERRITORY = re.compile(r"[A-Z]{2}")
_CONSUMER = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_territory(code: object) -> bool:
    """Whether `code` has the shape of an ISO 3166-1 alpha-2 code."""
    return isinstance(code, str) and _TERRITORY.fullmatch(code) is not None


def is_consumer(slug: object) -> bool:
    """Whether `slug` can name a consumer."""
    return isinstance(slug, str) and _CONSUMER.fullmatch(slug) is not None


@dataclass(frozen=True, slots=True)
class ExpertRef:
    """An expert by name and by the digest of its manifest."""

    name: str
    digest: str

    def to_body(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class BuildRef:
    """The build a policy speaks about. `experts` are in build order, without the public one."""

    digest: str
    anchor_digest: str
    top_k: int
    experts: tuple[ExpertRef, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """A legal act that bars use from `starts_at` until `ends_at` (exclusive; None is for good)."""

    instrument: Instrument
    starts_at: datetime
    ends_at: datetime | None = None

    def to_body(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "instrument": self.instrument.value,
            "starts_at": _written(self.starts_at),
            "ends_at": None if self.ends_at is None else _written(self.ends_at),
        }


@dataclass(frozen=True, slots=True)
class Grant:
    """One licence version as it bears on one expert.

    `consumers` and `territories`: None means any. `ends_at` is exclusive, None is open-ended.
    `revision` binds the grant to one expert digest; None is any revision. A consumer in
    `excluded_consumers` is barred from the expert for the whole written period of this licence,
    whatever another licence says and whatever act ended this one early: a prohibition must not
    be lifted by ending the licence that holds it.
    """

    licence: str
    expert: str
    uses: frozenset[Use]
    purposes: frozenset[Purpose]
    starts_at: datetime
    ends_at: datetime | None = None
    consumers: frozenset[str] | None = None
    excluded_consumers: frozenset[str] = frozenset()
    territories: frozenset[str] | None = None
    max_extraction_rate: float = 0.01
    revision: str | None = None
    stops: tuple[Stop, ...] = ()

    def to_body(self) -> dict[str, Any]:
        """The JSON form; lists are sorted so that equal grants have equal bytes."""
        return {
            "licence": self.licence,
            "expert": self.expert,
            "uses": _sorted(self.uses),
            "purposes": _sorted(self.purposes),
            "starts_at": _written(self.starts_at),
            "ends_at": None if self.ends_at is None else _written(self.ends_at),
            "consumers": None if self.consumers is None else _sorted(self.consumers),
            "excluded_consumers": _sorted(self.excluded_consumers),
            "territories": None if self.territories is None else _sorted(self.territories),
            "max_extraction_rate": self.max_extraction_rate,
            "revision": self.revision,
            "stops": [stop.to_body() for stop in self.stops],
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """How one expert stands, whatever its licences say.

    `digest` is of the activated revision. `extraction_rate` is the audited figure a licence's
    `max_extraction_rate` is held against, None when there was no audit.
    """

    name: str
    digest: str
    state: ExpertState
    verdict: Verdict | None = None
    extraction_rate: float | None = None
    stops: tuple[Stop, ...] = ()

    def to_body(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "digest": self.digest,
            "state": self.state.value,
            "verdict": None if self.verdict is None else self.verdict.value,
            "extraction_rate": self.extraction_rate,
            "stops": [stop.to_body() for stop in self.stops],
        }


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Terms that could not be read. The expert is denied until legal staff resolve it.

    `licence` is empty when it is the expert's own standing that is missing or unreadable.
    """

    expert: str
    licence: str
    problem: str = field(compare=True)

    def to_body(self) -> dict[str, Any]:
        """The JSON form."""
        return {"expert": self.expert, "licence": self.licence, "problem": self.problem}


def read_grant(expert: str, licence: str, terms: Mapping[str, Any]) -> Grant | Gap:
    """The grant that `terms` (fields of `Grant`, as columns or as JSON) make, or the gap."""
    try:
        grant = Grant(
            licence=licence,
            expert=expert,
            uses=frozenset(Use(use) for use in _listed(terms["uses"])),
            purposes=frozenset(Purpose(purpose) for purpose in _listed(terms["purposes"])),
            starts_at=_instant(terms["starts_at"]),
            ends_at=_instant_or_none(terms.get("ends_at")),
            consumers=_codes_or_any(terms["consumers"], is_consumer),
            excluded_consumers=_codes(terms.get("excluded_consumers", ()), is_consumer),
            territories=_codes_or_any(terms["territories"], is_territory),
            max_extraction_rate=_share(terms["max_extraction_rate"]),
            revision=_digest_or_none(terms.get("revision")),
            stops=_stops(terms.get("stops", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Gap(expert, licence, _told(error))
    if grant.ends_at is not None and grant.ends_at <= grant.starts_at:
        return Gap(expert, licence, "expected an end after the start, found none")
    return grant


def read_standing(name: str, fields: Mapping[str, Any]) -> Standing | Gap:
    """The standing that `fields` (of `Standing`, as columns or as JSON) make, or the gap."""
    try:
        verdict, rate = fields.get("verdict"), fields.get("extraction_rate")
        return Standing(
            name=name,
            digest=_digest(fields["digest"]),
            state=ExpertState(fields["state"]),
            verdict=None if verdict is None else Verdict(verdict),
            extraction_rate=None if rate is None else _share(rate),
            stops=_stops(fields.get("stops", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Gap(name, "", _told(error))


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"expected the field {error.args[0]!r}, found none"
    return str(error)[:300] or type(error).__name__


def _sorted(codes: Iterable[str]) -> list[str]:
    return sorted(str(code) for code in codes)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _instant(found: object) -> datetime:
    at = datetime.fromisoformat(found) if isinstance(found, str) else found
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise ValueError(f"expected an instant with its offset, found {found!r}")
    return at.astimezone(UTC)


def _instant_or_none(found: object) -> datetime | None:
    return None if found is None else _instant(found)


def _listed(found: object) -> Iterable[Any]:
    if not isinstance(found, list | tuple | set | frozenset):
        raise TypeError(f"expected a list of codes, found {found!r}")
    return found


def _codes(found: object, is_one: Any) -> frozenset[str]:
    codes = list(_listed(found))
    odd = [code for code in codes if not is_one(code)]
    if odd:
        raise ValueError(f"expected codes of the right shape, found {odd[0]!r}")
    return frozenset(codes)


def _codes_or_any(found: object, is_one: Any) -> frozenset[str] | None:
    return None if found is None else _codes(found, is_one)


def _share(found: Any) -> float:
    if isinstance(found, bool | str):
        raise TypeError(f"expected a share between 0 and 1, found {found!r}")
    share = float(found)
    if not (math.isfinite(share) and 0.0 <= share <= 1.0):
        raise ValueError(f"expected a share between 0 and 1, found {found!r}")
    return share + 0.0  # turns -0.0 into 0.0, which JSON columns do not keep apart


def _digest(found: object) -> str:
    if not isinstance(found, str) or _DIGEST.fullmatch(found) is None:
        raise ValueError(f"expected a SHA-256 in lowercase hexadecimal, found {found!r}")
    return found


def _digest_or_none(found: object) -> str | None:
    return None if found is None or found == "" else _digest(found)


def _stops(found: object) -> tuple[Stop, ...]:
    stops = {_stop(stop) for stop in _listed(found)}
    return tuple(sorted(stops, key=lambda stop: sorted(map(str, stop.to_body().items()))))


def _stop(found: Any) -> Stop:
    fields = found.to_body() if isinstance(found, Stop) else found
    stop = Stop(
        instrument=Instrument(fields["instrument"]),
        starts_at=_instant(fields["starts_at"]),
        ends_at=_instant_or_none(fields.get("ends_at")),
    )
    if stop.ends_at is not None and stop.ends_at <= stop.starts_at:
        raise ValueError("expected a stop that ends after it starts, found one that does not")
    return stop
