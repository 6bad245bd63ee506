"""A lean reader of many streams at once, in a process of its own; it parses nothing but words.

Reads from standard input `{"places", "requests", "words", "ramp_s", "timeout_s"}`: connection i
goes to place i mod n (a socket's path, or host and port), sends request i as it stands, and reads
words as `bench.stub_named` makes them until the other side closes or says that it is done. Writes
what it saw to standard output.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

WORD = re.compile(rb"([0-9a-f-]{36}):(\d+):(\d+) ")
ENDS = (b"data: [DONE]", b'"kind":"done"', b'"kind":"refused"')


@dataclass
class Stream(asyncio.Protocol):
    """One connection: its words as (name, number, released, read), times in nanoseconds."""

    request: bytes
    ended: asyncio.Event
    begun_ns: int = 0
    words: list[tuple[bytes, int, int, int]] = field(default_factory=list)
    said: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begun_ns = time.monotonic_ns()
        self.transport: Any = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        read_ns = time.monotonic_ns()
        self.said += data
        end = 0
        for found in WORD.finditer(self.said):
            self.words.append((found[1], int(found[2]), int(found[3]), read_ns))
            end = found.end()
        self.said = self.said[end:][-4096:]
        if any(one in self.said for one in ENDS):
            self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.ended.set()


async def read(spec: dict[str, Any]) -> list[Stream]:
    """Open the streams one after another over `ramp_s`, and read all to their ends."""
    loop, streams = asyncio.get_running_loop(), []
    for index, request in enumerate(spec["requests"]):
        place = spec["places"][index % len(spec["places"])]
        stream = Stream(request.encode(), asyncio.Event())
        if isinstance(place, str):
            await loop.create_unix_connection(lambda one=stream: one, place)
        else:
            await loop.create_connection(lambda one=stream: one, *place)
        streams.append(stream)
        await asyncio.sleep(spec["ramp_s"] / len(spec["requests"]))
    async with asyncio.timeout(spec["timeout_s"]):
        for stream in streams:
            await stream.ended.wait()
    return streams


def seen(streams: Sequence[Stream], words: int) -> dict[str, Any]:
    """Delays while all streams were open, times to the first word, and words that went wrong."""
    spoke = [stream for stream in streams if stream.words]
    names = {stream.words[0][0] for stream in spoke}
    all_open_ns = max((stream.words[0][3] for stream in spoke), default=0)
    first_end_ns = min((stream.words[-1][3] for stream in spoke), default=0)
    mixed = sum(word[0] != stream.words[0][0] for stream in spoke for word in stream.words)
    in_order = sum(
        word[1] == number for stream in spoke for number, word in enumerate(stream.words, 1)
    )
    heard = sum(len(stream.words) for stream in spoke)
    delays_ms = [
        (read_ns - released_ns) / 1e6
        for stream in spoke
        for _, _, released_ns, read_ns in stream.words
        if all_open_ns < released_ns < first_end_ns
    ]
    return {
        "delays_ms": [round(one, 3) for one in delays_ms],
        "first_ms": [(stream.words[0][3] - stream.begun_ns) / 1e6 for stream in spoke],
        "words": heard,
        "lost": words * len(streams) - in_order,
        "mixed": mixed + (len(spoke) - len(names)) + (heard - in_order),
        "all_open_s": max(0.0, (first_end_ns - all_open_ns) / 1e9),
        "unanswered": [stream.said.decode(errors="replace")[-600:] for stream in streams
                       if not stream.words][:1],
    }  # fmt: skip


def main() -> int:
    """Read as told; say what was seen."""
    spec = json.load(sys.stdin)
    json.dump(seen(uvloop.run(read(spec)), spec["words"]), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
