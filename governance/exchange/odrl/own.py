"""The terms of a licence that ODRL has no place for, under our profile's namespace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from governance.exchange.odrl.nodes import Names, Node
from governance.exchange.odrl.words import DAY_TERMS, PLAIN_TERMS, PROFILE
from governance.exchange.rights import unreadable
from governance.vocabulary import OnWithdrawal, PaymentType, QuotaPeriod

_CLAUSES = "clauses"
OWN_TERMS = frozenset(f"{PROFILE}{word}" for word in (*PLAIN_TERMS, *DAY_TERMS, _CLAUSES))
_CHOICES: dict[str, list[str]] = {
    "quota_period": [str(period) for period in QuotaPeriod],
    "payment_type": [str(payment) for payment in PaymentType],
    "on_withdrawal": [str(course) for course in OnWithdrawal],
}
_DAYS = re.compile(r"P(\d{1,5})D")


def own_terms(policy: Node, names: Names) -> dict[str, Any]:
    """The terms a policy states in our own words.

    Raises:
        InvalidTerms: one of them holds what it cannot hold.
    """
    found: dict[str, Any] = {}
    for key, value in policy.items():
        iri = names.iri(key)
        if iri not in OWN_TERMS:
            continue
        word = iri.removeprefix(PROFILE)
        if word in PLAIN_TERMS:
            found[PLAIN_TERMS[word]] = _text(key, value, PLAIN_TERMS[word])
        elif word in DAY_TERMS:
            found[DAY_TERMS[word]] = days(key, value)
        else:
            found["clauses"] = embedded(key, value)
    return found


def days(key: str, value: Any) -> int:
    """A duration in whole days.

    Raises:
        InvalidTerms: it is none.
    """
    text = str(value.get("@value", "")) if isinstance(value, Mapping) else str(value)
    match = _DAYS.fullmatch(text)
    if match is None:
        raise unreadable(f"whole days such as P30D in {key}", text, "Correct the file.")
    return int(match[1])


def embedded(key: str, value: Any) -> dict[str, Any]:
    """A JSON object kept whole (a literal of type @json).

    Raises:
        InvalidTerms: it is none.
    """
    inner = value.get("@value") if isinstance(value, Mapping) else None
    if not isinstance(inner, dict) or value.get("@type") != "@json":
        raise unreadable(f"a literal of type @json with an object in {key}", str(value)[:80],
                         "Correct the file.")  # fmt: skip
    return inner


def _text(key: str, value: Any, term: str) -> str:
    text = value.get("@value") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise unreadable(f"a text in {key}", str(text)[:80], "Correct the file.")
    if term in _CHOICES and text not in _CHOICES[term]:
        known = ", ".join(sorted(_CHOICES[term]))
        raise unreadable(f"one of {known} in {key}", text[:80], "Correct the file.")
    return text
