"""What the gateway adds to every chunk, and whether many streams at once stay whole and apart.

    python -m bench.gateway [--quick] --json FILE

The gateway runs as operators run it (`python -m web.serve`, PostgreSQL and Redis of its own) before
two stub runner processes; a lean client in a process of its own reads. All share the machine, and
are in the numbers: on two cores five processes take turns.

*Overhead*: 200 streams of 10 words a second, 2,000 chunks a second in all, released 16 at a time as
an engine's step does. For every chunk that was released while all streams were open: the time from
its release in the engine to its arrival at the client, through the gateway, and by the same client
from the runners' sockets. `overhead_p99_ms` is the 99th percentile through the gateway less the
*median* without it: whatever a busy machine does to the slowest chunks counts against the gateway.

*Held*: 1,000 streams open at once. Each word names its order and its number, so that one that is
lost, doubled, out of order or in another's stream is found.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import database
from bench.record import Record, options, percentile, spread_ms
from bench.withdrawal_stage import Stage, start_runner, wait_for
from modelops.contract import Sampling, to_wire

RUNNERS = 2
STREAMS, PACE_S = 200, 0.1
HELD, HELD_PACE_S = 1000, 0.5
OPENED_A_SECOND = 80
_ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Measure both, print, write the record."""
    wanted = options(__doc__ or "")
    rounds, words, held, held_words = (1, 60, 150, 16) if wanted.quick else (3, 250, HELD, 120)
    settings = {
        "runners": RUNNERS,
        "streams": STREAMS,
        "pace_s": PACE_S,
        "rounds": rounds,
        "words": words,
        "held": held,
        "held_pace_s": HELD_PACE_S,
        "held_words": held_words,
    }
    record = Record("gateway", settings, wanted)
    with database.fresh("postgres", "redis") as home:
        stage = Stage(4)
        stage.promote()
        api_key = _key()
        with world(home, stage, PACE_S) as places:
            measure_overhead(record, Road(places, stage, api_key, words), rounds)
        with world(home, stage, HELD_PACE_S) as places:
            measure_held(record, Road(places, stage, api_key, held_words), held)
    return record.finish()


@dataclass(frozen=True)
class Places:
    """Where the gateway and the runners listen."""

    gateway: tuple[str, int]
    runners: Sequence[str]


@dataclass(frozen=True)
class Road:
    """How a client gets `words` words a stream, by either way."""

    places: Places
    stage: Stage
    api_key: str
    words: int

    def through(self, streams: int) -> dict[str, Any]:
        """Read by way of the gateway."""
        body = json.dumps(
            {
                "model": "reclaim",
                "messages": [{"role": "user", "content": "bench"}],
                "max_tokens": self.words,
                "stream": True,
            }
        )
        request = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Authorization: Bearer {self.api_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        return self._read([self.places.gateway], [request] * streams)

    def direct(self, streams: int) -> dict[str, Any]:
        """Read from the runners themselves."""
        order = replace(
            self.stage.order(next(iter(self.stage.refs))),
            allowed=tuple(self.stage.refs.values()),
            sampling=Sampling(max_tokens=self.words),
        )
        lines = [to_wire(replace(order, order_id=str(uuid4()))).decode() for _ in range(streams)]
        return self._read([url.removeprefix("unix://") for url in self.places.runners], lines)

    def _read(self, places: Sequence[object], requests: Sequence[str]) -> dict[str, Any]:
        spec = {
            "places": places,
            "requests": requests,
            "words": self.words,
            "ramp_s": len(requests) / OPENED_A_SECOND,
            "timeout_s": 300,
        }
        read = subprocess.run(
            [sys.executable, "-m", "bench.stub_client"],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            cwd=_ROOT,
            check=True,
        )
        found: dict[str, Any] = json.loads(read.stdout)
        if found["unanswered"]:
            raise RuntimeError(f"expected words in every stream, found {found['unanswered'][0]}")
        return found


def measure_overhead(record: Record, road: Road, rounds: int) -> None:
    """The same streams by both ways in turn."""
    direct: list[float] = []
    through: list[float] = []
    first: dict[str, list[float]] = {"direct": [], "through": []}
    for _ in range(rounds):
        for way, delays in (("direct", direct), ("through", through)):
            found = getattr(road, way)(STREAMS)
            delays += found["delays_ms"]
            first[way] += found["first_ms"]
    for way, delays in (("direct", direct), ("through", through)):
        record.row(f"release to client, {way}", chunks=len(delays), **spread_ms(delays))
    for way, delays in first.items():
        record.row(f"request to first word, {way}", streams=len(delays), **spread_ms(delays))
    overhead = percentile(through, 0.99) - statistics.median(direct)
    record.claim("gateway.overhead_p99_ms", overhead, "ms", "<= 10")
    record.claim(
        "gateway.overhead_p50_ms", statistics.median(through) - statistics.median(direct), "ms"
    )


def measure_held(record: Record, road: Road, streams: int) -> None:
    """Many streams at once, each word accounted for."""
    found = road.through(streams)
    record.row(
        "held",
        streams=streams,
        all_open_s=found["all_open_s"],
        words=found["words"],
        **spread_ms(found["delays_ms"] or [0.0]),
    )
    record.claim("gateway.held_at_once", streams if found["all_open_s"] else 0, "streams")
    record.claim("gateway.lost_chunks", found["lost"], "chunks", "== 0")
    record.claim("gateway.mixed_chunks", found["mixed"], "chunks", "== 0")


def _key() -> str:
    from django.utils import timezone

    from governance.models import Consumer
    from governance.services import consumers

    consumer = Consumer.objects.get(slug="bench")
    return consumers.issue_key(
        consumer, label="bench", purposes=["research"], by=None, at=timezone.now()
    ).secret


@contextmanager
def world(home: Path, stage: Stage, pace_s: float) -> Iterator[Places]:
    """Runners and a gateway, each a process of its own."""
    urls = [f"unix://{home / f'named-{number}.sock'}" for number in range(RUNNERS)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as running:
        for number, url in enumerate(urls):
            runner = start_runner(
                f"named-{number}", url, os.environ, 10.0, pace_s, module="bench.stub_named"
            )
            running.callback(_end, runner)
        for url in urls:
            wait_for(url, next(iter(stage.refs)))
        gateway = subprocess.Popen(
            [sys.executable, "-m", "web.serve", "--port", str(port)],
            cwd=_ROOT,
            env={
                **os.environ,
                "RECLAIM_RUNNER_URL": ",".join(urls),
                "RECLAIM_LOG_LEVEL": "ERROR",
                "RECLAIM_GRACE_S": "0",
            },
        )
        running.callback(_end, gateway)
        _await_ready(port)
        yield Places(("127.0.0.1", port), urls)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=30)


def _await_ready(port: int) -> None:
    until_s = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    raise SystemExit(main())
