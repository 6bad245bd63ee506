"""Log-in rules: nobody signs up, and repeated failures lock one name from one address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.forms import LoginForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


class InvitedOnly(DefaultAccountAdapter):
    """Accounts are made by staff, with a role and, for owners, a membership."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False


class LogInForm(LoginForm):
    """allauth's form in our words; the label says what a placeholder would repeat."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        for name, label in (
            ("login", "E-mail address"),
            ("password", "Password"),
            ("remember", "Stay logged in here"),
        ):
            field = self.fields[name]
            field.label, field.help_text = label, ""
            field.widget.attrs.pop("placeholder", None)


def name_for_lockout(request: HttpRequest, credentials: Mapping[str, Any] | None) -> str:
    """The name tried, lower case, so that capitals give no further tries."""
    given = credentials or {}
    name = given.get("email") or given.get("username") or request.POST.get("login", "")
    return str(name).strip().lower()


def locked_out(
    request: HttpRequest,
    _response: HttpResponse | None = None,
    _credentials: Mapping[str, Any] | None = None,
    *_more: Any,
) -> HttpResponse:
    """The page shown while locked; it says the same whether or not the account exists."""
    return render(request, "account/locked_out.html", status=429)
