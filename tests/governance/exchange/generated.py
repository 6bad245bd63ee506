"""Licences made up by Hypothesis: every term, in every combination the form allows."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from governance.exchange.rights import ABSENT, normal
from governance.vocabulary import (
    DutyAction,
    OnWithdrawal,
    PaymentType,
    Purpose,
    QuotaPeriod,
    RecipientClass,
    Sector,
    TerritoryGroup,
    Use,
)

SLUGS = ("dara", "nova", "quill-works", "tarn")
TERRITORIES = (*TerritoryGroup, "NL", "DE", "US", "JP")
_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=40)
_DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
_BEGIN = datetime(2026, 1, 1)  # noqa: DTZ001 - Hypothesis wants naive bounds and adds the zone
_MIDDLE, _END = datetime(2028, 1, 1), datetime(2032, 1, 1)  # noqa: DTZ001
_LATEST = datetime(2027, 12, 31)  # noqa: DTZ001


def _some(codes: Any, *, least: int = 0) -> st.SearchStrategy[list[str]]:
    words = sorted(str(code) for code in codes)
    return st.lists(st.sampled_from(words), min_size=least, unique=True)


def _any_or_some(codes: Any) -> st.SearchStrategy[list[str] | None]:
    return st.none() | _some(codes)


def _money(places: int) -> st.SearchStrategy[Decimal]:
    return st.just(Decimal(0)) | st.decimals(0, 9_999_999, places=places)


_DUTY = st.fixed_dictionaries(
    {"action": st.sampled_from([str(action) for action in DutyAction])},
    optional={"within_days": st.integers(0, 400), "about": _TEXT},
)

_FIELDS = {
    "uses": _some(Use, least=1),
    "prohibited_uses": _some(Use),
    "purposes": _some(Purpose),
    "prohibited_purposes": _some(Purpose),
    "consumers": _any_or_some(SLUGS),
    "excluded_consumers": _some(SLUGS),
    "recipient_classes": _any_or_some(RecipientClass),
    "sectors": _any_or_some(Sector),
    "excluded_sectors": _some(Sector),
    "territories": _any_or_some(TERRITORIES),
    "excluded_territories": _some(TERRITORIES),
    "starts_at": st.datetimes(_BEGIN, _LATEST, timezones=st.just(UTC)),
    "ends_at": st.none() | st.datetimes(_MIDDLE, _END, timezones=st.just(UTC)),
    "is_exclusive": st.booleans(),
    "expert_digest": st.just("") | _DIGEST,
    "max_tokens": st.none() | st.integers(0, 10**12),
    "max_answers": st.none() | st.integers(0, 10**9),
    "quota_period": st.sampled_from([str(period) for period in QuotaPeriod]),
    "max_extraction_rate": st.floats(0, 1),
    "payment_type": st.sampled_from([str(payment) for payment in PaymentType]),
    "rate_per_million_tokens": _money(4),
    "minimum_per_period": _money(2),
    "currency": st.sampled_from(["EUR", "USD", "CHF"]),
    "requires_attribution": st.booleans(),
    "attribution_text": _TEXT,
    "duties": st.lists(_DUTY, max_size=3),
    "notice_days": st.integers(0, 720),
    "wind_down_days": st.integers(0, 720),
    "on_withdrawal": st.sampled_from([str(course) for course in OnWithdrawal]),
    "governing_law": _TEXT,
    "survival": _TEXT,
    "clauses": st.dictionaries(st.sampled_from(sorted(ABSENT)), _TEXT, max_size=3),
    "contract_digest": st.just("") | _DIGEST,
    "note": _TEXT,
}

NEEDED = {"uses", "starts_at"}

TERMS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {name: _FIELDS[name] for name in NEEDED},
    optional={name: each for name, each in _FIELDS.items() if name not in NEEDED},
).map(normal)
"""Terms in their normal form; each optional one is left out about half the time."""
