"""Where an invitation's link leads: open to whoever holds it, and to nobody else."""

from __future__ import annotations

from allauth.core import ratelimit
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from governance import tenancy
from governance.errors import GovernanceError, NotFound
from governance.models import Account, Invitation
from governance.services import invitations
from web import access
from web.ui import forms


@access.open_page
@sensitive_post_parameters()
@never_cache
def invitation_page(request: HttpRequest, token: str) -> HttpResponseBase:
    """Take up an invitation. Every link that opens nothing gets the same answer."""
    too_often: HttpResponseBase | None = ratelimit.consume_or_429(request, action="invitation")
    if too_often is not None:
        return too_often
    # Nobody is logged in yet; the link alone says which row this is about.
    with tenancy.as_system():
        try:
            found = invitations.find(token, at=timezone.now())
        except NotFound as refusal:
            return render(request, "invitations/gone.html", {"said": refusal.message}, status=404)
        known = invitations.account_of(found)
        if known is not None:
            return _join(request, token, found, known)
        return _begin(request, token, found)


def _begin(request: HttpRequest, token: str, found: Invitation) -> HttpResponseBase:
    """Somebody new: a name and a password."""
    initial = {"full_name": found.full_name}
    form = forms.AcceptForm(request.POST or None, initial=initial, email=found.email)
    if request.method == "POST" and form.is_valid():
        told = {name: form.cleaned_data[name] for name in ("full_name", "password")}
        with forms.refusals_shown(form):
            invitations.accept(token, at=timezone.now(), **told)
            messages.success(request, "Your account is ready. Log in to begin.")
            return redirect("account_login")
    context = {"form": form, "invitation": found}
    return render(request, "invitations/accept.html", context, status=forms.status_of(form))


def _join(request: HttpRequest, token: str, found: Invitation, known: Account) -> HttpResponseBase:
    """Somebody with an account: they must be logged in to it."""
    is_theirs = request.user == known
    if request.method == "POST" and is_theirs:
        try:
            invitations.accept(token, at=timezone.now(), account=known)
            messages.success(request, "The new role is yours.")
        except GovernanceError as refusal:
            messages.error(request, refusal.message)
        return redirect("home")
    context = {"invitation": found, "is_theirs": is_theirs}
    response: HttpResponse = render(request, "invitations/join.html", context)
    return response
