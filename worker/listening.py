"""A thread that hears PostgreSQL's NOTIFY, and says so after every time it may have missed one.

A notification is a bell, never a message: whoever is woken reads the rows. What was rung while
the listener was cut off is lost, so it rings once by itself after every (re)connection.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import psycopg
from django.db import connections
from django.db.utils import Error as DatabaseError

log = logging.getLogger(__name__)

_RETRY_S = 0.25
_STOP_CHECK_S = 0.2


class Listener:
    """Calls `on_ring(channel)` from its own thread, over its own connection, until stopped."""

    def __init__(self, channel: str, on_ring: Callable[[], None]) -> None:
        self._channel = channel
        self._on_ring = on_ring
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listen {channel}", daemon=True)

    def start(self) -> Listener:
        """Begin to listen; returns itself."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End soon, if it was started; does not wait for a hung network."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5 * _STOP_CHECK_S)

    def _run(self) -> None:
        is_cut_off = False
        while not self._stopping.is_set():
            try:
                self._listen()
            except (psycopg.Error, DatabaseError, OSError) as error:
                if not is_cut_off:
                    log.warning("listener of %s cut off, polling goes on: %s", self._channel, error)
                is_cut_off = True
                self._stopping.wait(_RETRY_S)
            else:
                is_cut_off = False

    def _listen(self) -> None:
        # A connection of its own: a session that listens can neither be pooled nor shared.
        wrapper = connections.create_connection("default")
        try:
            wrapper.ensure_connection()
            raw = wrapper.connection
            raw.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self._channel)))
            self._on_ring()
            while not self._stopping.is_set():
                for _ in raw.notifies(timeout=_STOP_CHECK_S, stop_after=1):
                    self._on_ring()
        finally:
            wrapper.close()
