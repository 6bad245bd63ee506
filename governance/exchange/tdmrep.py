"""TDMRep (W3C Community Group final report, 10 May 2024): reservation of text and data mining.

A reservation is a statement to the public under article 4(3) of Directive (EU) 2019/790, and no
licence: `0` lets the exception work, it grants nothing. It is read in its three places: the file
/.well-known/tdmrep.json, response headers, and meta elements of a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

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

MEDIA_TYPE = "application/json"
_WHAT = "a TDMRep file, headers or a page with its meta elements"
_HEADER = re.compile(r"^tdm-(reservation|policy)\s*:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_BECAUSE = "TDMRep says only whether mining is reserved, and where the terms are."
Entry = dict[str, Any]


def export(rights: Rights) -> Exported:
    """The entry of /.well-known/tdmrep.json for the corpus of a licence."""
    entry: Entry = {
        "location": f"/corpora/{rights.corpus or 'unnamed'}/",
        "tdm-reservation": 0 if is_open_to_all(rights.terms) else 1,
    }
    if rights.policy_url:
        entry["tdm-policy"] = rights.policy_url
    body = json.dumps([entry], indent=2).encode()
    said = load(body).terms_fields
    reasons = {"uses": "A reservation grants nothing; the licence does."}
    losses = unsaid(rights.terms, said, reasons=reasons, because=_BECAUSE)
    return Exported(media_type=MEDIA_TYPE, body=body, losses=losses)


def load(body: bytes) -> Imported:
    """What a reservation forbids, and where its terms are.

    Raises:
        InvalidTerms: nothing of TDMRep in it.
    """
    found = entries(body)
    losses = []
    for entry in found:
        place = str(entry.get("location", "/"))
        if policy := entry.get("tdm-policy"):
            reason = f"The terms for {place} are kept there; import that policy instead."
            losses.append(Loss("policy", str(policy), reason, Direction.CONFIRM))
        if not _is_reserved(entry):
            reason = f"Not reserved for {place}: an exception may apply. This is no licence."
            losses.append(Loss("uses", "0", reason, Direction.REFUSED))
    forbidden = [str(Use.TRAIN)] if any(map(_is_reserved, found)) else []
    terms = {"uses": [], "purposes": [], "prohibited_uses": forbidden}
    return Imported(terms, tuple(dict.fromkeys(losses)))


def reserves(body: bytes) -> bool:
    """Whether mining is reserved for any place the file speaks of.

    Raises:
        InvalidTerms: nothing of TDMRep in it.
    """
    return any(map(_is_reserved, entries(body)))


def entries(body: bytes) -> list[Entry]:
    """What is said for each location, in whichever of the three places it is said.

    Raises:
        InvalidTerms: nothing of TDMRep in it.
    """
    text = text_of(body, _WHAT).strip()
    if text.startswith(("[", "{")):
        found = _file(text)
    elif text.startswith("<"):
        found = _page(text)
    else:
        found = _merged(_HEADER.findall(text))
    if not any("tdm-reservation" in entry for entry in found):
        raise unreadable(_WHAT, "no tdm-reservation", "Check what was handed in.")
    return found


def _file(text: str) -> list[Entry]:
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise unreadable(_WHAT, f"no JSON ({error})", "Check that it is whole.") from error
    listed = found if isinstance(found, list) else [found]
    return [dict(entry) for entry in listed if isinstance(entry, Mapping)]


class _Metas(HTMLParser):
    """Collects the meta elements named tdm-…"""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        name = (held.get("name") or "").lower()
        if tag == "meta" and name.startswith("tdm-"):
            self.found.append((name.removeprefix("tdm-"), held.get("content") or ""))


def _page(text: str) -> list[Entry]:
    metas = _Metas()
    metas.feed(text)
    return _merged(metas.found)


def _merged(pairs: list[tuple[str, str]]) -> list[Entry]:
    named = {f"tdm-{name.lower()}": value for name, value in pairs}
    reservations = [value for name, value in pairs if name.lower() == "reservation"]
    if reservations and any(value != "0" for value in reservations):
        named["tdm-reservation"] = "1"
    return [named] if named else []


def _is_reserved(entry: Entry) -> bool:
    """All but a plain 0 counts as reserved: doubt never opens."""
    return str(entry.get("tdm-reservation", "1")) != "0" or entry.get("tdm-reservation") is False
