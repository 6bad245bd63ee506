"""Whose decision an act rests on that invalidates: an authority or a court, its file, a link."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from governance.errors import InvalidTerms
from governance.vocabulary import Instrument

_LENGTHS = {"authority": 200, "authority_reference": 100, "authority_url": 500}
_PRINTABLE = re.compile(r"https://[!#-;=?-~]+")  # what may stand in a Link header unescaped


@dataclass(frozen=True, slots=True)
class Demand:
    """A legal demand (RFC 7725, section 3), as far as it is on record; empty is not said.

    Consumers who are refused because of it are told all of it.
    """

    authority: str = ""
    authority_reference: str = ""
    authority_url: str = ""

    @property
    def words(self) -> str:
        """For people: "Court of Utrecht, file C/16/1, https://…"; empty where nothing is said."""
        file = f"file {self.authority_reference}" if self.authority_reference else ""
        return ", ".join(part for part in (self.authority, file, self.authority_url) if part)

    def as_columns(self) -> dict[str, str]:
        """What is said, as columns of an ending."""
        return {name: said for name in _LENGTHS if (said := getattr(self, name))}

    def check(self, instrument: Instrument) -> None:
        """Refuse what cannot be a demand behind `instrument`.

        Raises:
            InvalidTerms: another instrument than invalidate, no name, or no https address.
        """
        said = self.as_columns()
        fields = {
            name: f"Expected at most {limit} characters, found {len(said[name])}. Shorten it."
            for name, limit in _LENGTHS.items()
            if len(said.get(name, "")) > limit
        }
        if said and instrument != Instrument.INVALIDATE:
            fields["authority"] = (
                f"Expected it with invalidate alone, found {instrument}. Leave it out, or choose "
                "invalidate."
            )
        elif said and not self.authority.strip():
            fields["authority"] = "Expected who ordered it, found no name. Name them."
        if self.authority_url and not _is_address(self.authority_url):
            fields["authority_url"] = (
                f"Expected an address that begins with https://, found {self.authority_url[:60]!r}."
                " Copy it whole."
            )
        if fields:
            found = "; ".join(f"{name}: {problem}" for name, problem in fields.items())
            raise InvalidTerms(f"expected a demand that can be read, found {found}", fields=fields)


def _is_address(url: str) -> bool:
    try:
        return _PRINTABLE.fullmatch(url) is not None and bool(urlsplit(url).hostname)
    except ValueError:
        return False


NO_DEMAND = Demand()
