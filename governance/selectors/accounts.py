"""Monthly accounts: which answers used an owner's experts, and what they earned, in decimals.

The unit. An answer's *attributed tokens* for an expert are its prompt and completion tokens times
the expert's share of the router weight that all experts, `public` included, received in it, summed
over layers and over all its tokens, prompt tokens included: the engine does not yet count those
apart. Router weight is a unit of account; it is not influence, and no statement says it is.

The rounding. Attributed tokens of one answer are rounded to six decimals, half to even. The amount
of a line is the sum of its attributed tokens times the rate over a million, rounded to two
decimals, half up. A licence's minimum is due for every calendar month in UTC in which it was in
force at any time: what its lines lack of it is a line of its own. The total is the sum of lines.

A row counts in the month in which its answer was closed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from django.db import connection
from django.db.models import Q

from governance.models import DataOwner, Licence
from governance.vocabulary import LicenceState

MILLION = Decimal(1_000_000)
CENT, MICRO = Decimal("0.01"), Decimal("0.000001")
EXACT = Context(prec=50)

MIN_GROUP = 3
"""Consumers a group needs before an owner is told what it used."""

UNIT = (
    "Attributed tokens: prompt and completion tokens of an answer times the expert's share of the "
    "router weight summed over layers and tokens (prompt tokens included), rounded to six decimals "
    "half to even. Router weight is a unit of account, not a measure of influence."
)
ROUNDING = (
    "Amount of a line: attributed tokens times rate over a million, two decimals half up. Minimum: "
    "per licence and calendar month (UTC) in which it was in force. Total: sum of the lines."
)


@dataclass(frozen=True)
class Row:
    """One answer and one expert of the owner, as exported; numbers as text, exactly.

    A licence that answered nothing has one row without `usage`, so that its minimum can be seen.
    """

    usage: str
    closed_at: str
    expert: str
    licence: str
    purpose: str
    prompt_tokens: int
    completion_tokens: int
    mass: str
    mass_total: str
    rate_per_million_tokens: str
    minimum_per_month: str
    currency: str

    @property
    def attributed(self) -> Decimal:
        """The tokens of the answer that the expert accounts for."""
        total = Decimal(self.mass_total)
        if not total:
            return Decimal(0)
        tokens = Decimal(self.prompt_tokens + self.completion_tokens)
        exact = EXACT.divide(EXACT.multiply(tokens, Decimal(self.mass)), total)
        return exact.quantize(MICRO, ROUND_HALF_EVEN)


@dataclass(frozen=True)
class Line:
    """One expert under one licence, or, with `expert` empty, what a licence's minimum adds."""

    expert: str
    licence: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    attributed_tokens: Decimal
    rate_per_million_tokens: Decimal
    amount: Decimal
    currency: str


@dataclass(frozen=True)
class Group:
    """What the consumers of one or more sectors used; never fewer than `MIN_GROUP` of them."""

    sectors: tuple[str, ...]
    consumers: int
    answers: int
    attributed_tokens: Decimal


@dataclass(frozen=True)
class Account:
    """An owner's account of one month."""

    owner: DataOwner
    month: date
    lines: tuple[Line, ...]
    totals: Mapping[str, Decimal]
    groups: tuple[Group, ...]
    row_count: int
    rows_digest: str


# Rows written before licences were named on them fall back on the licence approved last that
# covers purpose and consumer.
_ROWS = """
SELECT u.id, u.closed_at, e.name, l.reference, u.purpose, u.prompt_tokens, u.completion_tokens,
       u.mass ->> e.name, m.total, l.rate_per_million_tokens, l.minimum_per_period, l.currency,
       c.id, c.sector
FROM governance_usagerecord u
JOIN governance_expert e ON u.allowed @> ARRAY[e.name]::varchar[] AND u.mass ? e.name
JOIN governance_consumer c ON c.id = u.consumer_id
CROSS JOIN LATERAL (
    SELECT SUM(value::numeric) AS total FROM jsonb_each_text(u.mass)
) m
JOIN LATERAL (
    SELECT reference, rate_per_million_tokens, minimum_per_period, currency
    FROM governance_licence
    WHERE corpus_id = e.corpus_id AND CASE WHEN u.licences ? e.name
        THEN reference = u.licences ->> e.name
        ELSE state = 'approved' AND starts_at <= u.opened_at
             AND (ends_at IS NULL OR ends_at > u.opened_at)
             AND (stops_at IS NULL OR stops_at > u.opened_at)
             AND u.purpose = ANY(purposes)
             AND (consumers IS NULL OR c.slug = ANY(consumers))
             AND NOT c.slug = ANY(excluded_consumers)
        END
    ORDER BY decided_at DESC, reference
    LIMIT 1
) l ON TRUE
WHERE e.owner_id = %s AND u.closed_at >= %s AND u.closed_at < %s
ORDER BY u.closed_at, u.id, e.name
"""


def bounds(month: date) -> tuple[datetime, datetime]:
    """The instants at which a month begins and ends, in UTC."""
    begin = datetime(month.year, month.month, 1, tzinfo=UTC)
    return begin, (begin + timedelta(days=32)).replace(day=1)


def rows_of(owner: DataOwner, month: date) -> Iterator[Row]:
    """The rows an account is made from, in a fixed order: by instant, answer and expert."""
    return (row for row, _, _ in _rows(owner, month))


def json_line(row: Row) -> str:
    """A row as exported: one canonical JSON object. `rows_digest` is over these, line by line."""
    return json.dumps(asdict(row), sort_keys=True, separators=(",", ":")) + "\n"


