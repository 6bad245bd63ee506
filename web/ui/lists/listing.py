"""What a list is: its rows, how they are filtered and ordered, its columns, its bulk acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, QueryDict
from django_filters import FilterSet

from governance.models import SavedFilter
from web import access

ROWS_A_PAGE = 25
_OWN_WORDS = frozenset({"page", "sort"})
"""Query words that are the list's own and no filter."""


@dataclass(frozen=True)
class Column:
    """One column of an export: its title, and the value of a row."""

    title: str
    value: Callable[[Any], Any]


@dataclass(frozen=True)
class BulkAct:
    """One act that can be done to every row of a filter, row by row, each in its own transaction.

    `act(row, by, at, reason)` raises `GovernanceError` where it refuses; `about` says in words what
    happens to a row.
    """

    code: str
    label: str
    about: str
    act: Callable[..., object]
    asks_reason: bool = False
    is_danger: bool = False


@dataclass(frozen=True)
class Shown:
    """One page of a list, with what its toolbar needs."""

    listing: Listing
    page: Page[Any]
    form: Any
    saved: tuple[SavedFilter, ...]
    query: str
    is_filtered: bool

    @property
    def rows(self) -> Any:
        """The rows of the page."""
        return self.page.object_list


@dataclass(frozen=True)
class Listing:
    """A list by name. `rows(request)` answers 404 to whoever may not see it: it is the gate.

    `sorts` maps the words of `?sort=` to fields; `address` is the name of the page's route.
    """

    name: str
    noun: str
    address: str
    rows: Callable[[HttpRequest], QuerySet[Any]]
    filters: type[FilterSet]
    sorts: Mapping[str, str]
    default_sort: str
    columns: tuple[Column, ...]
    key: str = "pk"
    acts: tuple[BulkAct, ...] = ()
    rows_a_page: int = field(default=ROWS_A_PAGE)

    def __post_init__(self) -> None:
        if self.name in _LISTINGS:
            raise ValueError(f"expected each listing once, found {self.name!r} twice")
        _LISTINGS[self.name] = self

    def shown(self, request: HttpRequest) -> Shown:
        """The page the request asks for. An unknown order or page is the first of its kind."""
        found = self.filters(request.GET, queryset=self.rows(request))
        page = Paginator(self.ordered(found.qs, request.GET), self.rows_a_page)
        query = filter_query(request.GET)
        return Shown(
            listing=self,
            page=page.get_page(request.GET.get("page")),
            form=found.form,
            saved=self.saved_by(request),
            query=query,
            is_filtered=is_narrowed(query),
        )

    def matching(self, request: HttpRequest, query: str) -> QuerySet[Any]:
        """Every row that `query` (as in the address of a page) asks for, in its order."""
        asked = QueryDict(query)
        return self.ordered(self.filters(asked, queryset=self.rows(request)).qs, asked)

    def ordered(self, rows: QuerySet[Any], asked: QueryDict) -> QuerySet[Any]:
        """`rows` in the order asked for; the key breaks ties, so that pages never overlap."""
        sort = asked.get("sort") or self.default_sort
        name = sort.lstrip("-")
        if name not in self.sorts:
            sort, name = self.default_sort, self.default_sort.lstrip("-")
        return rows.order_by(("-" if sort.startswith("-") else "") + self.sorts[name], "pk")

    def act(self, code: str) -> BulkAct:
        """The bulk act of that code.

        Raises:
            Http404: there is none.
        """
        found = next((act for act in self.acts if act.code == code), None)
        if found is None:
            raise Http404
        return found

    def saved_by(self, request: HttpRequest) -> tuple[SavedFilter, ...]:
        """The filters this person saved for this list, by name."""
        account = access.person(request).account
        return tuple(SavedFilter.objects.filter(account=account, listing=self.name))


_LISTINGS: dict[str, Listing] = {}


def find(name: str) -> Listing:
    """The listing of that name.

    Raises:
        Http404: there is none.
    """
    found = _LISTINGS.get(name)
    if found is None:
        raise Http404
    return found


def filter_query(asked: QueryDict) -> str:
    """The query of a page without its page number and without empty values."""
    kept = QueryDict(mutable=True)
    for word, values in asked.lists():
        given = [value for value in values if value]
        if word != "page" and given:
            kept.setlist(word, given)
    return kept.urlencode()


def is_narrowed(query: str) -> bool:
    """Whether `query` filters at all, or only orders."""
    return any(word not in _OWN_WORDS for word in QueryDict(query))
