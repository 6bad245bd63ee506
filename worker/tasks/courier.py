"""How every task carries a follow-up: claim, one call, evidence; safe to repeat.

A claim lasts `CLAIM_S`, or less where a task says so, and is renewed from a thread of its own while
the act works. A worker that dies lets the claim run out, and another takes the follow-up up again.
One that loses its claim (it was paused too long, or someone called the follow-up off) stops.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self
from uuid import UUID, uuid4

from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from governance.errors import GovernanceError
from governance.models import FollowUp
from governance.services import followups
from modelops.errors import ModelopsError

log = logging.getLogger(__name__)

CLAIM_S = 30.0
RENEWALS = 6
"""How often a claim is renewed within its length."""

Evidence = Mapping[str, Any]


class Later(Exception):
    """The act has to wait for something; ask again after `delay_s`. Nobody's fault."""

    def __init__(self, what: str, delay_s: float) -> None:
        super().__init__(what)
        self.delay_s = delay_s


class ClaimLost(Exception):
    """The follow-up is another worker's now, or was called off; nothing may be written any more."""


class Hopeless(Exception):
    """Trying again cannot help."""


@dataclass
class Progress:
    """What an act last said about itself."""

    done: int = 0
    total: int = 0
    note: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


class Carrier:
    """A claimed follow-up in the hands of one run of one task."""

    def __init__(self, row: FollowUp, worker: str, claim_s: float = CLAIM_S) -> None:
        self.row = row
        self.worker = worker
        self._claim_s = claim_s
        self._progress = Progress()
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._sure_until_s = time.monotonic() + claim_s
        self._thread = threading.Thread(target=self._keep_claim, name="claim", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def report(
        self,
        done: int,
        total: int,
        note: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Say how far the act is; shown to people at the next renewal of the claim."""
        self._progress = Progress(done, total, note, dict(metrics or {}))

    def stopping(self) -> bool:
        """Whether the act must stop, because the claim is lost."""
        return self._lost.is_set() or time.monotonic() > self._sure_until_s

    def check(self) -> None:
        """Go on only while the claim holds.

        Raises:
            ClaimLost: it does not.
        """
        if self.stopping():
            raise ClaimLost(f"claim on {self.row.kind} {self.row.pk} lost")

    def _keep_claim(self) -> None:
        is_used = False
        while not self._ended.wait(self._claim_s / RENEWALS):
            is_used = True
            asked_s = time.monotonic()
            try:
                is_held = self._renew()
            except (DatabaseError, InterfaceError) as error:
                # The claim stands until it runs out; the act is stopped just before that.
                log.warning("claim on %s not renewed: %s", self.row.pk, error)
                connection.close_if_unusable_or_obsolete()
                continue
            if not is_held:
                self._lost.set()
                break
            self._sure_until_s = asked_s + self._claim_s
        if is_used:
            connection.close()

    def _renew(self) -> bool:
        told = self._progress
        return followups.renew(
            self.row.pk,
            worker=self.worker,
            for_s=self._claim_s,
            at=timezone.now(),
            done=told.done,
            total=told.total,
            note=told.note,
            metrics=told.metrics,
        )


def carry(
    follow_up_id: str, act: Callable[[Carrier], Evidence], *, claim_s: float = CLAIM_S
) -> bool:
    """Carry one follow-up: claim it, run `act` once, write down what came of it.

    Returns False where there was nothing to do: taken by another, done, or called off.
    """
    row_id = UUID(follow_up_id)
    # A name no other run ever has: two runs that shared one would both believe they hold the claim.
    worker = f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid4().hex[:12]}"
    row = followups.claim(row_id, worker=worker, for_s=claim_s, at=timezone.now())
    if row is None:
        return False
    with Carrier(row, worker, claim_s) as carrier:
        try:
            evidence = act(carrier)
            carrier.check()
        except ClaimLost as lost:
            log.warning("%s", lost)
            return False
        except Later as later:
            _postpone(row, worker, "", later.delay_s)
            return True
        except (GovernanceError, ModelopsError, Hopeless) as error:
            _give_up(row, worker, error)
            return True
        except Exception as error:  # the task's edge: whatever it was, the row must say so
            log.exception("%s %s failed, attempt %d", row.kind, row.pk, row.attempts)
            _postpone(row, worker, _said(error))
            return True
    followups.complete(row_id, worker=worker, evidence=evidence, at=timezone.now())
    return True


def _postpone(row: FollowUp, worker: str, error: str, delay_s: float | None = None) -> None:
    now = timezone.now()
    retry_at = followups.next_try(row.attempts, at=now)
    if delay_s is not None:
        retry_at = now + timedelta(seconds=delay_s)
    _write(lambda: followups.postpone(row.pk, worker=worker, error=error, retry_at=retry_at))


def _give_up(row: FollowUp, worker: str, error: Exception) -> None:
    log.error("%s %s cannot be done: %s", row.kind, row.pk, error)
    if row.max_attempts > 1_000:  # what a withdrawal needs is never given up
        _postpone(row, worker, _said(error))
        return
    now = timezone.now()
    _write(lambda: followups.fail(row.pk, worker=worker, error=_said(error), at=now))


def _write(write: Callable[[], object]) -> None:
    try:
        write()
    except (DatabaseError, InterfaceError) as error:
        # The claim runs out by itself and the follow-up is due again.
        log.warning("the outcome could not be written: %s", error)
        connection.close_if_unusable_or_obsolete()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
