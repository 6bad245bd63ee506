"""What each term is called, where it belongs, and its value in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from governance.services.terms.value import Terms
from governance.vocabulary import (
    DutyAction,
    Labelled,
    OnWithdrawal,
    PaymentType,
    Purpose,
    QuotaPeriod,
    RecipientClass,
    Sector,
    TerritoryGroup,
    Use,
)


@dataclass(frozen=True)
class TermGroup:
    """Terms that belong together, in the order forms and pages show them."""

    code: str
    title: str
    fields: tuple[str, ...]


GROUPS = (
    TermGroup(
        "what",
        "What may be done",
        ("uses", "prohibited_uses", "purposes", "prohibited_purposes", "expert_digest",
         "max_extraction_rate"),
    ),
    TermGroup(
        "who",
        "For whom",
        ("consumers", "excluded_consumers", "recipient_classes", "sectors", "excluded_sectors",
         "is_exclusive"),
    ),
    TermGroup("where", "Where", ("territories", "excluded_territories")),
    TermGroup(
        "when",
        "When and how much",
        ("starts_at", "ends_at", "notice_days", "wind_down_days", "on_withdrawal", "max_tokens",
         "max_answers", "quota_period"),
    ),
    TermGroup(
        "money",
        "Money",
        ("payment_type", "rate_per_million_tokens", "minimum_per_period", "currency"),
    ),
    TermGroup("duties", "What we must do", ("requires_attribution", "attribution_text", "duties")),
    TermGroup(
        "contract",
        "Contract",
        ("governing_law", "survival", "contract_digest", "clauses", "note"),
    ),
)  # fmt: skip
LABELS = {
    "uses": "Permitted uses",
    "prohibited_uses": "Prohibited uses",
    "purposes": "Purposes",
    "prohibited_purposes": "Prohibited purposes",
    "consumers": "Only these consumers",
    "excluded_consumers": "Never these consumers",
    "recipient_classes": "Kinds of organisation",
    "sectors": "Only these sectors",
    "excluded_sectors": "Never these sectors",
    "territories": "Territories",
    "excluded_territories": "Never in",
    "starts_at": "Starts",
    "ends_at": "Ends",
    "is_exclusive": "Exclusive",
    "expert_digest": "Revision of the expert",
    "max_tokens": "Most tokens",
    "max_answers": "Most answers",
    "quota_period": "Counted over",
    "max_extraction_rate": "Highest extraction rate served",
    "payment_type": "Paid by",
    "rate_per_million_tokens": "Rate for a million tokens",
    "minimum_per_period": "Minimum a month",
    "currency": "Currency",
    "requires_attribution": "Attribution required",
    "attribution_text": "Words of the attribution",
    "duties": "Duties",
    "notice_days": "Notice of termination",
    "wind_down_days": "Wind-down after the notice",
    "on_withdrawal": "An answer under way at a withdrawal",
    "governing_law": "Governing law",
    "survival": "What outlasts the licence",
    "clauses": "Clauses",
    "contract_digest": "Signed contract",
    "note": "Note",
}
_VOCABULARIES: dict[str, type[Labelled]] = {
    "uses": Use,
    "prohibited_uses": Use,
    "purposes": Purpose,
    "prohibited_purposes": Purpose,
    "recipient_classes": RecipientClass,
    "sectors": Sector,
    "excluded_sectors": Sector,
    "territories": TerritoryGroup,
    "excluded_territories": TerritoryGroup,
    "on_withdrawal": OnWithdrawal,
    "payment_type": PaymentType,
    "quota_period": QuotaPeriod,
}
_DUTIES: dict[str, tuple[str, str]] = {
    DutyAction.ATTRIBUTE: ("name the source", " of "),
    DutyAction.INFORM: ("inform the owner", " about "),
    DutyAction.COMPENSATE: ("pay the owner", " for "),
    DutyAction.DELETE: ("delete", " "),
}


def said(name: str, terms: Terms) -> str:
    """The value of one term in words: "Any", "Academic research and teaching", "14 days"."""
    found = getattr(terms, name)
    if name in _SAID:
        return _SAID[name](found, terms)
    if found is None:
        return "Any"
    if isinstance(found, str):
        return label(name, found) if found else "—"
    if isinstance(found, bool):
        return "Yes" if found else "No"
    return joined([label(name, code) for code in sorted(found)], none="None")


def label(name: str, code: str) -> str:
    """The word for one code of a term; a code nobody knows stands for itself."""
    vocabulary = _VOCABULARIES.get(name)
    return vocabulary(code).label if vocabulary and code in set(vocabulary) else str(code)


def joined(words: Sequence[str], *, last: str = "and", none: str = "nothing") -> str:
    """All of them in one phrase: "one, two and three"."""
    if not words:
        return none
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final


def moment(at: datetime) -> str:
    """The day, and the time of day where it is not midnight UTC."""
    there = at.astimezone(UTC)
    clock = there.strftime("%H:%M:%S" if there.second else "%H:%M")
    return f"{there.day} {there:%B %Y}" + ("" if clock == "00:00" else f", {clock} UTC")


def last_moment(at: datetime) -> str:
    """The end of a period whose end is exclusive: midnight is the end of the day before."""
    there = at.astimezone(UTC)
    if (there.hour, there.minute, there.second) == (0, 0, 0):
        return f"the end of {moment(there - timedelta(days=1))}"
    return moment(there)


def money(amount: Decimal | int) -> str:
    """Two decimals, and more only where there are more."""
    return f"{Decimal(amount):,.4f}".removesuffix("00")


def percent(share: float) -> str:
    """A share as percent, exactly as written down: 0.01 is "1%"."""
    text = f"{Decimal(str(share)) * 100:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def days(count: int) -> str:
    """A number of days: "1 day", "14 days"."""
    return f"{count} day" if count == 1 else f"{count} days"


def duty(found: Mapping[str, Any]) -> str:
    """One duty: "inform the owner about audits within 30 days"."""
    action, about = str(found.get("action", "")), str(found.get("about") or "")
    verb, before = _DUTIES.get(action, (action, " "))
    within = int(found.get("within_days") or 0)
    limit = f"within {days(within)}" if within else "at once"
    return f"{verb}{before + about if about else ''} {limit}"


def _begun(text: str) -> str:
    """The text with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


_SAID: dict[str, Callable[[Any, Terms], str]] = {
    "starts_at": lambda at, _: moment(at),
    "ends_at": lambda at, _: _begun(last_moment(at)) if at else "Open-ended",
    "expert_digest": lambda digest, _: digest or "Any revision",
    "max_tokens": lambda count, _: "No limit" if count is None else f"{count:,}",
    "max_answers": lambda count, _: "No limit" if count is None else f"{count:,}",
    "max_extraction_rate": lambda share, _: percent(share),
    "rate_per_million_tokens": lambda rate, terms: f"{money(rate)} {terms.currency}",
    "minimum_per_period": lambda least, terms: f"{money(least)} {terms.currency}",
    "notice_days": lambda count, _: days(count) if count else "None",
    "wind_down_days": lambda count, _: days(count) if count else "None",
    "duties": lambda found, _: "; ".join(_begun(duty(one)) for one in found) or "None",
    "clauses": lambda found, _: (
        "; ".join(f"{LABELS.get(name, name)}: {found[name]}" for name in sorted(found)) or "None"
    ),
    "contract_digest": lambda digest, _: digest or "None attached",
}
