"""Constraints of ODRL rules as limits of a licence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from governance.exchange.odrl.merging import Limits, joined
from governance.exchange.odrl.nodes import Names, many
from governance.exchange.odrl.words import COUNTRY, ODRL, OWN, PROFILE, PURPOSES, TOP_PURPOSES, URN
from governance.exchange.rights import Direction, Loss, shown
from governance.vocabulary import QuotaPeriod, RecipientClass, Sector, TerritoryGroup

__all__ = ["Limits", "barred", "read"]

_KNOWN = {"uid", "@id", "@type", "leftOperand", "operator", "rightOperand", "unit", "dataType",
          f"{OWN}period"}  # fmt: skip
_ANY = {"eq", "isA", "isAnyOf", "isPartOf"}
_NONE = {"neq", "isNoneOf"}
_MOST = {"eq", "lt", "lteq"}
_ITU = re.compile(r"http://www\.itu\.int/tML/tML-ISO-3166:([a-z]{2})")


def read(constraints: list[Any], names: Names, *, is_ours: bool) -> Limits | str:
    """The limits of a permission, or why they cannot be read: then it is not taken over.

    A policy outside our profile that names no purpose allows all; in ours, silence names none.
    """
    found = Limits()
    for constraint in _flat(constraints, names):
        limits = _one(constraint, names)
        if isinstance(limits, str):
            return limits
        try:
            found = joined(found, limits)
        except ValueError as error:
            return str(error)
    if "purposes" not in found.terms and not is_ours:
        everything = Limits({"purposes": sorted(str(purpose) for purpose in TOP_PURPOSES)})
        found = joined(everything, found)
    return found


def barred(constraints: list[Any], names: Names) -> Limits | None:
    """What a prohibition bars by purpose, place, recipient or sector; None: it bars everything.

    Of several limits only one is kept: whoever is barred for a purpose in a place is barred there
    for all purposes, or everywhere for this one. Both are narrower than what was written.
    """
    for constraint in _flat(constraints, names):
        if not isinstance(constraint, Mapping):
            continue
        term, words = _WORDS.get(names.iri(constraint.get("leftOperand")), (None, None))
        if term is None or words is None or set(constraint) - _KNOWN:
            continue
        operator = names.local(constraint.get("operator"))
        raw = many(constraint.get("rightOperand"))
        codes = [words(names.value(one)) for one in raw]
        if operator not in _ANY or not codes or None in codes:
            continue
        losses = () if len(constraints) == 1 else (_narrower(constraints),)
        return Limits({_against(term): sorted({str(code) for code in codes})}, losses)
    return None


def _narrower(constraints: list[Any]) -> Loss:
    reason = "Barred only where all of these hold; taken over as barred where one of them does."
    return Loss("prohibition", shown(constraints), reason, Direction.NARROWER)


def _flat(constraints: list[Any], names: Names) -> list[Any]:
    """Constraints that must all hold, one by one: `and` asks for the same as a plain list."""
    found = []
    for constraint in constraints:
        if isinstance(constraint, Mapping) and set(constraint) - {"uid", "@id", "@type"} == {"and"}:
            found += _flat(many(constraint["and"]), names)
        else:
            found.append(constraint)
    return found


def _one(constraint: Any, names: Names) -> Limits | str:
    if not isinstance(constraint, Mapping):
        return f"a limit is only referred to ({shown(constraint)})"
    left = names.iri(constraint.get("leftOperand"))
    label = names.local(constraint.get("leftOperand"))
    if odd := sorted(set(constraint) - _KNOWN):
        return f"we do not know {', '.join(odd)} in a constraint"
    operator = names.local(constraint.get("operator"))
    values = [names.value(one) for one in many(constraint.get("rightOperand"))]
    found = None
    if left in _WORDS:
        found = _named(*_WORDS[left], operator, values)
    elif left in _NUMBERS and len(values) == 1:
        found = _NUMBERS[left](operator, values[0], constraint, names)
    if found is None:
        return f"we cannot keep the limit {label} {operator} {shown(values)}"
    return found


def _named(
    term: str, words: Callable[[str], str | None], operator: str, values: list[str]
) -> Limits | None:
    codes = [words(value) for value in values]
    known = sorted({code for code in codes if code is not None})
    if operator in _NONE:
        return Limits({_against(term): known}) if None not in codes else None
    if operator not in _ANY or (values and not known):
        return None
    unknown = [value for value, code in zip(values, codes, strict=True) if code is None]
    losses = tuple(
        Loss(
            term, value, "We have no word for it; left out of what is allowed.", Direction.NARROWER
        )
        for value in unknown
    )
    return Limits({term: known}, losses)


def _against(term: str) -> str:
    return "prohibited_purposes" if term == "purposes" else f"excluded_{term}"


def _purpose(value: str) -> str | None:
    found = PURPOSES.get(value)
    return None if found is None else str(found)


def _consumer(value: str) -> str | None:
    prefix = f"{URN}consumer:"
    return value.removeprefix(prefix) if value.startswith(prefix) else None


def _class(value: str) -> str | None:
    code = value.removeprefix(f"{PROFILE}class-")
    return code if code in set(RecipientClass) else None


def _sector(value: str) -> str | None:
    return value if value in set(Sector) else None


def _territory(value: str) -> str | None:
    code = value.removeprefix(PROFILE)
    if code in set(TerritoryGroup):
        return code
    if match := _ITU.fullmatch(value):
        return match[1].upper()
    code = value.removeprefix(COUNTRY)
    return code if re.fullmatch(r"[A-Z]{2}", code) else None


_WORDS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    f"{ODRL}purpose": ("purposes", _purpose),
    f"{ODRL}recipient": ("consumers", _consumer),
    f"{PROFILE}recipientClass": ("recipient_classes", _class),
    f"{ODRL}industry": ("sectors", _sector),
    f"{ODRL}spatial": ("territories", _territory),
}


def _date_time(
    operator: str, value: str, _constraint: Mapping[str, Any], _names: Names
) -> Limits | None:
    try:
        is_day = re.fullmatch(r"\d{4}-\d{2}-\d{2}", value) is not None
        at = (
            datetime.combine(date.fromisoformat(value), datetime.min.time())
            if is_day
            else datetime.fromisoformat(value)
        )
    except ValueError:
        return None
    losses: tuple[Loss, ...] = ()
    if at.tzinfo is None:
        losses = (Loss("period", value, "Names no time zone; read as UTC.", Direction.CONFIRM),)
        at = at.replace(tzinfo=UTC)
    at = at.astimezone(UTC)
    step = timedelta(days=1) if is_day else timedelta(microseconds=1)
    try:
        term, instant = {
            "lt": ("ends_at", at),
            # Our end is exclusive: a last day is taken whole, a last instant is not.
            "lteq": ("ends_at", at + step if is_day else at),
            "gteq": ("starts_at", at),
            "gt": ("starts_at", at + step),
        }[operator]
    except (KeyError, OverflowError):
        return None
    return Limits({term: instant}, losses)


def _count(operator: str, value: str, constraint: Mapping[str, Any], names: Names) -> Limits | None:
    term = {f"{PROFILE}token": "max_tokens", f"{PROFILE}answer": "max_answers"}.get(
        names.iri(constraint.get("unit", ""))
    )
    period = str(constraint.get(f"{OWN}period", ""))
    if term is None or operator not in _MOST or not re.fullmatch(r"\d{1,18}", value):
        return None
    if period and period not in set(QuotaPeriod):
        return None
    most = int(value) - (1 if operator == "lt" else 0)
    found: dict[str, Any] = {term: max(most, 0)}
    return Limits({**found, "quota_period": period} if period else found)


def _version(operator: str, value: str, *_: Any) -> Limits | None:
    match = re.fullmatch(r"sha256:([0-9a-f]{64})", value)
    return Limits({"expert_digest": match[1]}) if match and operator == "eq" else None


def _rate(operator: str, value: str, *_: Any) -> Limits | None:
    try:
        rate = float(value)
    except ValueError:
        return None
    return Limits({"max_extraction_rate": rate}) if operator == "lteq" and 0 <= rate <= 1 else None


_NUMBERS: dict[str, Callable[..., Limits | None]] = {
    f"{ODRL}dateTime": _date_time,
    f"{ODRL}count": _count,
    f"{ODRL}version": _version,
    f"{PROFILE}extractionRate": _rate,
}
