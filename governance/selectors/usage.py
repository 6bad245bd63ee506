"""Use and money: what experts did, for whom, and what their owners earned by it.

An expert's tokens are the tokens of an answer, prompt included, times the expert's share of the
router weight summed over layers and tokens. The amount is those tokens times the rate of the
licence that covered the answer. Routing weight is a unit of account: it is not influence, and
statements must say so. Rows still open are in no account; every sum is made by PostgreSQL in
exact decimals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, OuterRef, Subquery

from governance.models import Consumer, DataOwner, Expert, Licence

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
CENT = Decimal("0.01")

# The licence a row names says the price; rows written before they did fall back on the one
# approved last that covers the answer.
_LINES = """
WITH used AS (
    SELECT e.id AS expert_id, e.corpus_id, u.consumer_id, c.slug AS consumer, u.purpose,
           u.opened_at, u.licences ->> e.name AS named,
           (u.prompt_tokens + u.completion_tokens)
               * (u.mass ->> e.name)::numeric / NULLIF(m.total, 0) AS tokens
    FROM governance_usagerecord u
    JOIN governance_expert e ON u.allowed @> ARRAY[e.name]::varchar[] AND u.mass ? e.name
    JOIN governance_consumer c ON c.id = u.consumer_id
    CROSS JOIN LATERAL (
        SELECT SUM(value::numeric) AS total FROM jsonb_each_text(u.mass)
    ) m
    WHERE e.id = ANY(%s) AND u.closed_at IS NOT NULL
      AND u.closed_at >= %s AND u.closed_at < %s
)
SELECT used.expert_id, used.consumer_id, l.reference, l.currency, l.rate,
       COUNT(*), COALESCE(SUM(used.tokens), 0),
       COALESCE(SUM(used.tokens * l.rate / 1000000), 0), MAX(used.opened_at)
FROM used
LEFT JOIN LATERAL (
    SELECT reference, currency, rate_per_million_tokens AS rate
    FROM governance_licence
    WHERE corpus_id = used.corpus_id AND CASE WHEN used.named IS NOT NULL
      THEN reference = used.named
      ELSE state = 'approved' AND starts_at <= used.opened_at
           AND (ends_at IS NULL OR ends_at > used.opened_at)
           AND (stops_at IS NULL OR stops_at > used.opened_at)
           AND used.purpose = ANY(purposes)
           AND (consumers IS NULL OR used.consumer = ANY(consumers))
           AND NOT used.consumer = ANY(excluded_consumers)
      END
    ORDER BY decided_at DESC, reference
    LIMIT 1
) l ON TRUE
GROUP BY used.expert_id, used.consumer_id, l.reference, l.currency, l.rate
ORDER BY used.expert_id, used.consumer_id, l.reference
"""


@dataclass(frozen=True)
class _Line:
    expert_id: UUID
    consumer_id: UUID
    licence: str
    currency: str
    rate: Decimal
    requests: int
    tokens: Decimal
    amount: Decimal
    last_used_at: datetime


@dataclass(frozen=True)
class Figures:
    """What one expert did so far. `tokens` are those it accounts for, `amount` is unrounded.

    Where licences name several currencies, `amount` is in the one that earned most; a statement
    has them all.
    """

    expert: Expert
    requests: int
    tokens: int
    amount: Decimal
    currency: str
    last_used_at: datetime | None
    licence_ends_at: datetime | None


@dataclass(frozen=True)
class ConsumerFigures:
    """What one consumer used of an expert."""

    name: str
    requests: int
    tokens: int
    last_used_at: datetime


@dataclass(frozen=True)
class StatementLine:
    """One expert, one consumer, one licence; `amount` in `currency`, rounded to the cent."""

    expert: str
    consumer: str
    licence: str
    requests: int
    tokens: Decimal
    rate_per_million_tokens: Decimal
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class Statement:
    """An owner's account of one period; `totals` by currency are the sums of the lines shown."""

    owner: DataOwner
    from_at: datetime
    until_at: datetime
    lines: tuple[StatementLine, ...]
    totals: dict[str, Decimal]


