"""Templates: terms to start from. A few are built in, staff saves others in versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from django.db import transaction

from governance.canonical import plain
from governance.errors import InvalidTerms
from governance.log import events
from governance.models import Account, LicenceTemplate
from governance.services import terms as terms_of
from governance.services.terms import Terms
from governance.vocabulary import (
    DutyAction,
    EventTag,
    PaymentType,
    Purpose,
    QuotaPeriod,
    RecipientClass,
    Sector,
    TerritoryGroup,
    Use,
)

NEVER_IN_A_TEMPLATE = ("starts_at", "ends_at", "expert_digest", "clauses", "contract_digest")
"""What belongs to one licence alone: its period, its revision, its paper."""
_TEMPLATED = tuple(one.name for one in fields(Terms) if one.name not in NEVER_IN_A_TEMPLATE)


@dataclass(frozen=True)
class Template:
    """Terms to start from; version 0 is built in."""

    name: str
    title: str
    description: str
    terms: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


_NO_COPIES = [Use.DISTIL, Use.FINE_TUNE, Use.REDISTRIBUTE]
BUILT_IN = (
    Template(
        "research-eu",
        "Research only, European Union",
        "Academic and industrial research by anyone in the Union; no copies of the expert.",
        {
            "uses": [Use.TRAIN, Use.ANSWER],
            "prohibited_uses": _NO_COPIES,
            "purposes": [Purpose.RESEARCH],
            "prohibited_purposes": [Purpose.COMMERCIAL],
            "territories": [TerritoryGroup.EU],
            "payment_type": PaymentType.FREE,
            "max_extraction_rate": 0.01,
            "notice_days": 30,
        },
    ),
    Template(
        "education",
        "Education",
        "Teaching and examination by schools and universities, with the source named.",
        {
            "uses": [Use.TRAIN, Use.ANSWER],
            "prohibited_uses": _NO_COPIES,
            "purposes": [Purpose.EDUCATION],
            "prohibited_purposes": [Purpose.ADVERTISING],
            "recipient_classes": [RecipientClass.EDUCATION],
            "sectors": [Sector.P],
            "payment_type": PaymentType.ATTRIBUTION,
            "requires_attribution": True,
            "attribution_text": "With texts of the data owner",
            "notice_days": 90,
        },
    ),
    Template(
        "commercial-royalties",
        "Commercial, with royalties",
        "Business use by commercial organisations, paid by what the expert accounts for.",
        {
            "uses": [Use.TRAIN, Use.ANSWER, Use.QUANTISE],
            "prohibited_uses": _NO_COPIES,
            "purposes": [Purpose.COMMERCIAL],
            "prohibited_purposes": [Purpose.ADVERTISING],
            "recipient_classes": [RecipientClass.COMMERCIAL],
            "payment_type": PaymentType.USE,
            "rate_per_million_tokens": 40,
            "minimum_per_period": 500,
            "duties": [
                {
                    "action": DutyAction.COMPENSATE,
                    "within_days": 30,
                    "about": "use in each calendar month",
                },
                {
                    "action": DutyAction.INFORM,
                    "within_days": 14,
                    "about": "every audit of the expert",
                },
            ],
            "notice_days": 90,
            "wind_down_days": 30,
            "survival": "Payment for past use",
        },
    ),
    Template(
        "evaluation",
        "Evaluation only",
        "Benchmarks and safety tests within a small quota, before a full licence.",
        {
            "uses": [Use.TRAIN, Use.ANSWER],
            "prohibited_uses": [*_NO_COPIES, Use.QUANTISE],
            "purposes": [Purpose.EVALUATION],
            "prohibited_purposes": [Purpose.COMMERCIAL],
            "max_tokens": 1_000_000,
            "max_answers": 1_000,
            "quota_period": QuotaPeriod.TERM,
            "payment_type": PaymentType.FREE,
            "duties": [
                {
                    "action": DutyAction.DELETE,
                    "within_days": 30,
                    "about": "evaluation outputs after the end",
                }
            ],
            "notice_days": 0,
        },
    ),
    Template(
        "news-exclusive",
        "Exclusive news",
        "One news licence at a time, for customer products, with attribution and royalties.",
        {
            "uses": [Use.TRAIN, Use.ANSWER],
            "prohibited_uses": _NO_COPIES,
            "purposes": [Purpose.CUSTOMER_PRODUCT, Purpose.INTERNAL_BUSINESS],
            "prohibited_purposes": [Purpose.ADVERTISING],
            "recipient_classes": [RecipientClass.COMMERCIAL],
            "is_exclusive": True,
            "max_extraction_rate": 0.005,
            "payment_type": PaymentType.USE,
            "rate_per_million_tokens": 120,
            "minimum_per_period": 2_000,
            "requires_attribution": True,
            "attribution_text": "With reporting of the data owner",
            "duties": [
                {
                    "action": DutyAction.ATTRIBUTE,
                    "within_days": 0,
                    "about": "each answer its reporting contributed to",
                },
                {
                    "action": DutyAction.COMPENSATE,
                    "within_days": 30,
                    "about": "use in each calendar month",
                },
            ],
            "notice_days": 180,
            "wind_down_days": 30,
            "survival": "Payment for past use, and attribution of answers already given",
        },
    ),
)


def templates() -> list[Template]:
    """The newest version of every template by title; a saved one replaces a built-in name."""
    saved = {row.name: row for row in LicenceTemplate.objects.order_by("version")}
    found = {one.name: one for one in BUILT_IN}
    for row in saved.values():
        found[row.name] = Template(row.name, row.title, row.description, row.terms, row.version)
    return sorted(found.values(), key=lambda one: one.title)


def template(name: str) -> Template | None:
    """The newest version of one template."""
    return next((one for one in templates() if one.name == name), None)


@transaction.atomic
def save_template(
    name: str, *, title: str, terms: Terms, description: str = "", by: Account, at: datetime
) -> LicenceTemplate:
    """Keep terms to start from, as the next version of `name`. What is one licence's own is left
    out (`NEVER_IN_A_TEMPLATE`).

    Raises:
        InvalidTerms: terms that do not hold together, or no title.
    """
    if not title.strip() or not name:
        raise InvalidTerms(
            "expected a name and a title, found one of them empty. Fill in both.",
            fields={"title": "Expected a title, found none. Say what it is for."},
        )
    terms_of.check(terms)
    # Two who save at once would take the same version; the first row of a name is their lock.
    former = list(LicenceTemplate.objects.select_for_update().filter(name=name))
    columns = terms_of.columns(terms)
    saved = LicenceTemplate.objects.create(
        name=name,
        version=1 + max((one.version for one in former), default=0),
        title=title.strip(),
        description=description.strip(),
        terms=plain({key: columns[key] for key in _TEMPLATED}),
        saved_by=by,
        saved_at=at,
    )
    events.stage(
        EventTag.LICENCE_TEMPLATE_SAVED,
        subject=f"licence_template:{name}",
        by=by,
        at=at,
        details={"version": saved.version, "title": saved.title},
    )
    return saved
