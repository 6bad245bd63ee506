"""What every page is handed: the navigation of the signed-in account's role, and the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import reverse

from governance.models import PolicySnapshot
from governance.services import notices
from governance.vocabulary import Role
from web import access


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the header; `is_current` is true on the page itself and all pages below it."""

    label: str
    url: str
    is_current: bool


# (label, name of the route). The order is the order of the header.
_ITEMS: Final[dict[Role, tuple[tuple[str, str], ...]]] = {
    Role.LEGAL: (
        ("Home", "legal:home"),
        ("Owners", "legal:owners"),
        ("Corpora", "legal:corpora"),
        ("Licences", "legal:licences"),
        ("Approvals", "legal:approvals"),
        ("Due", "legal:due"),
        ("Consumers", "legal:consumers"),
        ("Consents", "legal:consents"),
        ("Duties", "legal:duties"),
        ("Statements", "legal:statements"),
        ("Decisions", "legal:decisions"),
        ("Playground", "playground:page"),
        ("Exchange", "legal:exchange"),
        ("Staff", "legal:staff"),
        ("Log", "legal:log"),
    ),
    Role.ENGINEER: (
        ("Experts", "engineer:experts"),
        ("Runs", "engineer:runs"),
        ("Builds", "engineer:builds"),
        ("Runners", "engineer:runners"),
        ("Audits", "engineer:audits"),
        ("Playground", "playground:page"),
        ("Approvals", "legal:approvals"),
    ),
    Role.AUDITOR: (
        ("Log", "legal:log"),
        ("Decisions", "legal:decisions"),
        ("Corpora", "legal:corpora"),
        ("Approvals", "legal:approvals"),
    ),
    Role.OWNER: (
        ("My experts", "owner:experts"),
        ("My licences", "owner:licences"),
        ("Statements", "owner:statements"),
        ("Duties", "owner:duties"),
        ("Consents", "owner:consents"),
        ("Certificates", "owner:certificates"),
    ),
}
_HOME: Final = "legal:home"
_FOR_ALL: Final = (("API docs", "api-docs"),)
IN_THE_BAR: Final = 7
"""So many entries stand in the header; the others are one step away, under “More”."""


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Context processor: `nav_items`, `role_label`, `theme`, `policy_epoch` (None: not known)."""
    chosen = request.COOKIES.get("reclaim-theme")
    theme = chosen if chosen in {"light", "dark"} else ""
    account = getattr(request, "user", None)
    if account is None or not account.is_authenticated:
        return {"nav_items": [], "role_label": "", "theme": theme, "policy_epoch": None}
    roles = roles_of(request)
    entries = list(_visible(roles, request.path))
    return {
        "nav_items": entries,
        "nav_bar": entries[:IN_THE_BAR],
        "nav_more": entries[IN_THE_BAR:],
        "nav_more_here": next((one for one in entries[IN_THE_BAR:] if one.is_current), None),
        "role_label": ", ".join(role.label for role in roles),
        "theme": theme,
        "policy_epoch": _policy_epoch(),
        "unread_notices": _unread(account),
        "may_webhooks": bool({Role.LEGAL, Role.OWNER} & set(roles)),
    }


def roles_of(request: HttpRequest) -> tuple[Role, ...]:
    """The roles whoever is asking holds, each once, in the order of the header."""
    return tuple(role for role in _ITEMS if access.person(request).has(role))


def first_page(roles: Sequence[Role]) -> str | None:
    """Where an account lands after log-in; None where no page is for its roles."""
    return next((item.url for item in _visible(roles, path="") if roles), None)


def _visible(roles: Sequence[Role], path: str) -> Iterator[NavItem]:
    entries = dict.fromkeys(entry for role in roles for entry in _ITEMS[role])
    found = [(label, reverse(route)) for label, route in (*entries, *_FOR_ALL)]
    # One room's list may be a prefix of the others: the longest match is where we are. A home
    # page has nothing below it.
    home = reverse(_HOME)
    above = (url for _, url in found if path.startswith(url) and (url != home or path == home))
    here = max(above, key=len, default=None)
    for label, url in found:
        yield NavItem(label, url, is_current=url == here)


def _unread(account: Any) -> int:
    try:
        return notices.unread(account)
    except DatabaseError:
        return 0


def _policy_epoch() -> int | None:
    try:
        return PolicySnapshot.objects.values_list("policy_epoch", flat=True).first()
    except DatabaseError:
        # A footer must not turn an error page into a second error.
        return None