def owner_experts(owners: Iterable[DataOwner], *, at: datetime) -> list[Figures]:
    """Every expert of these owners with state, use and money so far, by name."""
    experts = _with_ends(at).filter(owner__in=list(owners)).select_related("owner", "corpus")
    return _figures(list(experts), at)


def expert_figures(expert: Expert, *, at: datetime) -> Figures:
    """Use and money of one expert so far."""
    return _figures([_with_ends(at).select_related("owner", "corpus").get(pk=expert.pk)], at)[0]


def consumers_of(expert: Expert, *, at: datetime) -> list[ConsumerFigures]:
    """Who used an expert so far, most first."""
    by_consumer: dict[UUID, list[_Line]] = {}
    for line in _lines([expert.pk], _BEGINNING, at):
        by_consumer.setdefault(line.consumer_id, []).append(line)
    names = _consumer_names(by_consumer)
    rows = [
        ConsumerFigures(
            name=names[consumer_id],
            requests=sum(line.requests for line in lines),
            tokens=round(sum(line.tokens for line in lines)),
            last_used_at=max(line.last_used_at for line in lines),
        )
        for consumer_id, lines in by_consumer.items()
    ]
    return sorted(rows, key=lambda row: (-row.tokens, row.name))


def statement(owner: DataOwner, *, from_at: datetime, until_at: datetime) -> Statement:
    """The account of answers closed in [`from_at`, `until_at`)."""
    names = dict(Expert.objects.filter(owner=owner).values_list("pk", "name"))
    found = _lines(list(names), from_at, until_at)
    consumers = _consumer_names(line.consumer_id for line in found)
    lines = tuple(
        StatementLine(
            expert=names[line.expert_id],
            consumer=consumers[line.consumer_id],
            licence=line.licence,
            requests=line.requests,
            tokens=line.tokens,
            rate_per_million_tokens=line.rate,
            amount=line.amount.quantize(CENT),
            currency=line.currency,
        )
        for line in found
    )
    totals: dict[str, Decimal] = {}
    for line in lines:
        if line.currency:
            totals[line.currency] = totals.get(line.currency, Decimal(0)) + line.amount
    return Statement(owner, from_at, until_at, lines, totals)


def _lines(experts: Sequence[UUID], from_at: datetime, until_at: datetime) -> list[_Line]:
    if not experts:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_LINES, [list(experts), from_at, until_at])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [
        _Line(
            expert_id,
            consumer_id,
            licence or "",
            currency or "",
            Decimal(0) if rate is None else rate,
            *rest,
        )
        for expert_id, consumer_id, licence, currency, rate, *rest in rows
    ]


def _with_ends(at: datetime) -> Any:
    """Experts with `licence_ends_at`: the latest end among licences in force, None if open."""
    ends = (
        Licence.objects.in_force(at)
        .filter(corpus=OuterRef("corpus"))
        .order_by(F("ends_at").desc(nulls_first=True))
        .values("ends_at")[:1]
    )
    return Expert.objects.annotate(licence_ends_at=Subquery(ends))


def _figures(experts: list[Any], at: datetime) -> list[Figures]:
    by_expert: dict[UUID, list[_Line]] = {expert.pk: [] for expert in experts}
    for line in _lines([expert.pk for expert in experts], _BEGINNING, at):
        by_expert[line.expert_id].append(line)
    return [_summed(expert, by_expert[expert.pk]) for expert in experts]


def _summed(expert: Any, lines: list[_Line]) -> Figures:
    amounts: dict[str, Decimal] = {}
    for line in lines:
        if line.currency:
            amounts[line.currency] = amounts.get(line.currency, Decimal(0)) + line.amount
    currency = max(amounts, key=lambda code: amounts[code], default="EUR")
    return Figures(
        expert=expert,
        requests=sum(line.requests for line in lines),
        tokens=round(sum((line.tokens for line in lines), Decimal(0))),
        amount=amounts.get(currency, Decimal(0)),
        currency=currency,
        last_used_at=max((line.last_used_at for line in lines), default=None),
        licence_ends_at=expert.licence_ends_at,
    )


def _consumer_names(ids: Iterable[UUID]) -> dict[UUID, str]:
    return dict(Consumer.objects.filter(pk__in=set(ids)).values_list("pk", "name"))