def account_of(owner: DataOwner, month: date) -> Account:
    """The account of a month, from the rows as they are now."""
    sums: dict[tuple[str, str], _Sum] = {}
    by_sector: dict[str, _Sum] = {}
    digest, count = hashlib.sha256(), 0
    for row, consumer_id, sector in _rows(owner, month):
        digest.update(json_line(row).encode())
        count += 1
        if row.usage:
            sums.setdefault((row.licence, row.expert), _Sum(row)).add(row, consumer_id)
            by_sector.setdefault(sector or "unknown", _Sum(row)).add(row, consumer_id)
    lines = [_line(found) for _, found in sorted(sums.items())]
    lines += _minima(_in_month(owner, month), lines)
    totals: dict[str, Decimal] = {}
    for one in lines:
        totals[one.currency] = totals.get(one.currency, Decimal(0)) + one.amount
    groups = _groups(by_sector)
    return Account(owner, month, tuple(lines), totals, groups, count, digest.hexdigest())


@dataclass
class _Sum:
    """What some rows come to; `first` stands for what they share."""

    first: Row
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attributed: Decimal = Decimal(0)
    consumers: set[object] = field(default_factory=set)

    def add(self, row: Row, consumer_id: object) -> None:
        self.answers += 1
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.attributed += row.attributed
        self.consumers.add(consumer_id)


def _rows(owner: DataOwner, month: date) -> Iterator[tuple[Row, object, str]]:
    """Every row with its consumer and the consumer's sector, which are not exported."""
    minima = {one.reference: one for one in _in_month(owner, month)}
    seen = set()
    for row, consumer_id, sector in _used(owner, month):
        seen.add(row.licence)
        kept = row if row.licence in minima else replace(row, minimum_per_month="0")
        yield kept, consumer_id, sector
    for reference, licence in minima.items():
        if reference not in seen and licence.minimum_per_period:
            yield _idle(licence), None, ""


def _used(owner: DataOwner, month: date) -> Iterator[tuple[Row, object, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, [owner.pk, *bounds(month)])
        while found := cursor.fetchmany(2_000):
            for identity, closed_at, *texts, rate, minimum, currency, consumer, sector in found:
                expert, licence, purpose, prompt, completion, mass, total = texts
                yield (
                    Row(
                        usage=str(identity),
                        closed_at=closed_at.astimezone(UTC).isoformat(),
                        expert=expert,
                        licence=licence,
                        purpose=purpose,
                        prompt_tokens=prompt,
                        completion_tokens=completion,
                        mass=_text(Decimal(mass)),
                        mass_total=_text(total),
                        rate_per_million_tokens=_text(rate),
                        minimum_per_month=_text(minimum),
                        currency=currency,
                    ),
                    consumer,
                    sector,
                )


def _text(number: Decimal) -> str:
    """A decimal in plain digits, never with an exponent."""
    return f"{number:f}"


def _in_month(owner: DataOwner, month: date) -> list[Licence]:
    """Approved licences of the owner in force at any time in the month."""
    begin, end = bounds(month)
    found = Licence.objects.filter(
        Q(ends_at=None) | Q(ends_at__gt=begin),
        Q(stops_at=None) | Q(stops_at__gt=begin),
        corpus__owner=owner,
        state=LicenceState.APPROVED,
        starts_at__lt=end,
        decided_at__lt=end,
    )
    return list(found.order_by("reference"))


def _idle(licence: Licence) -> Row:
    return Row(
        usage="",
        closed_at="",
        expert="",
        licence=licence.reference,
        purpose="",
        prompt_tokens=0,
        completion_tokens=0,
        mass="0",
        mass_total="0",
        rate_per_million_tokens=_text(licence.rate_per_million_tokens),
        minimum_per_month=_text(licence.minimum_per_period),
        currency=licence.currency,
    )


def _line(found: _Sum) -> Line:
    rate = Decimal(found.first.rate_per_million_tokens)
    earned = EXACT.divide(EXACT.multiply(found.attributed, rate), MILLION)
    return Line(
        expert=found.first.expert,
        licence=found.first.licence,
        answers=found.answers,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        attributed_tokens=found.attributed,
        rate_per_million_tokens=rate,
        amount=earned.quantize(CENT, ROUND_HALF_UP),
        currency=found.first.currency,
    )


def _minima(licences: Sequence[Licence], lines: Sequence[Line]) -> list[Line]:
    earned: dict[str, Decimal] = {}
    for line in lines:
        earned[line.licence] = earned.get(line.licence, Decimal(0)) + line.amount
    return [
        Line("", one.reference, 0, 0, 0, Decimal(0), Decimal(0), lacking, one.currency)
        for one in licences
        if (lacking := one.minimum_per_period - earned.get(one.reference, Decimal(0))) > 0
    ]


def _groups(by_sector: Mapping[str, _Sum]) -> tuple[Group, ...]:
    """Sectors large enough by themselves, and the others together if they are; else nothing.

    Where the others together are still too few, the smallest large one joins them, so that nobody
    can be found by subtracting.
    """
    by_size = sorted(by_sector.items(), key=lambda item: (len(item[1].consumers), item[0]))
    small = [item for item in by_size if len(item[1].consumers) < MIN_GROUP]
    large = by_size[len(small) :]
    if small and large and _together(small) < MIN_GROUP:
        small.append(large.pop(0))
    found = [_group([item]) for item in reversed(large)]
    return (*found, *([_group(small)] if small and _together(small) >= MIN_GROUP else []))


def _together(items: Sequence[tuple[str, _Sum]]) -> int:
    return len(set().union(*(found.consumers for _, found in items)))


def _group(items: Sequence[tuple[str, _Sum]]) -> Group:
    return Group(
        sectors=tuple(sorted(sector for sector, _ in items)),
        consumers=_together(items),
        answers=sum(found.answers for _, found in items),
        attributed_tokens=sum((found.attributed for _, found in items), Decimal(0)),
    )
