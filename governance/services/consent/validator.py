"""Whether a consent record says all that ISO/IEC TS 27560:2023 makes mandatory.

Field names of the standard stand in `Fault.clause` as the W3C DPV guide to it numbers them. It
checks form: whether what is said is true, no validator knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from governance.vocabulary import ConsentEventKind, ConsentType, LawfulBasis, Purpose


@dataclass(frozen=True)
class Fault:
    """A mandatory field that is missing or does not hold."""

    field: str
    clause: str
    expected: str
    found: str
    to_do: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, found {self.found}. {self.to_do}"


_DIGEST = re.compile(r"[0-9a-f]{64}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_COUNTRY = re.compile(r"[A-Z]{2}")
_DURATION = re.compile(r"P\d+D")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_text(one) for one in value)


def _is_instant(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_validity(value: Any) -> bool:
    return value == "until withdrawn" or bool(isinstance(value, str) and _DURATION.fullmatch(value))


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _among(known: type[StrEnum]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in set(known)


def _are_among(known: type[StrEnum]) -> Callable[[Any], bool]:
    return lambda value: _is_list_of_text(value) and set(value) <= set(known)


def _are_recipients(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(one, Mapping) and _is_text(one.get("party_id") or one.get("party_type"))
            for one in value
        )
    )


# (path in the receipt, clause, what holds, expected, what to do)
_Rule = tuple[str, str, Callable[[Any], bool], str, str]
_HEADER: Final[tuple[_Rule, ...]] = (
    ("schema_version", "6.3.3", _is_text, "the version of the schema", "Name it."),
    ("record_id", "6.3.3", _is_text, "an identifier of the record", "Give it one."),
    ("pii_principal_id", "6.3.3", _is_text, "who consents", "Name the owner."),
)
_PROCESSING: Final[tuple[_Rule, ...]] = (
    ("notice.version", "6.3.4.1", _is_text, "the notice's version", "Name the licence version."),
    ("notice.url", "6.3.4.1", _is_text, "where the notice is", "Give its address."),
    ("notice.digest", "6.3.4.1", _matches(_DIGEST), "a SHA-256 of the notice", "Hash the text."),
    ("notice.language", "6.3.4.2", _matches(_LANGUAGE), "a BCP 47 language", "Such as en."),
    ("purposes", "6.3.4.3", _are_among(Purpose), "purposes of the tree", "Name at least one."),
    ("lawful_basis", "6.3.4.6", _among(LawfulBasis), "a known lawful basis", "Choose one."),
    ("data_categories", "6.3.4.7", _is_list_of_text, "categories of data", "Name at least one."),
    ("controller", "6.3.4.8", _is_text, "who decides", "Set RECLAIM_CONTROLLER_NAME."),
    ("storage_locations", "6.3.4.11", _is_list_of_text, "where it is stored",
     "Set RECLAIM_CONTROLLER_STORAGE."),
    ("retention_period", "6.3.4.12", _is_text, "how long it is kept",
     "Set RECLAIM_CONTROLLER_RETENTION."),
    ("jurisdiction", "6.3.4.16", _matches(_COUNTRY), "an ISO 3166-1 country", "Such as NL."),
    ("recipients", "6.3.4.17", _are_recipients, "who receives", "Name them, or their class."),
    ("withdrawal_method", "6.3.4.18", _is_text, "how to withdraw", "Give the page's address."),
)  # fmt: skip
_PARTY: Final[tuple[_Rule, ...]] = (
    ("party_id", "6.3.6", _is_text, "an identifier", "Give it one."),
    ("party_name", "6.3.6", _is_text, "a name", "Name it."),
    ("party_type", "6.3.6", _is_text, "a type, such as organisation", "Say which."),
)
_CONTACT: Final[tuple[_Rule, ...]] = (
    ("party_address", "6.3.6", _is_text, "a postal address", "Set RECLAIM_CONTROLLER_ADDRESS."),
    ("party_contact", "6.3.6", _is_text, "a contact", "Set RECLAIM_CONTROLLER_CONTACT."),
)
_EVENT: Final[tuple[_Rule, ...]] = (
    ("at", "6.3.7", _is_instant, "an instant with its offset", "Use ISO 8601."),
    ("validity_duration", "6.3.7", _is_validity, "days as P30D, or until withdrawn", "Say which."),
    ("entity", "6.3.7", _is_text, "who acted", "Name the party."),
    ("consent_type", "6.3.7", _among(ConsentType), "implied, expressed or explicit", "Say which."),
    ("kind", "6.3.7", _among(ConsentEventKind), "a known state", "Use the vocabulary's."),
)


def faults(receipt: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Every mandatory field that is missing or does not hold, in the schema's order."""
    return tuple(_faults(receipt))


def _faults(receipt: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _broken((*_HEADER, *_PROCESSING), receipt)
    parties = receipt.get("parties")
    yield from _each("parties", parties, "6.3.6", "the parties, one of them the controller")
    for place, party in _rows(parties):
        yield from _broken(_PARTY, party, f"parties[{place}].")
        # A person need not be reachable through its record; an organisation that decides must be.
        if party.get("party_role") != "pii_principal":
            yield from _broken(_CONTACT, party, f"parties[{place}].")
    if not any(party.get("party_role") == "controller" for _, party in _rows(parties)):
        yield Fault("parties", "6.3.4.8", "a controller", "none", "Add the operator.")
    happened = receipt.get("events")
    yield from _each("events", happened, "6.3.7", "at least one event")
    for place, event in _rows(happened):
        yield from _broken(_EVENT, event, f"events[{place}].")


def _broken(rules: tuple[_Rule, ...], told: Mapping[str, Any], prefix: str = "") -> Iterator[Fault]:
    for path, clause, holds, expected, to_do in rules:
        value = _at(told, path)
        if not holds(value):
            yield Fault(f"{prefix}{path}", clause, expected, _shown(value), to_do)


def _each(field: str, value: Any, clause: str, expected: str) -> Iterator[Fault]:
    if not isinstance(value, list) or not value:
        yield Fault(field, clause, expected, _shown(value), "Add them.")
    elif len(_rows(value)) != len(value):
        yield Fault(field, clause, expected, "something that is no object", "Give objects alone.")


def _rows(value: Any) -> list[tuple[int, Mapping[str, Any]]]:
    rows = value if isinstance(value, list) else []
    return [(place, row) for place, row in enumerate(rows) if isinstance(row, Mapping)]


def _at(told: Mapping[str, Any], path: str) -> Any:
    value: Any = told
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _shown(value: Any) -> str:
    return "nothing" if value in (None, "", [], {}) else repr(value)[:80]
