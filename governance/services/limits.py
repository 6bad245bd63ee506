"""How much a key may ask of the machine. It says nothing of what may be used: licences do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from governance.errors import InvalidTerms

if TYPE_CHECKING:  # settings are read before there are models
    from governance.models import ApiKey

MOST = 2_000_000_000
"""The widest limit that can be written down; what needs more needs none."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Requests and tokens a minute, answers under way at once; None leaves it to the installation.

    Raises:
        InvalidTerms: a limit below 1 or above `MOST`.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    answers_at_once: int | None = None

    def __post_init__(self) -> None:
        for name in LIMITS:
            limit = getattr(self, name)
            if limit is not None and not 1 <= limit <= MOST:
                raise InvalidTerms(
                    f"expected {name} of 1 to {MOST}, found {limit}. Leave it out for none.",
                    fields={name: f"A whole number from 1 to {MOST}, or nothing."},
                )

    @classmethod
    def taken_from(cls, given: dict[str, Any]) -> Self:
        """The limits among what was handed in, which are taken out of it."""
        return cls(**{name: given.pop(name, None) for name in LIMITS})

    @classmethod
    def of(cls, source: ApiKey | Mapping[str, Any]) -> Self:
        """Those of a key, or of an approved request for one."""
        found = source if isinstance(source, Mapping) else vars(source)
        return cls(**{name: found.get(name) for name in LIMITS})

    def over(self, defaults: KeyLimits) -> KeyLimits:
        """These, and where there is none the default."""
        return KeyLimits(*(getattr(self, name) or getattr(defaults, name) for name in LIMITS))


LIMITS = tuple(one.name for one in fields(KeyLimits))
