"""A client of the runner's socket, as the gateway is one, that notes when each line came."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from modelops.contract import Delta, Done, GenerationOrder, Refused, from_wire, to_wire


@contextmanager
def connected(url: str, timeout_s: float = 20) -> Iterator[socket.socket]:
    """A connection; waits a while for the runner to listen."""
    parts = urlsplit(url)
    until_s = time.monotonic() + timeout_s
    while True:
        family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
        place = parts.path if parts.scheme == "unix" else (parts.hostname, parts.port)
        line = socket.socket(family, socket.SOCK_STREAM)
        line.settimeout(timeout_s)
        try:
            line.connect(place)
            break
        except OSError:
            line.close()
            if time.monotonic() > until_s:
                raise
            time.sleep(0.02)
    with line:
        yield line


def stream(url: str, order: GenerationOrder) -> Iterator[tuple[float, Delta | Done | Refused]]:
    """What comes back, each with the wall-clock time it came at."""
    with connected(url) as line, line.makefile("rb") as lines:
        line.sendall(to_wire(order))
        for text in lines:
            message = from_wire(text)
            assert not isinstance(message, GenerationOrder)
            yield time.time(), message


def ask(url: str, order: GenerationOrder) -> list[Delta | Done | Refused]:
    """The whole answer."""
    return [message for _, message in stream(url, order)]


def health(url: str) -> dict[str, Any]:
    """What the runner says about itself."""
    with connected(url) as line, line.makefile("rb") as lines:
        line.sendall(b'{"kind": "health"}\n')
        found: dict[str, Any] = json.loads(lines.readline())
    return found
