"""Croissant 1.1 with RAI 1.0 (MLCommons): a data set described without the data.

The manifest holds counts, languages, period, sources, sensitivity and commitments; `usageInfo`
carries the licence as an ODRL policy, so that a licence comes back from it whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from governance.exchange import odrl
from governance.exchange.odrl.words import PROFILE
from governance.exchange.rights import (
    Direction,
    Exported,
    Imported,
    Loss,
    Rights,
    shown,
    text_of,
    unreadable,
    unsaid,
)

MEDIA_TYPE = "application/ld+json"
VERSIONS = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
_WHAT = "a Croissant manifest"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "reclaim": PROFILE,
}
_READ = {
    "@context", "@type", "@id", "conformsTo", "name", "identifier", "description", "license",
    "inLanguage", "creator", "temporalCoverage", "usageInfo", "isBasedOn",
    "rai:personalSensitiveInformation", "reclaim:documentCount", "reclaim:textBytes",
    "reclaim:merkleRoot", "reclaim:sketch", "distribution", "url",
}  # fmt: skip


@dataclass(frozen=True)
class SourceFacts:
    """One source of a corpus. `licence` is an SPDX id or a name; days are inclusive."""

    title: str
    licence: str
    url: str = ""
    rights_holder: str = ""
    languages: tuple[str, ...] = ()
    document_count: int = 0
    text_bytes: int = 0
    period_from: date | None = None
    period_to: date | None = None


@dataclass(frozen=True)
class CorpusFacts:
    """A corpus as a manifest describes it."""

    slug: str
    title: str
    source_licence: str = ""
    description: str = ""
    owner_name: str = ""
    languages: tuple[str, ...] = ()
    document_count: int = 0
    text_bytes: int = 0
    period_from: date | None = None
    period_to: date | None = None
    sensitive: tuple[str, ...] = ()
    merkle_root: str = ""
    sketch: Mapping[str, Any] | None = None
    sources: tuple[SourceFacts, ...] = ()
    losses: tuple[Loss, ...] = field(default=(), compare=False)


def export(rights: Rights) -> Exported:
    """The manifest of a licence's corpus with the licence in it."""
    facts = CorpusFacts(
        slug=rights.corpus or "unnamed",
        title=rights.title,
        source_licence=rights.source_licence,
        description=rights.description,
        owner_name=rights.owner_name,
        languages=rights.languages,
        document_count=rights.document_count,
        text_bytes=rights.text_bytes,
        merkle_root=rights.merkle_root,
    )
    body = written({**manifest(facts), "usageInfo": odrl.export(rights)})
    because = "The manifest does not carry it."
    losses = unsaid(rights.terms, load(body).terms_fields, reasons={}, because=because)
    return Exported(MEDIA_TYPE, body, losses)


def load(body: bytes) -> Imported:
    """The terms of the ODRL policy in `usageInfo`.

    Raises:
        InvalidTerms: no manifest, no such policy in it, or one that cannot be read.
    """
    found = _parsed(body)
    listed = found.get("usageInfo")
    policies = [
        each
        for each in (listed if isinstance(listed, list) else [listed])
        if isinstance(each, Mapping)
    ]
    if not policies:
        raise unreadable(
            "an ODRL policy in usageInfo",
            shown(listed) if listed else "none",
            "A manifest that only names a licence has no terms to take over.",
        )
    imported = odrl.load(json.dumps(policies[0]).encode())
    more = tuple(
        Loss("policy", shown(each.get("uid", "")), "A further policy; hand it in by itself.",
             Direction.REFUSED)
        for each in policies[1:]
    )  # fmt: skip
    return Imported(imported.terms_fields, imported.losses + more)


def written(found: Mapping[str, Any]) -> bytes:
    """A manifest as a file."""
    return json.dumps(found, indent=2, ensure_ascii=False).encode()


def manifest(facts: CorpusFacts) -> dict[str, Any]:
    """The manifest of a corpus: all there is to say without a single document."""
    found: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(VERSIONS),
        "name": facts.title or facts.slug,
        "identifier": facts.slug,
        "reclaim:documentCount": facts.document_count,
        "reclaim:textBytes": facts.text_bytes,
        # Closed data: nothing can be fetched, and the manifest says so by listing nothing.
        "distribution": [],
    }
    optional: dict[str, Any] = {
        "description": facts.description,
        "license": facts.source_licence,
        "inLanguage": list(facts.languages),
        "creator": {"@type": "sc:Organization", "name": facts.owner_name}
        if facts.owner_name
        else None,
        "temporalCoverage": _interval(facts.period_from, facts.period_to),
        "rai:personalSensitiveInformation": list(facts.sensitive),
        "reclaim:merkleRoot": facts.merkle_root,
        "reclaim:sketch": {"@type": "@json", "@value": dict(facts.sketch)}
        if facts.sketch
        else None,
        "isBasedOn": [_source(each) for each in facts.sources],
    }
    return found | {name: value for name, value in optional.items() if value}


