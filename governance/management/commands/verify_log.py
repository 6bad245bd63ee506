"""Check the event log and say which events were touched; exit code 1 if any were."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from governance.log import sequencer
from governance.log.verify import LogReport, verify


class Command(BaseCommand):
    """`python manage.py verify_log [--json]`."""

    help = "Check the whole event log: nothing edited, removed, inserted, swapped or cut off."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options of this command."""
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the report.

        Raises:
            CommandError: something is wrong with the log (exit code 1).
        """
        del args
        log = sequencer.configured()
        report = verify(log.origin, log.signer.verifier, log.tiles)
        if options["json"]:
            self.stdout.write(json.dumps(report.to_json(), indent=1))
        else:
            self._tell(report)
        if not report.is_sound:
            raise CommandError(
                f"expected an untouched log, found {len(report.problems)} problems; keep the "
                "database and the tile folder as they are and find out who changed them"
            )

    def _tell(self, report: LogReport) -> None:
        for problem in report.problems:
            place = "" if problem.seq is None else f" event {problem.seq}"
            self.stdout.write(f"{problem.trouble.upper()}{place}: {problem.message}")
        sound = "sound" if report.is_sound else "NOT SOUND"
        self.stdout.write(
            f"{report.origin}: {sound}; {report.size} events under {report.heads} signed heads, "
            f"{report.waiting} waiting to be sealed; root {report.root or 'of an empty log'}"
        )
