"""Step-up: a legal act asks that whoever is logged in has shown who they are a short while ago.

A log-in counts, and so does each confirmation since; for an account with a second factor, only one
by its code. What was filled in is kept in the session meanwhile and shown again for one more
press: nothing is done that was not looked at last. An owner's withdrawal never asks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from allauth.account.authentication import get_authentication_records
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect
from rest_framework.request import Request

from governance.errors import NotPermitted
from governance.models import Account, PersonalKey
from web import access

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]
LOGGED_IN, KEPT = "reclaim_logged_in_at", "reclaim_kept_act"
_SAID = {"approve", "reject", "return", "refuse", "lift", "end", "resume", "issue", "rotate"}
MOST_KEPT_CHARACTERS = 100_000
"""A longer form is filled in again; the session is a row in the database."""


class StepUpRequired(NotPermitted):
    """The act needs a fresh proof of who is asking."""

    code = "step_up_required"


@receiver(user_logged_in)
def _remember(request: HttpRequest | None, **_: Any) -> None:
    if request is not None:
        request.session[LOGGED_IN] = time.time()


def is_fresh(request: HttpRequest) -> bool:
    """Whether the person showed who they are within the last RECLAIM_STEP_UP_MINUTES."""
    account = request.user
    if not isinstance(account, Account):
        return False
    shown = [float(request.session.get(LOGGED_IN, 0))]
    has_factor = is_mfa_enabled(account)
    shown += [
        float(record["at"])
        for record in get_authentication_records(request, account)
        if not has_factor or record["method"] == "mfa"
    ]
    return time.time() - max(shown) < settings.RECLAIM_STEP_UP_MINUTES * 60


def check(request: HttpRequest) -> None:
    """Refuse an act of a session that is not fresh.

    Raises:
        StepUpRequired: answered as problem+json with status 403.
    """
    if not is_fresh(request):
        raise StepUpRequired(
            f"expected a log-in or confirmation in the last {settings.RECLAIM_STEP_UP_MINUTES} "
            f"minutes, found an older one. Confirm at {_confirmation(request)} and repeat the act."
        )


def check_rest(request: Request) -> None:
    """The same for a request over REST. A personal key has no log-in to be fresh; its own rights
    and its end bound it.

    Raises:
        StepUpRequired: as `check`.
    """
    if not isinstance(request.auth, PersonalKey):
        check(request._request)  # noqa: SLF001 - DRF offers no public name for it


def required(view: View[P]) -> View[P]:
    """A page's act that asks for a fresh proof first; reading is not asked."""

    @wraps(view)
    def stepped(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.method in ("GET", "HEAD") or is_fresh(request):
            return view(request, *args, **kwargs)
        return _ask(request)

    return stepped


def _ask(request: HttpRequest) -> HttpResponseBase:
    """Keep what was filled in, and send the person to show who they are."""
    fields = [
        [name, value]
        for name, values in request.POST.lists()
        if name != "csrfmiddlewaretoken"
        for value in values
    ]
    is_kept = sum(len(name) + len(str(value)) for name, value in fields) <= MOST_KEPT_CHARACTERS
    request.session[KEPT] = {
        "path": request.get_full_path(),
        "what": _in_words(request.path),
        "fields": fields if is_kept else [],
        "had_files": bool(request.FILES),
        "is_whole": is_kept,
    }
    url = f"{_confirmation(request)}?{urlencode({'next': reverse('stepup-resume')})}"
    if getattr(request, "htmx", False):
        return HttpResponseClientRedirect(url)
    return redirect(url)


def _in_words(path: str) -> str:
    """An act by its address, where that says what is done: “Approve code-v1”; else nothing."""
    *_, subject, verb = ["", *path.strip("/").split("/")]
    is_named = not re.fullmatch(r"[0-9a-f-]{36}", subject)
    return f"{verb.capitalize()} {subject if is_named else ''}".strip() if verb in _SAID else ""


def _confirmation(request: HttpRequest) -> str:
    has_factor = is_mfa_enabled(request.user)
    return reverse("mfa_reauthenticate" if has_factor else "account_reauthenticate")


@access.signed_in_page
def resume(request: HttpRequest) -> HttpResponse:
    """The act that was kept, with everything filled in, for one more press."""
    kept = request.session.get(KEPT)
    if not kept or not is_fresh(request):
        raise Http404
    del request.session[KEPT]
    return render(request, "stepup/resume.html", {"kept": kept})


urlpatterns = [path("confirmed/", resume, name="stepup-resume")]
