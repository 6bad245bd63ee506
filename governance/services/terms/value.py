"""The terms of a licence as a value: brought into one order, and digested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from governance.canonical import canonical_json, plain, sha256_hex
from governance.models import Corpus, Licence
from governance.vocabulary import OnWithdrawal, PaymentType


@dataclass(frozen=True)
class Terms:
    """What two people agree to about one corpus.

    `consumers`, `recipient_classes`, `sectors` and `territories`: None means any, an empty list
    none; a territory is a country or a `TerritoryGroup`. `ends_at` is exclusive, None is
    open-ended. `expert_digest` binds the licence to one revision, empty is any. `max_tokens` and
    `max_answers` count over `quota_period`. `max_extraction_rate` is a share in [0, 1]. The rate
    is in `currency` for a million tokens attributed to the expert, the minimum for a calendar
    month. `duties`: mappings with `action` (`DutyAction`), `within_days` and `about`. `clauses`:
    a term's name to the clause it comes from, in the file of `contract_digest`.
    """

    uses: Sequence[str]
    purposes: Sequence[str]
    starts_at: datetime
    ends_at: datetime | None = None
    prohibited_uses: Sequence[str] = ()
    prohibited_purposes: Sequence[str] = ()
    consumers: Sequence[str] | None = None
    excluded_consumers: Sequence[str] = ()
    recipient_classes: Sequence[str] | None = None
    sectors: Sequence[str] | None = None
    excluded_sectors: Sequence[str] = ()
    territories: Sequence[str] | None = None
    excluded_territories: Sequence[str] = ()
    is_exclusive: bool = False
    expert_digest: str = ""
    max_tokens: int | None = None
    max_answers: int | None = None
    quota_period: str = ""
    max_extraction_rate: float = 0.01
    payment_type: str = PaymentType.USE
    rate_per_million_tokens: Decimal | int = Decimal(0)
    minimum_per_period: Decimal | int = Decimal(0)
    currency: str = "EUR"
    requires_attribution: bool = False
    attribution_text: str = ""
    duties: Sequence[Mapping[str, Any]] = ()
    notice_days: int = 0
    wind_down_days: int = 0
    on_withdrawal: str = OnWithdrawal.ABORT
    governing_law: str = ""
    survival: str = ""
    clauses: Mapping[str, str] = field(default_factory=dict)
    contract_digest: str = ""
    note: str = ""


_RATE_STEP, _MINIMUM_STEP = Decimal("0.0001"), Decimal("0.01")
LISTS = (
    "uses",
    "prohibited_uses",
    "purposes",
    "prohibited_purposes",
    "consumers",
    "excluded_consumers",
    "recipient_classes",
    "sectors",
    "excluded_sectors",
    "territories",
    "excluded_territories",
)


def of(licence: Licence) -> Terms:
    """The terms a stored licence holds now."""
    return Terms(**{field.name: getattr(licence, field.name) for field in fields(Terms)})


def columns(terms: Terms) -> dict[str, Any]:
    """The terms as columns: each list without repeats and in one order."""
    found = {field.name: getattr(terms, field.name) for field in fields(Terms)}
    for name in LISTS:
        if found[name] is not None:
            found[name] = sorted({str(code) for code in found[name]})
    found["duties"] = [dict(duty) for duty in terms.duties]
    found["clauses"] = dict(terms.clauses)
    found["rate_per_million_tokens"] = Decimal(terms.rate_per_million_tokens).quantize(_RATE_STEP)
    found["minimum_per_period"] = Decimal(terms.minimum_per_period).quantize(_MINIMUM_STEP)
    found["max_extraction_rate"] = float(terms.max_extraction_rate)
    return found


def digest(corpus: Corpus, terms: Terms) -> str:
    """SHA-256 of the canonical terms and the corpus they are about. What a second person approves.

    Instants are brought to UTC first, so the digest does not hang on anybody's time zone.
    """
    found = columns(terms)
    for name in ("starts_at", "ends_at"):
        if found[name] is not None:
            found[name] = found[name].astimezone(UTC)
    return sha256_hex(canonical_json(plain({"version": 1, "corpus": corpus.slug, **found})))
