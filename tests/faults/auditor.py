"""The independent auditor: rows and what readers got, against what the protocol promises.

It imports nothing of the project. It reads the database's rows as they are, and is told what
nobody but the outside can know: which word left when, and when no coordinator or no database ran.

    report = audit("postgresql://…", evidence)
    assert not report.complaints

`evidence` holds `lease_s`, `readers` (`order_id`, `released_at`: seconds since 1970),
`outages` (`what`, `from_at`, `until_at`) and `committed_at`, the instant the commit of each
expert's withdrawal was known: its row tells when the act began.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

CLOCKS, SLACK_S = 1.01, 0.25
"""A withdrawal is effective within the lease times the one, and the other."""

_WITHDRAWALS = """
SELECT expert.name AS expert, w.policy_epoch, w.quiesced_by,
       extract(epoch FROM w.committed_at)::float AS committed_at,
       extract(epoch FROM w.quiesced_at)::float AS effective_at
FROM governance_withdrawal w JOIN governance_expert expert ON expert.id = w.expert_id
ORDER BY w.committed_at
"""
_LEASES = """
SELECT incarnation, runner, gw_seq, closed_at,
       ARRAY(SELECT u.gw_seq FROM governance_usagerecord u
             WHERE u.incarnation_id = lease.incarnation ORDER BY u.gw_seq) AS rows
FROM governance_runnerlease lease
"""
_USAGE = """
SELECT u.order_id::text, u.allowed, u.recomputed_without, u.policy_epoch, u.finish_reason,
       u.completion_tokens, u.closed_at, lease.closed_at AS incarnation_closed_at,
       extract(epoch FROM u.closed_at)::float AS ended_at
FROM governance_usagerecord u
JOIN governance_runnerlease lease ON lease.incarnation = u.incarnation_id
"""
WELL = ("stop", "length", "recomputed")
LOST, LATE = "lost", "words left after it was effective"


@dataclass
class Report:
    """What was found. `worst_s` counts from where a coordinator and a database ran throughout."""

    withdrawals: int = 0
    by_expiry: int = 0
    words: int = 0
    incarnations: int = 0
    rows: int = 0
    worst_s: float = 0.0
    worst_held_up_s: float = 0.0
    complaints: list[str] = field(default_factory=list)


def audit(place: str, evidence: Mapping[str, Any], slack_s: float = SLACK_S) -> Report:
    """Read the rows at `place`, a libpq address, and hold them against `evidence`."""
    with _reading(place) as database:
        withdrawals, leases, usage = (
            database.execute(asked).fetchall() for asked in (_WITHDRAWALS, _LEASES, _USAGE)
        )
    readers = evidence["readers"]
    report = Report(
        withdrawals=len(withdrawals),
        by_expiry=sum(row["quiesced_by"] == "expiry" for row in withdrawals),
        words=sum(len(reader["released_at"]) for reader in readers),
        incarnations=len(leases),
        rows=len(usage),
    )
    report.complaints += [
        *_late_settlements(withdrawals, evidence, report, slack_s),
        *_late_words(withdrawals, usage, readers),
        *_gaps(leases),
        *_wrong_ends(withdrawals, usage),
        *_unaccounted(usage, readers),
    ]
    return report


def late_words(place: str, evidence: Mapping[str, Any]) -> list[str]:
    """Only whether something left late so far, while the world still runs."""
    with _reading(place) as database:
        withdrawals, usage = (
            database.execute(asked).fetchall() for asked in (_WITHDRAWALS, _USAGE)
        )
    return list(_late_words(withdrawals, usage, evidence["readers"]))


def _reading(place: str) -> psycopg.Connection[dict[str, Any]]:
    return psycopg.connect(place, options="-c reclaim.tenant=system", row_factory=dict_row)


def _late_settlements(
    withdrawals: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any],
    report: Report,
    slack_s: float,
) -> Iterator[str]:
    bound_s = CLOCKS * evidence["lease_s"] + slack_s
    for row in withdrawals:
        if row["effective_at"] is None:
            yield f"{row['expert']}: withdrawn and never effective"
            continue
        held_up = [
            outage["until_at"]
            for outage in evidence["outages"]
            if outage["from_at"] < row["effective_at"] and outage["until_at"] > row["committed_at"]
        ]
        committed_at = max(row["committed_at"], evidence["committed_at"].get(row["expert"], 0.0))
        taken_s = row["effective_at"] - max([committed_at, *held_up])
        if held_up:
            report.worst_held_up_s = max(report.worst_held_up_s, taken_s)
        else:
            report.worst_s = max(report.worst_s, taken_s)
        if taken_s > bound_s:
            yield f"{row['expert']}: effective {taken_s:.3f} s after, expected {bound_s:.3f} s"


def _late_words(
    withdrawals: Sequence[Mapping[str, Any]],
    usage: Sequence[Mapping[str, Any]],
    readers: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    effective = {row["expert"]: row["effective_at"] for row in withdrawals if row["effective_at"]}
    allowed = {row["order_id"]: row["allowed"] for row in usage}
    for reader in readers:
        for expert in effective.keys() & allowed.get(reader["order_id"], ()):
            late = [at - effective[expert] for at in reader["released_at"]]
            late = [by_s for by_s in late if by_s > 0]
            if late:
                yield (f"{expert}: {len(late)} {LATE}, the last by {max(late):.3f} s")


def _gaps(leases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for lease in leases:
        if lease["rows"] != list(range(1, lease["gw_seq"] + 1)):
            yield f"{lease['runner']} {lease['incarnation']}: rows {lease['rows']} have a gap"


def _wrong_ends(
    withdrawals: Sequence[Mapping[str, Any]], usage: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    fences = {row["expert"]: (row["policy_epoch"], row["effective_at"]) for row in withdrawals}
    for row in usage:
        if row["closed_at"] is None and row["incarnation_closed_at"] is None:
            yield f"order {row['order_id']}: neither its row nor its incarnation was closed"
        if row["closed_at"] is None or row["finish_reason"] not in WELL:
            continue
        for expert in set(row["allowed"]) - set(row["recomputed_without"]):
            epoch, effective_at = fences.get(expert, (0, None))
            is_older = effective_at is not None and row["policy_epoch"] < epoch
            if is_older and row["ended_at"] > effective_at:
                yield f"order {row['order_id']}: ended well behind the fence of {expert}"


def _unaccounted(
    usage: Sequence[Mapping[str, Any]], readers: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    rows = {row["order_id"]: row for row in usage}
    for reader in readers:
        row, words = rows.get(reader["order_id"]), len(reader["released_at"])
        if row is None:
            if words:
                yield f"order {reader['order_id']}: {words} words and no row"
        elif row["closed_at"] and row["finish_reason"] != LOST and row["completion_tokens"] < words:
            yield (
                f"order {reader['order_id']}: {words} words, and {row['completion_tokens']} in "
                "its row"
            )
