"""Terms that contradict themselves or name what nobody knows, refused field by field.

Each message says what was expected, what was found, and what to do; the first one about a field
is the one shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeGuard

from governance.errors import InvalidTerms
from governance.models import Consumer, Document
from governance.models.licences import TERM_FIELDS
from governance.policy.terms import is_territory
from governance.services.terms.value import Terms
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

Problem = tuple[str, str]
MAX_DAYS = 3650
_MAX_COUNT = 2**63 - 1
_MAX_RATE, _MAX_MINIMUM = Decimal(100_000_000), Decimal(10_000_000_000)
_LENGTHS = {"attribution_text": 300, "governing_law": 100, "survival": 5_000, "note": 5_000}
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CITABLE = frozenset(TERM_FIELDS) - {"clauses", "contract_digest", "note"}
_MAX_DUTIES, _MAX_ABOUT, _MAX_CLAUSE = 50, 300, 200
_CLOSED: dict[str, Collection[str]] = {
    "uses": tuple(Use),
    "prohibited_uses": tuple(Use),
    "purposes": tuple(Purpose),
    "prohibited_purposes": tuple(Purpose),
    "recipient_classes": tuple(RecipientClass),
    "sectors": tuple(Sector),
    "excluded_sectors": tuple(Sector),
}


def check(terms: Terms) -> None:
    """Refuse terms that do not hold together.

    Raises:
        InvalidTerms: with a message for every field that is wrong.
    """
    wrong = wrong_fields(terms)
    if wrong:
        found = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise InvalidTerms(f"expected terms that hold together, found {found}", fields=wrong)


def wrong_fields(terms: Terms) -> dict[str, str]:
    """What is wrong with each field; empty where the terms hold together."""
    wrong: dict[str, str] = {}
    for find in _CHECKS:
        for name, message in find(terms):
            wrong.setdefault(name, message)
    return wrong


def _codes(terms: Terms) -> Iterator[Problem]:
    """Only codes of the closed vocabularies, and at least one use."""
    if not terms.uses:
        yield "uses", f"Expected at least one use, found none. Choose from {', '.join(Use)}."
    for name, known in _CLOSED.items():
        unknown = sorted({str(code) for code in getattr(terms, name) or ()} - set(known))
        if unknown:
            yield (
                name,
                f"Expected codes we know, found {', '.join(unknown)}. Choose from "
                f"{', '.join(known)}.",
            )


def _permitted_and_prohibited(terms: Terms) -> Iterator[Problem]:
    """Nothing is both permitted and prohibited, and a licence to answer names a purpose."""
    if both := _shared(terms.uses, terms.prohibited_uses):
        yield "prohibited_uses", _both("permitted", "prohibited", both)
    if Use.ANSWER in terms.uses and not terms.purposes:
        yield (
            "purposes",
            "Expected a purpose, because the licence is to answer, found none. Name one at least.",
        )
    barred = {
        purpose
        for purpose in set(terms.purposes) & set(Purpose)
        if set(Purpose(purpose).lineage) & set(terms.prohibited_purposes)
    }
    if barred:
        yield "prohibited_purposes", _both("permitted", "prohibited", barred)


def _who(terms: Terms) -> Iterator[Problem]:
    """Consumers that are registered, and nobody both named and excluded."""
    for name in ("consumers", "excluded_consumers"):
        named = {str(slug) for slug in getattr(terms, name) or ()}
        known = set(Consumer.objects.filter(slug__in=named).values_list("slug", flat=True))
        if named - known:
            yield (
                name,
                f"Expected registered consumers, found {', '.join(sorted(named - known))}. "
                "Register them first, or take them out.",
            )
    if both := _shared(terms.consumers, terms.excluded_consumers):
        yield "excluded_consumers", _both("named", "excluded", both)
    if both := _shared(terms.sectors, terms.excluded_sectors):
        yield "excluded_sectors", _both("named", "excluded", both)


def _where(terms: Terms) -> Iterator[Problem]:
    """Country codes or groups, and something left of what is named."""
    for name in ("territories", "excluded_territories"):
        odd = [
            str(code)
            for code in getattr(terms, name) or ()
            if code not in set(TerritoryGroup) and not is_territory(code)
        ]
        if odd:
            yield (
                name,
                f"Expected two capital letters (ISO 3166-1) or {', '.join(TerritoryGroup)} each, "
                f"found {', '.join(odd)}. Write DE for Germany.",
            )
    barred = set(terms.excluded_territories) | _countries(terms.excluded_territories)
    if both := {code for code in terms.territories or () if _countries([code]) <= barred}:
        yield "excluded_territories", _both("named", "excluded", both)


def _when(terms: Terms) -> Iterator[Problem]:
    """A period with its time zone that begins before it ends."""
    for name in ("starts_at", "ends_at"):
        at: datetime | None = getattr(terms, name)
        if at is not None and at.tzinfo is None:
            yield name, f"Expected an instant with its time zone, found {at.isoformat()}. Add Z."
            return
    if terms.ends_at is not None and terms.ends_at <= terms.starts_at:
        yield (
            "ends_at",
            f"Expected an end after the start ({terms.starts_at:%Y-%m-%d %H:%M}), found "
            f"{terms.ends_at:%Y-%m-%d %H:%M}. Move one of the two.",
        )


def _quotas(terms: Terms) -> Iterator[Problem]:
    """Counts that are positive, and a period exactly where there is something to count."""
    counted = [name for name in ("max_tokens", "max_answers") if getattr(terms, name) is not None]
    for name in counted:
        found = getattr(terms, name)
        if not _is_whole(found) or not 0 < found <= _MAX_COUNT:
            yield (
                name,
                f"Expected a positive whole number, found {found}. Leave it out for no limit.",
            )
    if terms.quota_period and terms.quota_period not in set(QuotaPeriod):
        yield (
            "quota_period",
            f"Expected one of {', '.join(QuotaPeriod)}, found {terms.quota_period}. Choose one.",
        )
    elif counted and not terms.quota_period:
        yield (
            "quota_period",
            f"Expected the period the quota is counted over, found none. Choose one of "
            f"{', '.join(QuotaPeriod)}.",
        )
    elif terms.quota_period and not counted:
        yield (
            "quota_period",
            f"Expected a quota to count over the {terms.quota_period}, found none. Give the most "
            "tokens or answers, or leave the period out.",
        )


def _withdrawal(terms: Terms) -> Iterator[Problem]:
    if terms.on_withdrawal not in set(OnWithdrawal):
        yield (
            "on_withdrawal",
            f"Expected one of {', '.join(OnWithdrawal)}, found {terms.on_withdrawal}. Choose one.",
        )


def _money(terms: Terms) -> Iterator[Problem]:
    """Amounts that can be written down, and none where the licence is free."""
    yield from _amount(terms, "rate_per_million_tokens", _MAX_RATE)
    yield from _amount(terms, "minimum_per_period", _MAX_MINIMUM)
    code = terms.currency
    if not (len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()):
        yield (
            "currency",
            f"Expected three capital letters (ISO 4217), found {code!r}. Write EUR for euro.",
        )
    if terms.payment_type not in set(PaymentType):
        yield (
            "payment_type",
            f"Expected one of {', '.join(PaymentType)}, found {terms.payment_type}. Choose one.",
        )
    rate, minimum = _decimal(terms.rate_per_million_tokens), _decimal(terms.minimum_per_period)
    if terms.payment_type in (PaymentType.FREE, PaymentType.ATTRIBUTION) and (rate or minimum):
        yield (
            "payment_type",
            f"Expected no amounts with {terms.payment_type}, found a rate or a minimum. Set both "
            "to 0, or choose another way of paying.",
        )
    elif minimum > 0 and not rate and terms.payment_type != PaymentType.SUBSCRIPTION:
        yield (
            "minimum_per_period",
            f"Expected a rate that the minimum of {minimum} holds up, found none. Give the rate, "
            "or choose subscription.",
        )


def _amount(terms: Terms, name: str, limit: Decimal) -> Iterator[Problem]:
    found = _decimal(getattr(terms, name))
    if not 0 <= found < limit:
        yield (
            name,
            f"Expected an amount from 0 and below {limit:,}, found {getattr(terms, name)}. "
            "Correct it.",
        )


def _shares_and_days(terms: Terms) -> Iterator[Problem]:
    rate = terms.max_extraction_rate
    if not (math.isfinite(rate) and 0 <= rate <= 1):
        yield (
            "max_extraction_rate",
            f"Expected a share between 0 and 1, found {rate}. Write 0.01 for one in a hundred.",
        )
    for name in ("notice_days", "wind_down_days"):
        days = getattr(terms, name)
        if not _is_whole(days) or not 0 <= days <= MAX_DAYS:
            yield (
                name,
                f"Expected whole days from 0 to {MAX_DAYS}, found {days}. Write 0 for none.",
            )


def _texts(terms: Terms) -> Iterator[Problem]:
    """Attribution with its words and never without, and nothing longer than its column."""
    if terms.requires_attribution and not terms.attribution_text.strip():
        yield (
            "attribution_text",
            "Expected the words that name the source, found none. Write them as they shall appear.",
        )
    if terms.attribution_text.strip() and not terms.requires_attribution:
        yield (
            "requires_attribution",
            "Expected attribution to be required, because its words are given, found it not. "
            "Require it, or take the words out.",
        )
    for name, limit in _LENGTHS.items():
        length = len(getattr(terms, name))
        if length > limit:
            yield (
                name,
                f"Expected at most {limit} characters, found {length}. Shorten it, or attach it.",
            )


def _duties(terms: Terms) -> Iterator[Problem]:
    if len(terms.duties) > _MAX_DUTIES:
        yield (
            "duties",
            f"Expected at most {_MAX_DUTIES} duties, found {len(terms.duties)}. Take some out.",
        )
    for number, duty in enumerate(terms.duties, 1):
        problem = _wrong_duty(duty)
        if problem:
            yield "duties", f"Duty {number}: {problem}"
            return


def _wrong_duty(duty: Any) -> str:
    """What is wrong with one duty; empty where nothing is."""
    if not isinstance(duty, Mapping):
        return f"expected action, within_days and about, found {duty!r}. Write it as an object."
    if odd := sorted({str(key) for key in duty} - {"action", "within_days", "about"}):
        return f"expected action, within_days and about, found {', '.join(odd)}. Take it out."
    if duty.get("action") not in set(DutyAction):
        known = ", ".join(DutyAction)
        return f"expected one of {known} as action, found {duty.get('action')!r}. Choose one."
    days = duty.get("within_days")
    if not _is_whole(days) or not 0 <= days <= MAX_DAYS:
        return f"expected whole days from 0 to {MAX_DAYS}, found {days!r}. Write 0 for at once."
    about = duty.get("about", "")
    if not isinstance(about, str) or len(about) > _MAX_ABOUT:
        return f"expected at most {_MAX_ABOUT} characters as about, found {about!r}. Shorten it."
    return ""


def _contract(terms: Terms) -> Iterator[Problem]:
    """Digests of the right shape, a file that is stored, and clauses of terms that exist."""
    for name in ("expert_digest", "contract_digest"):
        found = getattr(terms, name)
        if found and _DIGEST.fullmatch(str(found)) is None:
            yield (
                name,
                "Expected a SHA-256 as 64 lowercase hexadecimal characters, found "
                f"{str(found)[:70]!r}. Copy it whole, or leave it out.",
            )
    digest = terms.contract_digest
    if digest and not Document.objects.filter(pk=digest).exists():
        yield (
            "contract_digest",
            f"Expected a file that is stored here, found none of digest {str(digest)[:12]}…. "
            "Hand the file in first.",
        )
    unknown = sorted({str(name) for name in terms.clauses} - _CITABLE)
    if unknown:
        yield (
            "clauses",
            f"Expected names of terms, found {', '.join(unknown)}. Known are "
            f"{', '.join(sorted(_CITABLE))}.",
        )
    elif odd := sorted(name for name, clause in terms.clauses.items() if not _is_clause(clause)):
        yield (
            "clauses",
            f"Expected 1 to {_MAX_CLAUSE} characters for a clause, found something else for "
            f"{', '.join(odd)}. Write it as the contract numbers it.",
        )
    elif terms.clauses and not digest:
        yield (
            "clauses",
            "Expected the signed file the clauses are in, found none. Attach it, or take the "
            "clauses out.",
        )


_CHECKS = (
    _codes,
    _permitted_and_prohibited,
    _who,
    _where,
    _when,
    _quotas,
    _withdrawal,
    _money,
    _shares_and_days,
    _texts,
    _duties,
    _contract,
)


def _shared(named: Collection[str] | None, excluded: Collection[str]) -> set[str]:
    return {str(code) for code in set(named or ()) & set(excluded)}


def _both(one: str, other: str, codes: Iterable[str]) -> str:
    said = ", ".join(sorted(str(code) for code in codes))
    return f"Expected nothing both {one} and {other}, found {said}. Take it out of one of the two."


def _countries(codes: Collection[str]) -> set[str]:
    """The countries that codes and groups name."""
    groups = set(TerritoryGroup)
    return {
        country
        for code in codes
        for country in (TerritoryGroup(code).countries if code in groups else {str(code)})
    }


def _decimal(amount: Decimal | int) -> Decimal:
    """The amount; what is not a number is below every lawful amount."""
    found = Decimal(amount)
    return found if found.is_finite() else Decimal(-1)


def _is_whole(found: object) -> TypeGuard[int]:
    return isinstance(found, int) and not isinstance(found, bool)


def _is_clause(found: object) -> bool:
    return isinstance(found, str) and len(found.strip()) > 0 and len(found) <= _MAX_CLAUSE
