"""What the licence of a source text leaves to whoever licenses the corpus on.

A table of the licences texts commonly come under, by SPDX id, and of what an owner calls its own.
It is no legal advice: a licence that is not in it is unread, and a person must read it.
"""

from __future__ import annotations

from dataclasses import dataclass

from governance.vocabulary import Purpose, Use


@dataclass(frozen=True)
class SourceLimits:
    """What a source licence forbids. `is_public`: whether it claims to be open to everyone."""

    forbidden_purposes: tuple[Purpose, ...] = ()
    forbidden_uses: tuple[Use, ...] = ()
    requires_attribution: bool = False
    is_public: bool = False
    is_read: bool = True


_NO_GAIN = (Purpose.COMMERCIAL, Purpose.INDUSTRIAL_RESEARCH)
_NO_ADAPTING = (Use.DISTIL, Use.FINE_TUNE, Use.REDISTRIBUTE)
_NO_HANDING_ON = (Use.REDISTRIBUTE,)
_FREE = SourceLimits(is_public=True)
_CREDIT = SourceLimits(requires_attribution=True, is_public=True)

_KNOWN = {
    "own": SourceLimits(),
    "own work": SourceLimits(),
    "public domain": _FREE,
    "cc0-1.0": _FREE,
    "pddl-1.0": _FREE,
    "unlicense": _FREE,
    "cc-by-3.0": _CREDIT,
    "cc-by-4.0": _CREDIT,
    "odc-by-1.0": _CREDIT,
    "mit": _CREDIT,
    "apache-2.0": _CREDIT,
    "bsd-3-clause": _CREDIT,
    **{
        name: SourceLimits(requires_attribution=True, is_public=True, forbidden_uses=_NO_HANDING_ON)
        for name in ("cc-by-sa-3.0", "cc-by-sa-4.0", "odbl-1.0", "gfdl-1.3-only")
    },
    **{
        name: SourceLimits(requires_attribution=True, is_public=True, forbidden_purposes=_NO_GAIN)
        for name in ("cc-by-nc-3.0", "cc-by-nc-4.0")
    },
    "cc-by-nc-sa-4.0": SourceLimits(_NO_GAIN, _NO_HANDING_ON, True, True),
    "cc-by-nd-4.0": SourceLimits((), _NO_ADAPTING, True, True),
    "cc-by-nc-nd-4.0": SourceLimits(_NO_GAIN, _NO_ADAPTING, True, True),
}
UNREAD = SourceLimits(is_read=False)


def limits_of(licence: str) -> SourceLimits:
    """What a source licence forbids, by its SPDX id or name; `UNREAD` where it is not known."""
    return _KNOWN.get(" ".join(licence.lower().split()), UNREAD)
