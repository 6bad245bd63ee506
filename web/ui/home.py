"""The front door: each role lands on its first page."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from web.ui.context import first_page, roles_of


@login_required
def home(request: HttpRequest) -> HttpResponse:
    url = first_page(roles_of(request.user))
    return redirect(url) if url else render(request, "home_without_role.html")
