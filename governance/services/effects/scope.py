"""How far an act reaches: everything, or only some purposes, only some consumers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from django.db.models import QuerySet

from governance.errors import InvalidTerms
from governance.models import Consumer, Ending
from governance.vocabulary import Purpose


@dataclass(frozen=True, slots=True)
class Scope:
    """None is all. With both named, only these consumers and only for these purposes.

    A purpose covers everything below it in the tree.
    """

    purposes: tuple[str, ...] | None = None
    consumers: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, purposes: Iterable[str] | None = None, consumers: Iterable[str] | None = None
    ) -> Self:
        """A scope from what a form or an API hands over; empty lists there mean all."""
        return cls(
            tuple(sorted({str(one) for one in purposes or ()})) or None,
            tuple(sorted({str(one) for one in consumers or ()})) or None,
        )

    @classmethod
    def of_ending(cls, ending: Ending) -> Self:
        """The scope an ending was put into effect with."""
        return cls.of(ending.purposes, ending.consumers)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left outside."""
        return self.purposes is None and self.consumers is None

    @property
    def words(self) -> str:
        """For people: "everything", or what it is limited to."""
        if self.is_everything:
            return "everything"
        parts = []
        if self.purposes is not None:
            parts.append("for " + ", ".join(Purpose(one).label.lower() for one in self.purposes))
        if self.consumers is not None:
            parts.append("by " + ", ".join(self.consumers))
        return "only use " + " ".join(parts)

    def check(self) -> None:
        """Refuse what cannot be named.

        Raises:
            InvalidTerms: a purpose or a consumer that does not exist, or an empty list.
        """
        fields = {}
        odd = sorted(set(self.purposes or ()) - {str(one) for one in Purpose})
        if odd or self.purposes == ():
            fields["purposes"] = f"Choose from the list of purposes, found {', '.join(odd) or '—'}."
        known = set(
            Consumer.objects.filter(slug__in=self.consumers or ()).values_list("slug", flat=True)
            if self.consumers
            else ()
        )
        unknown = sorted(set(self.consumers or ()) - known)
        if unknown or self.consumers == ():
            fields["consumers"] = f"No such consumer: {', '.join(unknown) or '—'}."
        if fields:
            found = "; ".join(f"{name}: {said}" for name, said in fields.items())
            raise InvalidTerms(f"expected a scope that can be read, found {found}", fields=fields)

    def same(self, endings: QuerySet[Ending]) -> QuerySet[Ending]:
        """Those of `endings` that were put into effect with exactly this scope."""
        if self.is_everything:
            return endings.filter(purposes=None, consumers=None)
        listed = {"purposes": self.purposes, "consumers": self.consumers}
        return endings.filter(
            **{name: None if one is None else list(one) for name, one in listed.items()}
        )

    def as_columns(self) -> dict[str, list[str] | None]:
        """The columns of an ending."""
        return {
            "purposes": None if self.purposes is None else list(self.purposes),
            "consumers": None if self.consumers is None else list(self.consumers),
        }


EVERYTHING = Scope()
