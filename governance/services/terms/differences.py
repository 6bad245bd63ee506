"""Two versions side by side, in words."""

from __future__ import annotations

from dataclasses import dataclass

from governance.services.terms.labels import GROUPS, LABELS, said
from governance.services.terms.value import Terms, columns


@dataclass(frozen=True)
class Difference:
    """One term that the newer version says otherwise."""

    field: str
    label: str
    before: str
    after: str


def differences(older: Terms, newer: Terms) -> tuple[Difference, ...]:
    """What changed, term by term, in the order pages show them; order within a list is none."""
    before, after = columns(older), columns(newer)
    return tuple(
        Difference(name, LABELS[name], said(name, older), said(name, newer))
        for group in GROUPS
        for name in group.fields
        if before[name] != after[name]
    )
