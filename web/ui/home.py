"""The front door: each role lands on its first page."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from web import access
from web.ui.context import first_page, roles_of


@access.signed_in_page
def home(request: HttpRequest) -> HttpResponse:
    url = first_page(roles_of(request))
    return redirect(url) if url else render(request, "home_without_role.html")
