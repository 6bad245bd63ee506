"""Recompute a statement from its exported rows, without the party that issued it.

    python reclaim_statement.py rows.jsonl [statement.json]
    python reclaim_statement.py rows.csv [statement.json]

Needs Python 3.11 or later and nothing else. It prints each line and the totals. With the statement
it compares every line, the totals and the digests, says OK or FAILED of each, and ends with 0 only
if all hold. What it cannot know: whether a row is missing or never was written; rows carry the
identities of answers, so that two owners, or a consumer, can compare.
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any

Key = tuple[str, str]
"""Licence and expert; the expert is empty on the line a minimum adds."""


def lines_of(rows: Iterable[Mapping[str, Any]]) -> dict[Key, dict[str, Any]]:
    """The statement's lines, from rows alone."""
    tokens: dict[Key, Decimal] = {}
    answers: dict[Key, int] = {}
    terms: dict[str, tuple[Decimal, Decimal, str]] = {}
    for row in rows:
        rate, minimum = Decimal(row["rate_per_million_tokens"]), Decimal(row["minimum_per_month"])
        terms[row["licence"]] = (rate, minimum, row["currency"])
        if row["usage"]:
            key = (row["licence"], row["expert"])
            tokens[key] = tokens.get(key, Decimal(0)) + attributed(row)
            answers[key] = answers.get(key, 0) + 1
    lines: dict[Key, dict[str, Any]] = {}
    for (licence, expert), found in sorted(tokens.items()):
        rate, _, currency = terms[licence]
        lines[licence, expert] = {
            "answers": answers[licence, expert],
            "attributed_tokens": found,
            "amount": (found * rate / 1_000_000).quantize(Decimal("0.01"), ROUND_HALF_UP),
            "currency": currency,
        }
    for licence, (_, minimum, currency) in sorted(terms.items()):
        own = (line["amount"] for key, line in lines.items() if key[0] == licence)
        earned = sum(own, Decimal(0))
        if minimum > earned:
            lines[licence, ""] = {
                "answers": 0,
                "attributed_tokens": Decimal(0),
                "amount": minimum - earned,
                "currency": currency,
            }
    return lines


def attributed(row: Mapping[str, Any]) -> Decimal:
    """The tokens of an answer that the expert accounts for, to six decimals."""
    total = Decimal(row["mass_total"])
    if not total:
        return Decimal(0)
    tokens = int(row["prompt_tokens"]) + int(row["completion_tokens"])
    share = tokens * Decimal(row["mass"]) / total
    return share.quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def totals_of(lines: Mapping[Key, Mapping[str, Any]]) -> dict[str, Decimal]:
    """The sums by currency."""
    totals: dict[str, Decimal] = {}
    for line in lines.values():
        totals[line["currency"]] = totals.get(line["currency"], Decimal(0)) + line["amount"]
    return totals


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an export, CSV or JSON lines."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def problems(
    statement: Mapping[str, Any], lines: Mapping[Key, Mapping[str, Any]], digest: str | None
) -> list[str]:
    """Where a statement says something else than its rows; `digest` is that of the JSON lines."""
    body = statement["body"]
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    found = []
    if hashlib.sha256(canonical.encode()).hexdigest() != statement["digest"]:
        found.append("the digest is not that of the statement")
    if digest is not None and digest != body["rows_digest"]:
        found.append("the digest of the rows is not the one in the statement")
    said = {(line["licence"], line["expert"]): line for line in body["lines"]}
    for key in sorted({*said, *lines}):
        name = " ".join(filter(None, key))
        if key not in said or key not in lines:
            found.append(f"{name}: only in the {'rows' if key in lines else 'statement'}")
            continue
        for column, computed in lines[key].items():
            stated = said[key][column]
            same = stated == computed if isinstance(computed, str) else Decimal(stated) == computed
            if not same:
                found.append(f"{name}: {column} is {stated}, the rows say {computed}")
    if {name: Decimal(one) for name, one in body["totals"].items()} != totals_of(lines):
        found.append(f"totals are {body['totals']}, the rows say {totals_of(lines)}")
    return found


def main(argv: list[str]) -> int:
    """Print, compare, and say whether all holds."""
    if len(argv) not in (1, 2):
        sys.stderr.write(__doc__ or "")
        return 2
    path = Path(argv[0])
    with localcontext() as context:
        context.prec = 50
        lines = lines_of(read(path))
        for (licence, expert), line in lines.items():
            name = f"{expert} under {licence}" if expert else f"minimum of {licence}"
            tokens, money = f"{line['attributed_tokens']:f}", f"{line['amount']:f}"
            print(f"{name}: {line['answers']} answers, {tokens} tokens, {money} {line['currency']}")
        for currency, total in totals_of(lines).items():
            print(f"total {total:f} {currency}")
        if len(argv) == 1:
            return 0
        digest = None if path.suffix == ".csv" else hashlib.sha256(path.read_bytes()).hexdigest()
        found = problems(json.loads(Path(argv[1]).read_text("utf-8")), lines, digest)
    for problem in found:
        print(f"FAILED {problem}")
    if not found:
        print("OK the statement is what its rows say")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
