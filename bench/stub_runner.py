"""`python -m bench.stub_runner --name N --url URL`: a real runner process around the stub engine.

Lease, policy, usage rows and socket are the product's own; only arithmetic is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from bench.stub_engine import StubEngine
from modelops.contract import Authority
from worker import boot


def main(engine: type[StubEngine] = StubEngine) -> int:
    """Serve until SIGTERM, with engines of this kind."""
    parser = argparse.ArgumentParser(description="A runner around the stub engine.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--lease-s", type=float, default=10.0)
    parser.add_argument("--token-s", type=float, default=0.002)
    parser.add_argument("--deaf", action="store_true", help="hear no notification, only poll")
    options = parser.parse_args()
    boot.boot()
    boot.bound_database_waits(max(2, int(options.lease_s)))
    return asyncio.run(_serve(options, engine))


async def _serve(options: argparse.Namespace, engine: type[StubEngine]) -> int:
    from worker.runner.service import Runner

    def make_engine(anchor_digest: str, authority: Authority) -> StubEngine:  # noqa: ARG001
        return engine(authority, token_s=options.token_s, tells_time=True)

    runner = Runner(
        options.name,
        options.url,
        lease_s=options.lease_s,
        make_engine=make_engine,
        grace_s=0.2,
        listens=not options.deaf,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    return 0 if await runner.run() else 1


if __name__ == "__main__":
    sys.exit(main())
