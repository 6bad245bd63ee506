"""`python -m worker.relay`: find due follow-ups and send each to the task that carries it.

Woken by NOTIFY, and by the clock at least every second. The broker may be gone: a withdrawal does
not wait for it, the relay then carries the enforcing follow-ups itself.
"""

from __future__ import annotations

# ruff: noqa: E402 - models can be imported only after Django is set up
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from worker import boot

boot.boot()

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from governance.models import FollowUp
from governance.services import followups
from governance.services.locks import Channel
from governance.vocabulary import FollowUpKind, FollowUpState
from worker.celery import ERRANDS, app
from worker.listening import Listener

log = logging.getLogger(__name__)

POLL_S = 1.0
BATCH = 100
INLINE_KINDS = (FollowUpKind.QUIESCE, FollowUpKind.CERTIFY)
"""Light and urgent: carried here when the broker cannot be reached, or nobody takes them."""

PATIENCE_S = 2.0
"""How long one of those may lie in the queue unclaimed."""

Send = Callable[[FollowUp], None]


def send(row: FollowUp) -> None:
    """Hand `row` to its queue.

    Raises:
        BrokerError, RedisError, OSError: the broker cannot be reached.
    """
    errand = ERRANDS[FollowUpKind(row.kind)]
    app.send_task(
        errand.task,
        args=[str(row.pk)],
        queue=errand.queue.value,
        # After this the row is sent again; a message that waited longer would be the second.
        expires=followups.RESEND_S,
        retry=False,
    )


def inline_tasks() -> Mapping[FollowUpKind, Callable[[str], Any]]:
    """The enforcing tasks as plain functions; imports no torch."""
    from worker.tasks import enforcement

    return {
        FollowUpKind.QUIESCE: enforcement.quiesce.run,
        FollowUpKind.CERTIFY: enforcement.certify.run,
    }


class Relay:
    """Sends what is due until stopped."""

    def __init__(self, send: Send = send) -> None:
        self._send = send
        self._carrying: set[UUID] = set()
        self._rung = threading.Event()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask `run` to end; callable from a signal handler."""
        self._stopping.set()
        self._rung.set()

    def ring(self) -> None:
        """Look now."""
        self._rung.set()

    def run(self) -> None:
        """Look for due follow-ups when rung and every second, until stopped."""
        listener = Listener(Channel.FOLLOW_UP.value, self.ring).start()
        was_cut_off = False
        while not self._stopping.is_set():
            self._rung.clear()
            try:
                while self.turn() and not self._stopping.is_set():
                    pass
                was_cut_off = False
            except (DatabaseError, InterfaceError) as error:
                if not was_cut_off:
                    log.warning("the database cannot be asked, trying again: %s", error)
                was_cut_off = True
                connection.close_if_unusable_or_obsolete()
            self._rung.wait(POLL_S)
        listener.stop()
        connection.close()

    def turn(self) -> bool:
        """Send what is due now; whether there may be more that can be sent at once."""
        at = timezone.now()
        rows = followups.due(at=at, limit=BATCH)
        unsent = [row for row in rows if not self._sent(row)]
        for row in unsent:
            self._keep_going(row)
        for row in _left_lying(at):
            self._carry_here(row)
        return len(rows) == BATCH and not unsent

    def _sent(self, row: FollowUp) -> bool:
        if FollowUpKind(row.kind) not in ERRANDS:
            return True  # a person's duty; pages show it
        try:
            self._send(row)
        except (BrokerError, RedisError, OSError) as error:
            log.warning("broker unreachable, %s %s stays due: %s", row.kind, row.pk, error)
            return False
        return True

    def _keep_going(self, row: FollowUp) -> None:
        if FollowUpKind(row.kind) in INLINE_KINDS:
            self._carry_here(row)
        else:
            # Offered again with the next look, not only after the time a courier would have had.
            FollowUp.objects.filter(pk=row.pk).update(sent_at=None)

    def _carry_here(self, row: FollowUp) -> None:
        if row.pk in self._carrying:
            return
        self._carrying.add(row.pk)
        task = inline_tasks()[FollowUpKind(row.kind)]

        def carry() -> None:
            try:
                task(str(row.pk))
            except Exception:  # the thread's edge; the row is still due
                log.exception("carried here and failed: %s %s", row.kind, row.pk)
            finally:
                self._carrying.discard(row.pk)
                connection.close()

        threading.Thread(target=carry, name=f"{row.kind} {row.pk}", daemon=True).start()


def _left_lying(at: datetime) -> list[FollowUp]:
    """Urgent follow-ups that were sent a while ago and that no worker has claimed since."""
    return list(
        FollowUp.objects.filter(
            Q(after=None) | Q(after__state=FollowUpState.DONE),
            Q(state=FollowUpState.DUE)
            | Q(state=FollowUpState.CLAIMED, claimed_until__lte=F("sent_at")),
            kind__in=INLINE_KINDS,
            due_at__lte=at,
            sent_at__lte=at - timedelta(seconds=PATIENCE_S),
        )[:BATCH]
    )


def main() -> int:
    """Run the relay until SIGTERM."""
    relay = Relay()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    relay.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
