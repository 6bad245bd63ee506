"""Reservation signals: what a file found at an address says about training."""

from __future__ import annotations

import re
from dataclasses import dataclass

from governance.exchange import aipref, rsl, tdmrep
from governance.exchange.rights import text_of, unreadable
from governance.vocabulary import SignalKind

_TRAINERS = frozenset(
    {"*", "gptbot", "ccbot", "claudebot", "anthropic-ai", "google-extended", "bytespider"}
    | {"meta-externalagent", "applebot-extended", "amazonbot", "cohere-ai", "diffbot"}
)
"""Crawlers that gather text for training, by the names their operators publish."""
_FIELD = re.compile(r"^\s*([A-Za-z-]+)\s*:\s*([^#]*)")


@dataclass(frozen=True)
class Signal:
    """What was found: in words, and whether it reserves training (None: it does not say)."""

    value: str
    reserves: bool | None


def read(kind: SignalKind, raw: bytes) -> Signal:
    """What a file says.

    Raises:
        InvalidTerms: it is not of this kind.
    """
    if kind is SignalKind.TDMREP:
        is_reserved = tdmrep.reserves(raw)
        return Signal(f"tdm-reservation {int(is_reserved)}", is_reserved)
    if kind is SignalKind.AIPREF:
        said = aipref.reserves(raw)
        return Signal({True: "train-ai=n", False: "train-ai=y", None: "nothing said"}[said], said)
    if kind is SignalKind.RSL:
        said = rsl.reserves(raw)
        words = {True: "training is prohibited or paid for", False: "training is free"}
        return Signal(words.get(bool(said), "") if said is not None else "nothing said", said)
    return _robots(kind, raw)


def _robots(kind: SignalKind, raw: bytes) -> Signal:
    """A site closed to crawlers that gather text for training (RFC 9309 groups).

    robots.txt governs crawling, not rights: it counts as a reservation because courts have taken
    it for one where it is plain. A Content-Usage rule in it goes before (AIPREF, attach).
    """
    text = text_of(raw, f"a {kind.label} file")
    if not any(_FIELD.match(line) for line in text.splitlines()):
        raise unreadable(f"a {kind.label} file", "no line of it", "Check what was handed in.")
    if re.search(r"^\s*content-usage\s*:", text, re.IGNORECASE | re.MULTILINE):
        said = aipref.reserves(raw)
        if said is not None:
            return Signal(f"Content-Usage: train-ai={'n' if said else 'y'}", said)
    closed = _closed_to(text)
    if closed:
        return Signal(f"closed to {', '.join(sorted(closed))}"[:300], True)
    return Signal("closed to no crawler that gathers text for training", None)


def _closed_to(text: str) -> set[str]:
    """The gathering crawlers to which the whole site is closed."""
    closed: set[str] = set()
    agents: set[str] = set()
    is_naming = False
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match is None:
            continue
        name, value = match[1].lower(), match[2].strip()
        if name == "user-agent":
            agents = (agents if is_naming else set()) | {value.lower()}
            is_naming = True
            continue
        is_naming = False
        if name == "disallow" and value in ("/", "/*"):
            closed |= agents & _TRAINERS
        elif name == "allow" and value in ("/", "/*"):
            closed -= agents
    return closed