def load_manifest(body: bytes) -> CorpusFacts:
    """What a manifest says of a corpus; `losses` names what has no place here.

    Raises:
        InvalidTerms: no manifest, or a value that is not what its property holds.
    """
    found = _parsed(body)
    begin, end = _days(found.get("temporalCoverage", ""))
    creator = found.get("creator")
    sketch = found.get("reclaim:sketch")
    return CorpusFacts(
        slug=str(found.get("identifier", "")),
        title=str(found.get("name", "")),
        source_licence=shown(found.get("license", "")),
        description=str(found.get("description", "")),
        owner_name=str(creator.get("name", "")) if isinstance(creator, Mapping) else "",
        languages=_words(found.get("inLanguage")),
        document_count=_count(found, "reclaim:documentCount"),
        text_bytes=_count(found, "reclaim:textBytes"),
        period_from=begin,
        period_to=end,
        sensitive=_words(found.get("rai:personalSensitiveInformation")),
        merkle_root=str(found.get("reclaim:merkleRoot", "")),
        sketch=sketch.get("@value") if isinstance(sketch, Mapping) else None,
        sources=tuple(_read_source(each) for each in _listed(found.get("isBasedOn"))),
        losses=_left_out(found),
    )


def _left_out(found: Mapping[str, Any]) -> tuple[Loss, ...]:
    reason = "Manifests of closed data have no place for it here."
    return tuple(
        Loss(name, shown(value), reason, Direction.UNSAID)
        for name, value in found.items()
        if name not in _READ or (name == "distribution" and value)
    )


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text_of(body, _WHAT))
    except (json.JSONDecodeError, RecursionError) as error:
        raise unreadable(_WHAT, f"no JSON ({error})", "Check that it is whole.") from error
    if not isinstance(found, dict) or not _is_croissant(found):
        raise unreadable(_WHAT, "no conformsTo naming Croissant", "Check what was handed in.")
    return found


def _is_croissant(found: Mapping[str, Any]) -> bool:
    named = [*_words(found.get("conformsTo")), *_words(found.get("dct:conformsTo"))]
    return any("mlcommons.org/croissant/" in each for each in named)


def _source(source: SourceFacts) -> dict[str, Any]:
    found: dict[str, Any] = {
        "@type": "sc:Dataset",
        "name": source.title,
        "license": source.licence,
        "url": source.url,
        "copyrightHolder": source.rights_holder,
        "inLanguage": list(source.languages),
        "temporalCoverage": _interval(source.period_from, source.period_to),
        "reclaim:documentCount": source.document_count,
        "reclaim:textBytes": source.text_bytes,
    }
    return {name: value for name, value in found.items() if value}


def _read_source(found: Any) -> SourceFacts:
    if not isinstance(found, Mapping):
        return SourceFacts(title=shown(found), licence="unknown", url=str(found)[:500])
    begin, end = _days(found.get("temporalCoverage", ""))
    holder = found.get("copyrightHolder", "")
    return SourceFacts(
        title=str(found.get("name", "")),
        licence=shown(found.get("license", "unknown")),
        url=str(found.get("url", "")),
        rights_holder=str(holder.get("name", "") if isinstance(holder, Mapping) else holder),
        languages=_words(found.get("inLanguage")),
        document_count=_count(found, "reclaim:documentCount"),
        text_bytes=_count(found, "reclaim:textBytes"),
        period_from=begin,
        period_to=end,
    )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _words(value: Any) -> tuple[str, ...]:
    return tuple(
        str(each.get("@id", "")) if isinstance(each, Mapping) else str(each)
        for each in _listed(value)
        if each
    )


def _count(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise unreadable(f"a count in {name}", shown(value), "Correct the manifest.")
    return value


def _interval(begin: date | None, end: date | None) -> str:
    """ISO 8601 with two dots for an open end; empty where neither is known."""
    if begin is None and end is None:
        return ""
    return f"{begin.isoformat() if begin else '..'}/{end.isoformat() if end else '..'}"


def _days(value: Any) -> tuple[date | None, date | None]:
    text = str(value)
    if not text:
        return None, None
    begin, slash, end = text.partition("/")
    try:
        return _day(begin), _day(end if slash else begin)
    except ValueError as error:
        raise unreadable("days such as 2001-01-01/2009-12-31 in temporalCoverage", text[:80],
                         "Correct the manifest.") from error  # fmt: skip


def _day(text: str) -> date | None:
    return None if text in ("", "..") else date.fromisoformat(text)
