"""Seal what is staged and bring the published files up to date."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from governance.log import checkpoint, sequencer


class Command(BaseCommand):
    """`python manage.py seal_log`."""

    help = "Seal every staged event, publish tiles and checkpoint, and print the log's public key."

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal, publish, and say how much."""
        del args, options
        log = sequencer.configured()
        sealed = sequencer.seal_now(timezone.now(), log=log)
        sequencer.publish(log)
        self.stdout.write(f"{sealed} events sealed; the log has {log.tiles.size()}")
        self.stdout.write(checkpoint.published_key(log.origin, log.signer.verifier))
