"""The terms of a licence as a value: checked field by field, digested, said in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from governance.canonical import canonical_json, plain, sha256_hex
from governance.errors import InvalidTerms
from governance.models import Consumer, Corpus, Licence
from governance.policy.terms import is_territory
from governance.vocabulary import PaymentType, Purpose, TerritoryGroup, Use


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
    governing_law: str = ""
    survival: str = ""
    clauses: Mapping[str, str] = field(default_factory=dict)
    contract_digest: str = ""
    note: str = ""


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
    found["rate_per_million_tokens"] = _rate(terms)
    found["minimum_per_period"] = Decimal(terms.minimum_per_period).quantize(Decimal("0.01"))
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


def check(terms: Terms) -> None:
    """Refuse terms that contradict themselves or name what nobody knows.

    Raises:
        InvalidTerms: with a message for every field that is wrong.
    """
    wrong = {**_wrong_words(terms), **_wrong_period(terms), **_wrong_numbers(terms)}
    if wrong:
        found = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise InvalidTerms(f"expected terms that hold together, found {found}", fields=wrong)


def _wrong_words(terms: Terms) -> dict[str, str]:
    wrong = {}
    if not terms.uses:
        wrong["uses"] = f"Name at least one use: {', '.join(Use)}."
    elif unknown := _beyond(terms.uses, Use):
        wrong["uses"] = f"Unknown use {unknown}; known are {', '.join(Use)}."
    if unknown := _beyond(terms.purposes, Purpose):
        wrong["purposes"] = f"Unknown purpose {unknown}; known are {', '.join(Purpose)}."
    elif Use.ANSWER in terms.uses and not terms.purposes:
        wrong["purposes"] = "A licence to answer names at least one purpose."
    for name in ("consumers", "excluded_consumers"):
        named = set(getattr(terms, name) or ())
        known = set(Consumer.objects.filter(slug__in=named).values_list("slug", flat=True))
        if unknown := ", ".join(sorted(named - known)):
            wrong[name] = f"Unknown consumer {unknown}; register it first."
    both = set(terms.consumers or ()) & set(terms.excluded_consumers)
    if both:
        wrong.setdefault("excluded_consumers", f"Both named and excluded: {', '.join(both)}.")
    for name in ("territories", "excluded_territories"):
        named_here = [
            code for code in getattr(terms, name) or () if code not in set(TerritoryGroup)
        ]
        if odd := [code for code in named_here if not is_territory(code)]:
            wrong[name] = f"Unknown territory {', '.join(odd)}; two capital letters each."
    return wrong


def _wrong_period(terms: Terms) -> dict[str, str]:
    if terms.starts_at.tzinfo is None:
        return {"starts_at": "Say in which time zone."}
    if terms.ends_at is None:
        return {}
    if terms.ends_at.tzinfo is None:
        return {"ends_at": "Say in which time zone."}
    if terms.ends_at <= terms.starts_at:
        return {"ends_at": f"Ends before it starts ({terms.starts_at:%Y-%m-%d %H:%M})."}
    return {}


def _wrong_numbers(terms: Terms) -> dict[str, str]:
    wrong = {}
    if not 0 <= terms.max_extraction_rate <= 1:
        wrong["max_extraction_rate"] = "A share between 0 and 1."
    if not 0 <= _rate(terms) < Decimal(100_000_000):
        wrong["rate_per_million_tokens"] = "Not negative, and below 100 million."
    if terms.notice_days < 0:
        wrong["notice_days"] = "Not negative."
    if not (len(terms.currency) == 3 and terms.currency.isalpha() and terms.currency.isupper()):
        wrong["currency"] = "Three capital letters (ISO 4217), such as EUR."
    return wrong


def _beyond(codes: Sequence[str], known: type[Use | Purpose]) -> str:
    return ", ".join(sorted({str(code) for code in codes} - set(known)))


def _rate(terms: Terms) -> Decimal:
    return Decimal(terms.rate_per_million_tokens).quantize(Decimal("0.0001"))


def plain_words(licence: Licence) -> str:
    """What a licence allows, in sentences a person can agree or object to."""
    terms = of(licence)
    sentences = [f"{licence.corpus.title} of {licence.corpus.owner.legal_name}."]
    if Use.TRAIN in terms.uses:
        sentences.append("May train an expert.")
    else:
        sentences.append("May not train an expert.")
    if Use.ANSWER in terms.uses:
        sentences.append(_answering(terms))
    else:
        sentences.append("May not answer anybody.")
    until = f"until {_day(terms.ends_at)}" if terms.ends_at else "with no end named"
    sentences.append(f"In force from {_day(terms.starts_at)} {until}.")
    if terms.is_exclusive:
        sentences.append("No other licence on this collection may run beside it.")
    sentences.append(
        f"Served only while its audited extraction rate is at most {terms.max_extraction_rate:.2%}."
    )
    if terms.rate_per_million_tokens:
        sentences.append(
            f"Costs {terms.rate_per_million_tokens:.2f} {terms.currency} for a million tokens the "
            "expert accounts for."
        )
    notice = f"{terms.notice_days} days' notice" if terms.notice_days else "no notice"
    sentences.append(f"Termination takes {notice}; the owner may withdraw at any time, at once.")
    return " ".join(sentences)


def _answering(terms: Terms) -> str:
    words = f"May answer for {_joined([Purpose(p).label.lower() for p in terms.purposes])}"
    consumers = "anyone" if terms.consumers is None else _joined(terms.consumers, none="nobody")
    words += f", asked by {consumers}"
    if terms.excluded_consumers:
        words += f" but never {_joined(terms.excluded_consumers, last='or')}"
    where = "anywhere" if terms.territories is None else f"in {_joined(terms.territories)}"
    return f"{words}, {where}."


def _joined(words: Sequence[str], *, last: str = "and", none: str = "nothing") -> str:
    if not words:
        return none
    *most, final = words
    return f"{', '.join(most)} {last} {final}" if most else final


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"
