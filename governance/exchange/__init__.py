"""Rights data in and out of other vocabularies, each journey with a report of what it lost.

    export("odrl", licence) -> Exported(media_type, body, losses)
    load("odrl", body) -> Imported(terms_fields, losses)

A format is pure: bytes and fields, no database. Exports name every term the file does not hold;
imports never widen, and propose only: requesting and approving stay two people's acts.
"""

from __future__ import annotations

from governance.errors import InvalidTerms
from governance.exchange import aipref, croissant, cyclonedx, odrl, rsl, spdx, tdmrep
from governance.exchange.rights import Direction, Exported, Format, Imported, Loss, Rights, of

__all__ = [
    "FORMATS",
    "Direction",
    "Exported",
    "Format",
    "Imported",
    "Loss",
    "Rights",
    "export",
    "load",
    "of",
]

FORMATS: dict[str, Format] = {
    each.code: each
    for each in (
        Format(
            "odrl", "ODRL 2.2", "W3C Recommendation 2018", ".odrl.json", odrl.written, odrl.load
        ),
        Format("rsl", "RSL 1.0", "Recommendation 2025", ".rsl.xml", rsl.export, rsl.load),
        Format(
            "tdmrep", "TDMRep", "W3C Community Group report 2024", ".tdmrep.json",
            tdmrep.export, tdmrep.load,
        ),
        Format("aipref", "AIPREF", "IETF draft", ".aipref.txt", aipref.export, aipref.load),
        Format(
            "croissant", "Croissant 1.1", "MLCommons 2026", ".croissant.json",
            croissant.export, croissant.load,
        ),
        Format("spdx", "SPDX 3.0.1", "Stable", ".spdx.json", spdx.export, None),
        Format("cyclonedx", "CycloneDX 1.6", "Stable", ".cdx.json", cyclonedx.export, None),
    )
}  # fmt: skip


def export(format_code: str, licence: object) -> Exported:
    """A licence (a row, terms, or a mapping of their fields) in another vocabulary.

    Raises:
        InvalidTerms: no such format.
    """
    return _known(format_code).export(of(licence))


def load(format_code: str, body: bytes) -> Imported:
    """The terms a file proposes.

    Raises:
        InvalidTerms: no such format, a format that is only written, or a file that is not in it.
    """
    read = _known(format_code).load
    if read is None:
        readable = ", ".join(code for code, each in FORMATS.items() if each.load)
        message = f"expected a format that can be read ({readable}), found {format_code}."
        raise InvalidTerms(message, fields={"format": message})
    return read(body)


def _known(format_code: str) -> Format:
    found = FORMATS.get(format_code)
    if found is None:
        message = f"expected one of {', '.join(FORMATS)}, found {format_code}."
        raise InvalidTerms(message, fields={"format": message})
    return found
