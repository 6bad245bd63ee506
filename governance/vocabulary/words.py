"""What all vocabularies share, and the names that are more than text."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

ExpertName = NewType("ExpertName", str)
Digest = NewType("Digest", str)
"""SHA-256 as 64 lowercase hexadecimal characters."""
PolicyEpoch = NewType("PolicyEpoch", int)

PUBLIC_EXPERT = ExpertName("public")
"""The anchor's own expert: under no owner's licence, allowed to everyone."""


class Labelled(StrEnum):
    """A code with words for people: `Role.LEGAL.label == "Legal"`."""

    @property
    def label(self) -> str:
        """The code in sentence case."""
        return self.value.replace("_", " ").capitalize()

    @classmethod
    def choices(cls) -> list[tuple[str, str]]:
        """The pairs a form or a Django field offers."""
        return [(member.value, member.label) for member in cls]
