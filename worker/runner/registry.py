"""One incarnation's row in PostgreSQL: its lease, and what the runner says about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from governance.errors import StalePolicy
from governance.log import sequencer
from governance.models import Build, RunnerLease
from governance.services import leases
from modelops.contract import ExpertRef


@contextmanager
def kept_connection() -> Iterator[None]:
    """Use this thread's connection, and throw it away where a failure left it unusable.

    Django does this between web requests; a thread that lives as long as its process has none.
    """
    try:
        yield
    except Exception:
        connection.close_if_unusable_or_obsolete()
        raise


class DatabaseRegistry:
    """`lease.Registry` for one life of one runner."""

    def __init__(self, incarnation: UUID, *, runner: str, lease_s: float) -> None:
        self.incarnation = incarnation
        self.runner = runner
        self._lease_s = lease_s
        self._started_at: datetime = timezone.now()
        self._history = ""
        self._digest = ""
        self._is_compared = False

    def renew(self, applied_epoch: int) -> leases.Renewal:
        """See `governance.services.leases.renew` (R2).

        Raises:
            StalePolicy: the server is in another history than the one that granted the last lease.
            LogIntegrityError: it is behind what this machine has published of the log.
        """
        with kept_connection():
            if not self._is_compared:
                sequencer.check_published()
                self._is_compared = True
            renewal = leases.renew(
                self.incarnation,
                runner=self.runner,
                applied_epoch=applied_epoch,
                applied_digest=self._digest,
                lease_s=self._lease_s,
                started_at=self._started_at,
                at=timezone.now(),
            )
        self._follow(renewal.history)
        self._digest = renewal.digest
        return renewal

    def _follow(self, history: str) -> None:
        """Refuse the first grant of a new history, so that all that is held is dropped; and every
        one of a server whose timeline is an earlier one: another took its place."""
        before = self._history or history
        if history == before:
            self._history = history
            return
        (server, timeline), (former, latest) = history.split("/"), before.split("/")
        is_left_behind = server == former and timeline < latest
        if not is_left_behind:
            self._history, self._digest, self._is_compared = history, "", False
        raise StalePolicy(
            f"expected the server's history {before}, found {history}. Serve nothing: "
            + (
                "this server was replaced by another; stop it, and point DATABASE_URL at the other."
                if is_left_behind
                else "it failed over or was restored; this runner goes on with its next renewal."
            )
        )

    def ack(self, policy_epoch: int) -> None:
        """See `governance.services.leases.ack` (R4)."""
        with kept_connection():
            leases.ack(self.incarnation, policy_epoch=policy_epoch, at=timezone.now())

    def is_closed(self) -> bool:
        """Whether someone closed this incarnation: it can never renew again."""
        with kept_connection():
            rows = RunnerLease.objects.filter(pk=self.incarnation, closed_at__isnull=False)
            return rows.exists()

    def report(
        self, loaded: Sequence[ExpertRef], newest: Build | None, stats: Mapping[str, Any]
    ) -> None:
        """See `governance.services.leases.report`."""
        with kept_connection():
            leases.report(
                self.incarnation,
                loaded=[{"name": ref.name, "digest": ref.digest} for ref in loaded],
                loaded_build=newest,
                stats=stats,
            )

    def close(self) -> None:
        """End this incarnation. Only after nothing is generated any more."""
        with kept_connection():
            leases.close(self.incarnation, at=timezone.now())
