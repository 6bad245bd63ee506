"""`python -m web.serve`: the site under uvicorn, with how it ends and whom it cuts off."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import uvicorn
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from web.asgi import application
from web.gateway import views

LAST_S = 3
"""What uvicorn itself waits for connections that should have ended by then."""


class Connection(HttpToolsProtocol):
    """A client's connection; one that leaves an answer unread for `stalled_s` is cut.

    Nothing is asked of the runner while a client's buffer is full, so a stalled one holds up its
    own answer and nobody else's; cutting it cancels that answer.
    """

    stalled_s = 30.0
    _cut: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._spare()

    def connection_lost(self, exc: Exception | None) -> None:
        self._spare()
        super().connection_lost(exc)

    def _spare(self) -> None:
        if self._cut is not None:
            self._cut.cancel()


class Server(uvicorn.Server):
    """Told to stop, it goes on listening until the answers under way have ended or had their time.

    Meanwhile new answers are refused and `/readyz` says no, so that a load balancer turns away
    before anyone finds a closed door.
    """

    async def main_loop(self) -> None:
        await super().main_loop()
        await application.gateway.drain(settings.RECLAIM_GRACE_S, views.port)


def configured(**options: object) -> uvicorn.Config:
    """How the site is served, with more `options` of uvicorn's."""
    return uvicorn.Config(
        application,
        http=Connection,
        lifespan="on",
        log_config=None,  # one renderer for all lines: web.logs
        access_log=False,
        timeout_graceful_shutdown=LAST_S,
        **options,  # type: ignore[arg-type]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="Serve pages, REST API and gateway.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--forwarded-allow-ips", help="proxies on other machines whose X-Forwarded-For is believed"
    )
    found = parser.parse_args(argv)
    Server(
        configured(host=found.host, port=found.port, forwarded_allow_ips=found.forwarded_allow_ips)
    ).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
