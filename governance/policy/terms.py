"""The plain terms a policy is compiled from: what a licence grants, how an expert stands.

Everything here is frozen, JSON-able through `to_body`, and free of Django. Terms come from people
and databases, so they are *read*: `read_grant` and `read_standing` never raise on their content,
they answer with a `Gap`, and a gap darkens exactly the expert it names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from governance.vocabulary import (
    ExpertState,
    Instrument,
    OnWithdrawal,
    Purpose,
    RecipientClass,
    Sector,
    TerritoryGroup,
    Use,
    Verdict,
)

_Word = TypeVar("_Word", bound=StrEnum)
_Read = TypeVar("_Read")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TERRITORY = re.compile(r"[A-Z]{2}")
_CONSUMER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GROUP_CODES = frozenset(group.value for group in TerritoryGroup)


def is_territory(code: object) -> bool:
    """Whether `code` has the shape of an ISO 3166-1 alpha-2 code and names no group of them."""
    return (
        isinstance(code, str)
        and _TERRITORY.fullmatch(code) is not None
        and code not in _GROUP_CODES
    )


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
    """A legal act that bars use from `starts_at` until `ends_at` (exclusive; None is for good).

    `purposes` and `consumers` narrow what it bars, both at once where both are named; None is all.
    A purpose stands for everything below it in the tree. Consumers in `spares` are not barred.
    """

    instrument: Instrument
    starts_at: datetime
    ends_at: datetime | None = None
    purposes: frozenset[Purpose] | None = None
    consumers: frozenset[str] | None = None
    spares: frozenset[str] = frozenset()

    def to_body(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "instrument": self.instrument.value,
            "starts_at": _written(self.starts_at),
            "ends_at": None if self.ends_at is None else _written(self.ends_at),
            "purposes": _sorted_or_none(self.purposes),
            "consumers": _sorted_or_none(self.consumers),
            "spares": _sorted(self.spares),
        }


@dataclass(frozen=True, slots=True)
class Grant:
    """One licence version as it bears on one expert.

    Of what it permits: a purpose covers everything below it in the tree; None means any in
    `consumers`, `recipient_classes`, `sectors` and `territories`; territories are countries, groups
    already spelled out; `ends_at` is exclusive, None is open-ended; `revision` binds the grant to
    one expert digest, None is any. `on_withdrawal` says whether an answer under way outlives the
    loss of the expert.

    What it prohibits (`prohibited_*`, `excluded_*`) bars the expert for the whole written period of
    this licence, whatever another licence says and whatever act ended this one early: a
    prohibition must not be lifted by ending the licence that holds it. A prohibited purpose takes
    everything below it along.
    """

    licence: str
    expert: str
    uses: frozenset[Use]
    purposes: frozenset[Purpose]
    starts_at: datetime
    ends_at: datetime | None = None
    prohibited_uses: frozenset[Use] = frozenset()
    prohibited_purposes: frozenset[Purpose] = frozenset()
    consumers: frozenset[str] | None = None
    excluded_consumers: frozenset[str] = frozenset()
    recipient_classes: frozenset[RecipientClass] | None = None
    sectors: frozenset[Sector] | None = None
    excluded_sectors: frozenset[Sector] = frozenset()
    territories: frozenset[str] | None = None
    excluded_territories: frozenset[str] = frozenset()
    max_extraction_rate: float = 0.01
    revision: str | None = None
    stops: tuple[Stop, ...] = ()
    on_withdrawal: OnWithdrawal = OnWithdrawal.ABORT

    def to_body(self) -> dict[str, Any]:
        """The JSON form; lists are sorted so that equal grants have equal bytes."""
        return {
            "licence": self.licence,
            "expert": self.expert,
            "uses": _sorted(self.uses),
            "prohibited_uses": _sorted(self.prohibited_uses),
            "purposes": _sorted(self.purposes),
            "prohibited_purposes": _sorted(self.prohibited_purposes),
            "starts_at": _written(self.starts_at),
            "ends_at": None if self.ends_at is None else _written(self.ends_at),
            "consumers": _sorted_or_none(self.consumers),
            "excluded_consumers": _sorted(self.excluded_consumers),
            "recipient_classes": _sorted_or_none(self.recipient_classes),
            "sectors": _sorted_or_none(self.sectors),
            "excluded_sectors": _sorted(self.excluded_sectors),
            "territories": _sorted_or_none(self.territories),
            "excluded_territories": _sorted(self.excluded_territories),
            "max_extraction_rate": self.max_extraction_rate,
            "revision": self.revision,
            "stops": [stop.to_body() for stop in self.stops],
            "on_withdrawal": self.on_withdrawal.value,
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
    """The grant that `terms` (fields of `Grant`, as columns or as JSON) make, or the gap.

    Every field must be there: a prohibition that is missing is not one that was never made.
    """
    try:
        grant = Grant(
            licence=licence,
            expert=expert,
            uses=_members(terms["uses"], Use),
            prohibited_uses=_members(terms["prohibited_uses"], Use),
            purposes=_members(terms["purposes"], Purpose),
            prohibited_purposes=_members(terms["prohibited_purposes"], Purpose),
            starts_at=_instant(terms["starts_at"]),
            ends_at=_instant_or_none(terms["ends_at"]),
            consumers=_or_any(terms["consumers"], _consumers),
            excluded_consumers=_consumers(terms["excluded_consumers"]),
            recipient_classes=_or_any(terms["recipient_classes"], _recipients),
            sectors=_or_any(terms["sectors"], _sectors),
            excluded_sectors=_sectors(terms["excluded_sectors"]),
            territories=_or_any(terms["territories"], _countries),
            excluded_territories=_countries(terms["excluded_territories"]),
            max_extraction_rate=_share(terms["max_extraction_rate"]),
            revision=_digest_or_none(terms["revision"]),
            stops=_stops(terms["stops"]),
            on_withdrawal=OnWithdrawal(terms["on_withdrawal"]),
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
            stops=_stops(fields["stops"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Gap(name, "", _told(error))


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"expected the field {error.args[0]!r}, found none"
    return str(error)[:300] or type(error).__name__


def _sorted(codes: Iterable[str]) -> list[str]:
    return sorted(str(code) for code in codes)


def _sorted_or_none(codes: Iterable[str] | None) -> list[str] | None:
    return None if codes is None else _sorted(codes)


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


def _members(found: object, known: type[_Word]) -> frozenset[_Word]:
    return frozenset(known(word) for word in _listed(found))


def _recipients(found: object) -> frozenset[RecipientClass]:
    return _members(found, RecipientClass)


def _sectors(found: object) -> frozenset[Sector]:
    named = {str(word): Sector.named(str(word)) for word in _listed(found)}
    odd = [word for word, sector in named.items() if sector is None]
    if odd:
        raise ValueError(f"expected sectors of NACE Rev. 2, found {odd[0]!r}")
    return frozenset(sector for sector in named.values() if sector is not None)


def _consumers(found: object) -> frozenset[str]:
    return frozenset(_checked(slug, is_consumer(slug)) for slug in _listed(found))


def _countries(found: object) -> frozenset[str]:
    """The countries, each group spelled out: who joins it later does not change an old policy."""
    countries: set[str] = set()
    for code in _listed(found):
        if code in _GROUP_CODES:
            countries |= TerritoryGroup(code).countries
        else:
            countries.add(_checked(code, is_territory(code)))
    return frozenset(countries)


def _checked(code: Any, has_shape: bool) -> str:
    if not has_shape:
        raise ValueError(f"expected codes of the right shape, found {code!r}")
    return str(code)


def _or_any(found: object, read: Callable[[object], _Read]) -> _Read | None:
    return None if found is None else read(found)


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
        ends_at=_instant_or_none(fields["ends_at"]),
        purposes=_or_any(fields["purposes"], lambda named: _members(named, Purpose)),
        consumers=_or_any(fields["consumers"], _consumers),
        spares=_consumers(fields["spares"]),
    )
    if frozenset() in (stop.purposes, stop.consumers):
        raise ValueError("expected a stop to name what it bars or to bar all, found it names none")
    if stop.ends_at is not None and stop.ends_at <= stop.starts_at:
        raise ValueError("expected a stop that ends after it starts, found one that does not")
    return stop
