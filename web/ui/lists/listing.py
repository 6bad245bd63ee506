"""What a list is: its rows, how they are filtered and ordered, its columns, its bulk acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.paginator import Page
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, QueryDict
from django_filters import FilterSet

from governance.models import SavedFilter
from web import access
from web.ui.lists.paging import Stretch, numbered, stretch

ROWS_A_PAGE = 25
_PLACES = frozenset({"page", "from_row"})
_OWN_WORDS = _PLACES | {"sort"}
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
    happens to a row. `asks_reason` is the label under which the reason is asked for, where it is;
    a legal act asks for a fresh proof of who is asking, as it does on its own page.
    """

    code: str
    label: str
    about: str
    act: Callable[..., object]
    asks_reason: str = ""
    is_danger: bool = False
    is_legal_act: bool = False


@dataclass(frozen=True)
class Shown:
    """One page of a list, with what its toolbar needs."""

    listing: Listing
    page: Page[Any] | Stretch
    form: Any
    saved: tuple[SavedFilter, ...]
    query: str
    is_filtered: bool

    @property
    def rows(self) -> Any:
        """The rows of the page."""
        return self.page.object_list

    @property
    def count_words(self) -> str:
        """How many rows fit the filter, as it is said."""
        if isinstance(self.page, Stretch):
            return self.page.count_words
        return intcomma(self.page.paginator.count)


@dataclass(frozen=True)
class Listing:
    """A list by name. `rows(request)` answers 404 to whoever may not see it: it is the gate.

    `sorts` maps the words of `?sort=` to fields; `address` is the name of the page's route. A list
    that `is_endless` may hold millions of rows: it is paged by place and not counted to its end.
    """

    name: str
    noun: str
    address: str
    rows: Callable[[HttpRequest], QuerySet[Any]]
    filters: type[FilterSet]
    sorts: Mapping[str, str]
    default_sort: str
    columns: tuple[Column, ...]
    acts: tuple[BulkAct, ...] = ()
    rows_a_page: int = ROWS_A_PAGE
    is_endless: bool = False

    def __post_init__(self) -> None:
        if self.name in _LISTINGS:
            raise ValueError(f"expected each listing once, found {self.name!r} twice")
        _LISTINGS[self.name] = self

    def shown(self, request: HttpRequest) -> Shown:
        """The page the request asks for. An unknown order or page is the first of its kind."""
        found = self.filters(request.GET, queryset=self.rows(request))
        order = self.order(request.GET)
        rows = found.qs.order_by(*order)
        query = filter_query(request.GET)
        return Shown(
            listing=self,
            page=stretch(rows, request, self.rows_a_page, order)
            if self.is_endless
            else numbered(rows, request, self.rows_a_page),
            form=found.form,
            saved=self.saved_by(request),
            query=query,
            is_filtered=is_narrowed(query),
        )

    def matching(self, request: HttpRequest, query: str) -> QuerySet[Any]:
        """Every row that `query` (as in the address of a page) asks for, in its order."""
        asked = QueryDict(query)
        found: QuerySet[Any] = self.filters(asked, queryset=self.rows(request)).qs
        return found.order_by(*self.order(asked))

    def order(self, asked: QueryDict) -> tuple[str, str]:
        """The order asked for; the key breaks ties, so that pages never overlap."""
        sort = asked.get("sort") or self.default_sort
        name = sort.lstrip("-")
        if name not in self.sorts:
            sort, name = self.default_sort, self.default_sort.lstrip("-")
        return ("-" if sort.startswith("-") else "") + self.sorts[name], "pk"

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
    """The query of a page without its place and without empty values."""
    kept = QueryDict(mutable=True)
    for word, values in asked.lists():
        given = [value for value in values if value]
        if word not in _PLACES and given:
            kept.setlist(word, given)
    return kept.urlencode()


def is_narrowed(query: str) -> bool:
    """Whether `query` filters at all, or only orders."""
    return any(word not in _OWN_WORDS for word in QueryDict(query))
