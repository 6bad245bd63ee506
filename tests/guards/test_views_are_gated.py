"""Every address stands behind a gate: a page behind one of `web.access`, REST behind a log-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from allauth.urls import urlpatterns as account_patterns
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, get_resolver, path
from rest_framework.permissions import IsAuthenticated
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from web.gateway import views as gateway

GATEWAY = [view for view in vars(gateway).values() if callable(view)]


def patterns_below(
    entries: list[URLPattern | URLResolver], prefix: str = ""
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every address and its view."""
    for entry in entries:
        address = f"{prefix}{entry.pattern}"
        if isinstance(entry, URLResolver):
            yield from patterns_below(entry.url_patterns, address)
        else:
            yield address, entry.callback


def fault_of(address: str, view: Callable[..., Any]) -> str | None:
    """What is wrong with a view, or None."""
    if address.startswith("account/"):
        return None if view in ACCOUNT_VIEWS else "under account/, but not of allauth"
    if address.startswith("v1/"):
        return None if view in GATEWAY else "under v1/, but not of the gateway"
    rest = getattr(view, "cls", None)
    if rest is not None and issubclass(rest, APIView):
        asks = list(rest.permission_classes)
        return None if asks == [IsAuthenticated] else f"asks for {asks}, not for a log-in"
    return None if getattr(view, "gate", "") else "behind no gate of web.access"


ACCOUNT_VIEWS = {view for _, view in patterns_below(account_patterns)}
ALL = dict(patterns_below(get_resolver().url_patterns))


@pytest.mark.parametrize("address", ALL)
def test_a_view_is_gated(address):
    assert fault_of(address, ALL[address]) is None


def test_there_are_views_to_look_at():
    gates = [getattr(view, "gate", "") for view in ALL.values()]
    assert sum(bool(gate) for gate in gates) > 35
    assert sum(hasattr(view, "cls") for view in ALL.values()) > 25


def test_only_these_pages_are_open_to_everyone():
    is_open = {address for address, view in ALL.items() if getattr(view, "gate", "") == "open"}
    assert is_open == {
        "api/^v1/",  # where no operation is: 404 in the API's shape
        "design/",
        "healthz",
        "invitation/<str:token>/",
        "notices/acknowledge/<str:token>/",
        "readyz",
        "receipts/check/",
    }


def test_an_ungated_page_is_found():
    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    ((address, view),) = patterns_below([path("legal/secret/", page)])
    assert fault_of(address, view) == "behind no gate of web.access"


def test_an_open_endpoint_is_found():
    class Open(APIView):
        permission_classes = ()

    assert "not for a log-in" in str(fault_of("api/v1/open", Open.as_view()))


def test_an_endpoint_that_says_nothing_asks_for_a_log_in():
    assert [IsAuthenticated] == api_settings.DEFAULT_PERMISSION_CLASSES
