"""The highest policy epoch a runner was ever granted, kept on disk where no database can forget it.

A runner that runs notices by itself when policy goes backwards. One that starts has seen nothing,
and a database restored from a backup would give it back what was withdrawn since.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class SeenEpoch:
    """One runner's memory, across its incarnations. `epoch` 0: nothing was seen yet."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.epoch = self._read()

    def _read(self) -> int:
        try:
            return int(self.file.read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            log.warning(
                "expected a policy epoch in %s, found: %s. Remembered anew", self.file, error
            )
            return 0

    def note(self, policy_epoch: int) -> None:
        """Remember `policy_epoch` if it is higher; a disk that refuses is only logged."""
        if policy_epoch <= self.epoch:
            return
        self.epoch = policy_epoch
        fresh = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            fresh.write_text(f"{policy_epoch}\n")
            fresh.replace(self.file)
        except OSError as error:
            log.warning("policy epoch %d cannot be kept in %s: %s", policy_epoch, self.file, error)
