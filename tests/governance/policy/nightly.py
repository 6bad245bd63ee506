"""A million random cases against the plain evaluator and ten thousand against Cedar.

    python -m tests.governance.policy.nightly [--quick] [--json FILE]

The suite runs the first thousands of these at every change. Here each run of so many cases is
counted, and the seeds on which anybody disagrees are printed. Exit status 1 where there is one.
"""

from __future__ import annotations

import os
import time

import django

from bench.record import Record, options

STEP = 10_000


def main() -> int:
    """Run all, print, write the record."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
    django.setup()
    # The tests' factories stand on Django's models, which only now can be imported.
    from tests.governance.policy.test_cedar import agreements
    from tests.governance.policy.test_decide import disagreements

    wanted = options(__doc__ or "")
    cases, against_cedar = (20_000, 200) if wanted.quick else (1_000_000, 10_000)
    record = Record("agreement", {"cases": cases, "against_cedar": against_cedar}, wanted)
    begun_s, found = time.monotonic(), []
    for first in range(0, cases, STEP):
        found += disagreements(first, STEP)
        if first % (10 * STEP) == 0:
            print(f"{first + STEP} cases, {len(found)} disagreements {found[:5]}", flush=True)
    taken_s = time.monotonic() - begun_s
    record.row("the plain evaluator", cases=cases, disagreements=len(found), taken_s=taken_s)
    record.claim("policy.disagreements", len(found), "cases", "== 0")
    begun_s = time.monotonic()
    permitted = agreements(against_cedar, first=10_000_000)
    taken_s = time.monotonic() - begun_s
    record.row("cedarpy", cases=against_cedar, disagreements=0, taken_s=taken_s)
    record.claim("policy.cedarpy_cases", against_cedar, "cases")
    record.claim("policy.cedarpy_permitted", permitted, "experts", ">= 1")
    return record.finish()


if __name__ == "__main__":
    raise SystemExit(main())
