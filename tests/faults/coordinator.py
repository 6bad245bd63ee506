"""`python -m tests.faults.coordinator FILE`: settles withdrawals one after another, until killed.

The wait is the product's own. FILE is there once it has seen the database.
"""

from __future__ import annotations

# ruff: noqa: E402 - models can be imported only after Django is set up
import sys
import time
from pathlib import Path

from worker import boot

boot.boot()
boot.bound_database_waits(2)

from django.db import Error, connection

from governance.models import Withdrawal
from worker.tasks import enforcement


def main() -> None:
    """Never returns."""
    seen = Path(sys.argv[1])
    while True:
        try:
            waiting = list(Withdrawal.objects.filter(quiesced_at=None))
            seen.touch()
            for withdrawal in waiting:
                enforcement.settle(withdrawal, lambda: None)
        except Error:
            connection.close_if_unusable_or_obsolete()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
