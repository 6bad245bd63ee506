"""Publish policy anew, past every policy epoch that runners have seen: after a restore."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from governance.services import snapshots


class Command(BaseCommand):
    """`python manage.py publish_policy --past EPOCH --reason TEXT`."""

    help = "Publish the policy that the rows say now under an epoch higher than EPOCH."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--past` is the epoch that the runner's refusal names."""
        parser.add_argument("--past", type=int, default=0, metavar="EPOCH")
        parser.add_argument("--reason", required=True, metavar="TEXT")

    def handle(self, *args: Any, **options: Any) -> None:
        """Publish, and say under which epoch."""
        del args
        published = snapshots.publish(
            reason=options["reason"], past=options["past"], at=timezone.now()
        )
        self.stdout.write(f"published as {published}")
