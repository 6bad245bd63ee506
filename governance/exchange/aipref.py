"""AIPREF (drafts draft-ietf-aipref-vocab and -attach of the IETF): preferences about use by AI.

Draft: the working group has no consensus on the vocabulary yet. A preference is weaker than a
licence and never called one: `train-ai=y` grants nothing here, `train-ai=n` forbids.
"""

from __future__ import annotations

import re
from typing import Any

import http_sf

from governance.exchange.rights import (
    Direction,
    Exported,
    Imported,
    Loss,
    Rights,
    is_open_to_all,
    text_of,
    unreadable,
    unsaid,
)
from governance.vocabulary import Use

MEDIA_TYPE = "text/plain"
_WHAT = "a Content-Usage field, or a robots.txt with Content-Usage rules"
_LINE = re.compile(r"^\s*content-usage\s*:\s*(?:(/\S*)\s+)?(.*)$", re.IGNORECASE | re.MULTILINE)
_FORBIDDEN = [str(use) for use in (Use.DISTIL, Use.FINE_TUNE, Use.TRAIN, Use.TUNE_ROUTER)]


def export(rights: Rights) -> Exported:
    """The field that tells the public what the licence leaves to it."""
    preference = "y" if is_open_to_all(rights.terms) else "n"
    body = f"Content-Usage: train-ai={preference}\n".encode()
    reasons = {"uses": "A preference towards the public; the licence goes before it."}
    because = "AIPREF has two words, train-ai and search, and yes or no for each."
    losses = unsaid(rights.terms, load(body).terms_fields, reasons=reasons, because=because)
    return Exported(media_type=MEDIA_TYPE, body=body, losses=losses)


def load(body: bytes) -> Imported:
    """What the preferences of a field or of robots.txt forbid.

    Raises:
        InvalidTerms: no Content-Usage in it, or no structured field after it.
    """
    losses = []
    found = preferences(body)
    for place, preference in found:
        for word, answer in preference.items():
            if word == "train-ai" and answer != "n":
                reason = f"A preference for {place or 'all'}, no licence: it grants nothing."
                losses.append(Loss("uses", f"{word}={answer}", reason, Direction.REFUSED))
            elif word != "train-ai":
                reason = "We do not do this with a corpus."
                losses.append(Loss("uses", f"{word}={answer}", reason, Direction.UNSAID))
    losses.append(
        Loss("status", "draft", "The vocabulary is an Internet-Draft.", Direction.CONFIRM)
    )
    forbidden = _FORBIDDEN if _is_refused(found) else []
    terms = {"uses": [], "purposes": [], "prohibited_uses": list(forbidden)}
    return Imported(terms, tuple(dict.fromkeys(losses)))


def reserves(body: bytes) -> bool | None:
    """Whether training is disallowed anywhere; None where nothing is said of it.

    Any `n` wins over any `y` (vocab, section on combining preferences).

    Raises:
        InvalidTerms: as `load`.
    """
    found = preferences(body)
    if _is_refused(found):
        return True
    said = {preference.get("train-ai") for _, preference in found}
    return False if "y" in said else None


def preferences(body: bytes) -> list[tuple[str, dict[str, str]]]:
    """Each statement: the path it is for (empty: all), and y, n or unknown for each word.

    Raises:
        InvalidTerms: as `load`.
    """
    text = text_of(body, _WHAT)
    lines = _LINE.findall(text)
    if not lines and re.match(r"\s*[a-z*][a-z0-9_.*-]*\s*=", text):
        lines = [("", text)]
    if not lines:
        raise unreadable(_WHAT, "neither", "Check what was handed in.")
    return [(path, _statement(value.strip())) for path, value in lines]


def _statement(value: str) -> dict[str, str]:
    try:
        parsed: Any = http_sf.parse(value.encode(), tltype="dictionary")
    except (ValueError, KeyError, IndexError) as error:
        found = f"{value[:80]!r} ({error})"
        raise unreadable("a structured field such as train-ai=n", found, "Correct it.") from error
    answers = {}
    for word, (answer, _) in parsed.items():
        is_plain = isinstance(answer, http_sf.Token) and str(answer) in ("y", "n")
        answers[word] = str(answer) if is_plain else "unknown"
    return answers


def _is_refused(found: list[tuple[str, dict[str, str]]]) -> bool:
    return any(preference.get("train-ai") == "n" for _, preference in found)
