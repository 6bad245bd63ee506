"""Reads that span aggregates, for pages and reports. Nothing here writes.

The number of queries of each never depends on the number of rows; tests hold them to it.
"""

from governance.selectors.decisions import (
    Covered,
    WhyNot,
    in_force_on,
    licences_behind,
    recorded,
    why_not,
    why_not_in,
)
from governance.selectors.licences import as_of, in_force_as_of, versions_of
from governance.selectors.usage import (
    ConsumerFigures,
    Figures,
    Statement,
    StatementLine,
    consumers_of,
    expert_figures,
    owner_experts,
    statement,
)
from governance.selectors.withdrawals import WithdrawalProgress, withdrawal_progress
from governance.selectors.work import DueItem, RunnerLine, due_items, runners

__all__ = [
    "ConsumerFigures",
    "Covered",
    "DueItem",
    "Figures",
    "RunnerLine",
    "Statement",
    "StatementLine",
    "WhyNot",
    "WithdrawalProgress",
    "as_of",
    "consumers_of",
    "due_items",
    "expert_figures",
    "in_force_as_of",
    "in_force_on",
    "licences_behind",
    "owner_experts",
    "recorded",
    "runners",
    "statement",
    "versions_of",
    "why_not",
    "why_not_in",
    "withdrawal_progress",
]
