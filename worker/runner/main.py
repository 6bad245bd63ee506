"""`python -m worker.runner.main`: serve the promoted build until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial

from modelops.contract import Authority, EngineClient
from worker import boot

MakeEngine = Callable[[str, Authority], EngineClient]

log = logging.getLogger("worker.runner")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one runner; 1 if its incarnation was closed by someone else, so that it is restarted."""
    boot.boot()
    from django.conf import settings

    options = _options(argv, settings.RECLAIM_LEASE_S)
    options.url = options.url or settings.RECLAIM_RUNNER_URLS[options.number - 1]
    boot.bound_database_waits(max(2, int(options.lease_s)))
    return asyncio.run(_serve(options))


def _options(argv: Sequence[str] | None, lease_s: float) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the promoted build under a lease.")
    parser.add_argument("--name", default=os.environ.get("RECLAIM_PROCESS", "runner"))
    parser.add_argument("--number", type=int, default=1, help="which of RECLAIM_RUNNER_URL is ours")
    parser.add_argument("--url", help="unix:///path or tcp://host:port, in place of --number")
    parser.add_argument("--lease-s", type=float, default=float(lease_s))
    parser.add_argument("--rows", type=int, default=16, help="answers computed at once")
    parser.add_argument("--threads", type=int, default=1, help="cores for one step")
    return parser.parse_args(argv)


def _engine_maker(options: argparse.Namespace) -> MakeEngine:
    """What makes the engine of an anchor, as the settings say."""
    from django.conf import settings

    from modelops.artefacts.store import Store
    from modelops.engine import reference_engine
    from modelops.engine.linear import Layout
    from modelops.engine.vllm_plugin import vllm_engine

    store = Store(settings.RECLAIM_STORE)
    if settings.RECLAIM_ENGINE == "vllm":
        return partial(vllm_engine, store, max_rows=options.rows)
    device, named = settings.RECLAIM_DEVICE, settings.RECLAIM_LAYOUT
    layout = None if device != "cpu" or named == "fastest" else Layout(named)
    return partial(
        reference_engine,
        store,
        max_rows=options.rows,
        threads=options.threads,
        device=device,
        layout=layout,
    )


async def _serve(options: argparse.Namespace) -> int:
    from django.conf import settings

    from worker.runner.seen import SeenEpoch
    from worker.runner.service import Runner

    runner = Runner(
        options.name,
        options.url,
        lease_s=options.lease_s,
        make_engine=_engine_maker(options),
        grace_s=settings.RECLAIM_GRACE_S,
        seen=SeenEpoch(settings.RECLAIM_HOME / "run" / f"{options.name}.epoch"),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    return 0 if await runner.run() else 1


if __name__ == "__main__":
    sys.exit(main())
