"""Telling owners apart: whether a name or a number may be one that is registered already."""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher

from governance.models import DataOwner

ALIKE = 0.88
"""Names at least this much alike (Ratcliff/Obershelp, 0 to 1, legal form left out) are shown."""
SHOWN = 5

# fmt: off
_LEGAL_FORMS = frozenset({
    "ab", "ag", "aps", "as", "asbl", "bv", "bvba", "corp", "cv", "ev", "gmbh", "inc", "kft", "kg",
    "lda", "limited", "llc", "llp", "ltd", "nv", "oy", "oyj", "plc", "pty", "sa", "sarl", "sas",
    "se", "sl", "spa", "srl", "sro", "vof", "vzw",
})
# fmt: on


def name_key(legal_name: str) -> str:
    """The name as compared: no case, accents, punctuation or legal form.

    `name_key("Alder Press B.V.") == name_key("ALDER PRESS BV") == "alder press"`.
    """
    plain = unicodedata.normalize("NFKD", legal_name).casefold()
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = re.sub(r"[^\w]+", " ", re.sub(r"[.'’]", "", letters)).split()
    kept = [word for word in words if word not in _LEGAL_FORMS]
    return " ".join(kept or words)[:200]


def duplicates(
    legal_name: str,
    *,
    jurisdiction: str = "",
    registry_number: str = "",
    besides: DataOwner | None = None,
) -> list[DataOwner]:
    """Registered owners that may be the same organisation, the likeliest first, at most five.

    The same registry number (spaces, dots and hyphens do not count) in the same country or an
    alike name. It cannot know of other trade names: a person decides.
    """
    rows = DataOwner.objects.exclude(pk=besides.pk) if besides else DataOwner.objects.all()
    key, number = name_key(legal_name), _bare(registry_number)
    likeness: dict[object, float] = {}
    columns = ("pk", "name_key", "legal_name", "jurisdiction", "registry_number")
    for pk, kept_key, name, country, kept_number in rows.values_list(*columns):
        is_same_number = number and country == jurisdiction and _bare(kept_number) == number
        ratio = 2.0 if is_same_number else _ratio(key, kept_key or name_key(name))
        if ratio >= ALIKE:
            likeness[pk] = ratio
    likeliest = sorted(likeness, key=lambda pk: likeness[pk], reverse=True)[:SHOWN]
    found = DataOwner.objects.in_bulk(likeliest)
    return [found[pk] for pk in likeliest]


def _bare(registry_number: str) -> str:
    return re.sub(r"[\s.\-/]", "", registry_number).casefold()


def _ratio(one: str, other: str) -> float:
    if one == other:
        return 1.0
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if matcher.real_quick_ratio() < ALIKE or matcher.quick_ratio() < ALIKE:
        return 0.0
    return matcher.ratio()
