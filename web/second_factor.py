"""Where `RECLAIM_STAFF_MFA` says so, our staff sees no page before it has a second factor."""

from __future__ import annotations

from collections.abc import Callable

from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from governance.models import Account
from web import access

_SPARED = ("/account/", "/static/", "/v1/")
"""Where the factor is set up, what pages are drawn with, and the gateway, which knows no staff."""


class StaffNeedsSecondFactor:
    """Middleware, after the person is known."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._answer = answer

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not settings.RECLAIM_STAFF_MFA or request.path.startswith(_SPARED):
            return self._answer(request)
        account = request.user
        is_staff = isinstance(account, Account) and access.person(request).has(*access.STAFF)
        if not is_staff or is_mfa_enabled(account):
            return self._answer(request)
        if request.path.startswith("/api/"):
            problem = {
                "type": "about:blank",
                "title": "A second factor is needed",
                "status": 403,
                "detail": "Expected a second factor for staff, found none. Set one up at "
                "/account/2fa/.",
            }
            return JsonResponse(problem, status=403, content_type="application/problem+json")
        messages.info(request, "Set up a second factor first; staff need one here.")
        return redirect("mfa_index")
