"""Every door of the site: those through which somebody decides, and why the others do not.

`test_four_eyes` walks the first kind as whoever asked, and fails for a door that is in neither.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.guards.test_views_are_gated import ALL


def is_pressed(view: Callable[..., Any]) -> bool:
    """Whether a view takes more than reading."""
    rest = getattr(view, "cls", None)
    if rest is not None:
        return any(hasattr(rest, verb) for verb in ("post", "put", "patch", "delete"))
    return "POST" in inspect.getsource(inspect.unwrap(view))


def plain(address: str) -> str:
    """An address without what its parts may look like; its verbs stay."""
    return re.sub(r"\(\?P<(identity|clock)>[^()]*(\([^()]*\)[^()]*)*\)", r"<\1>", address)


PRESSED = {
    plain(address)
    for address, view in ALL.items()
    if not address.startswith(("account/", "v1/")) and is_pressed(view)
}


@dataclass(frozen=True)
class Door:
    """A door that decides: what was asked for, where it is, what is sent, how it refuses."""

    asked: str
    path: str
    sent: Mapping[str, Any] = field(default_factory=dict)
    status: int = 403
    code: str = "four_eyes"
    said: str = "expected a second person"
    is_held_by_the_database: bool = True

    def __str__(self) -> str:
        return f"{self.asked} at {self.path}"


_NOTE = {"note": "Read", "words": "Read"}
_BOARD = (
    "licence", "activation", "key", "waiver", "route", "owner", "consumer", "promotion", "export",
)  # fmt: skip
_BULK = {"row": "{licence}", "confirmed": "1", "reason": "Read"}
_UNAPPROVED = {"code": "not_permitted", "said": "expected an approved request"}
_BY_HAND: Mapping[str, Any] = {"is_held_by_the_database": False, **_UNAPPROVED}
_ACTIVE = {"to": "active"}
_READ = "/legal/licences/{reference}/read-contract/"
_KEY = {"label": "own", "purposes": ["research"]}


def _verbs(asked: str, path: str, *verbs: str) -> tuple[Door, ...]:
    return tuple(Door(asked, path.replace("<verb>", verb), _NOTE) for verb in verbs)


def _board(path: str, *verbs: str) -> tuple[Door, ...]:
    return tuple(door for asked in _BOARD for door in _verbs(asked, path, *verbs))


def _clock(path: str) -> tuple[Door, ...]:
    return (Door("key", path, _NOTE, is_held_by_the_database=False),)


DECIDES: Mapping[str, tuple[Door, ...]] = {
    "legal/licences/<slug:reference>/<slug:verb>/": _verbs(
        "licence", "/legal/licences/{reference}/<verb>/", "approve", "reject", "return"
    ),
    r"api/v1/^licences/(?P<reference>[\w-]+)/(?P<verb>approve|reject|return)$": _verbs(
        "licence", "/api/v1/licences/{reference}/<verb>", "approve", "reject", "return"
    ),
    "lists/<slug:name>/act/": tuple(
        Door("licence", "/lists/licences/act/", {**_BULK, "act": verb})
        for verb in ("approve", "reject")
    ),
    "legal/licences/<slug:reference>/read-contract/": (
        Door("contract", _READ, {"is_match": "yes"}, said="may not confirm it"),
        Door("file", _READ, {"is_match": "yes"}, said="may not confirm it"),
    ),
    "api/v1/licences/<slug:reference>/readings": (
        Door("contract", "/api/v1/licences/{reference}/readings", {"is_match": True}),
        Door("file", "/api/v1/licences/{reference}/readings", {"is_match": True}),
    ),
    "owner/licences/<slug:reference>/countersign/": (
        Door("countersignature", "/owner/licences/{reference}/countersign/"),
    ),
    "api/v1/licences/<slug:reference>/countersignature": (
        Door("countersignature", "/api/v1/licences/{reference}/countersignature"),
    ),
    "legal/revisions/<uuid:identity>/<slug:verb>/": _verbs(
        "activation", "/legal/revisions/{revision}/<verb>/", "approve", "reject"
    ),
    r"api/v1/^revisions/<identity>/"
    r"(?P<verb>request-activation|approve-activation|reject-activation)$": _verbs(
        "activation", "/api/v1/revisions/{revision}/<verb>-activation", "approve", "reject"
    ),
    "legal/approvals/<uuid:identity>/approve/": _board("/legal/approvals/{request}/approve/", ""),
    "legal/approvals/<uuid:identity>/reject/": _board("/legal/approvals/{request}/reject/", ""),
    "legal/approvals/<uuid:identity>/return/": _board("/legal/approvals/{request}/return/", ""),
    r"api/v1/^approvals/<identity>/(?P<verb>approve|reject|return|pause|resume|withdraw)$": (
        *_board("/api/v1/approvals/{request}/<verb>", "approve", "reject", "return"),
        *_clock("/api/v1/approvals/{request}/pause"),
    ),
    "legal/approvals/<uuid:identity>/pause/": _clock("/legal/approvals/{request}/pause/"),
    "legal/approvals/<uuid:identity>/hand-over/": (
        Door(
            "key", "/legal/approvals/{request}/hand-over/", {"to": "{celia}"},
            said="You asked for this", is_held_by_the_database=False,
        ),
    ),
    "api/v1/approvals/<uuid:identity>/hand-over": (
        Door(
            "key", "/api/v1/approvals/{request}/hand-over", {"to": "celia@example.org"},
            is_held_by_the_database=False,
        ),
    ),
    "legal/holds/<uuid:identity>/<slug:verb>/": (
        *_verbs("hold", "/legal/holds/{hold}/<verb>/", "approve", "refuse"),
        *_verbs("standing hold", "/legal/holds/{hold}/<verb>/", "lift"),
    ),
    r"api/v1/^holds/<identity>/(?P<verb>approve|refuse|lift)$": (
        *_verbs("hold", "/api/v1/holds/{hold}/<verb>", "approve", "refuse"),
        *_verbs("standing hold", "/api/v1/holds/{hold}/<verb>", "lift"),
    ),
    "legal/consumers/<slug:slug>/keys/": (
        Door("unapproved key", "/legal/consumers/dara/keys/", _KEY, **_BY_HAND),
    ),
    "api/v1/consumers/<slug:slug>/keys": (
        Door("unapproved key", "/api/v1/consumers/dara/keys", _KEY, **_BY_HAND),
    ),
    "legal/owners/<slug:slug>/move/": (
        Door("unapproved owner", "/legal/owners/cedar-house/move/", _ACTIVE, **_BY_HAND),
    ),
    "api/v1/owners/<slug:slug>/status": (
        Door("unapproved owner", "/api/v1/owners/cedar-house/status", _ACTIVE, **_BY_HAND),
    ),
    "legal/consumers/<slug:slug>/move/": (
        Door("unapproved consumer", "/legal/consumers/nova/move/", _ACTIVE, **_BY_HAND),
    ),
    "api/v1/consumers/<slug:slug>/status": (
        Door("unapproved consumer", "/api/v1/consumers/nova/status", _ACTIVE, **_BY_HAND),
    ),
    "engineer/builds/<int:number>/hand-out/": (
        Door(
            "unapproved export", "/engineer/builds/{number}/hand-out/", {"recipient": "A"},
            **_BY_HAND,
        ),
    ),
    "api/v1/approvals/<uuid:identity>/issue": (
        Door(
            "unapproved key",
            "/api/v1/approvals/{request}/issue",
            status=404,
            code="not_found",
            is_held_by_the_database=False,
        ),
    ),
    "legal/approvals/<uuid:identity>/issue/": (
        Door(
            "unapproved key", "/legal/approvals/{request}/issue/",
            is_held_by_the_database=False, said="nothing here for you",
        ),
    ),
}  # fmt: skip

DECIDES_NOTHING: Mapping[str, set[str]] = {
    "asks for what others decide": {
        "legal/licences/new/", "api/v1/licences", "legal/approvals/ask/key/",
        "legal/approvals/ask/waiver/<uuid:identity>/",
        "legal/approvals/ask/owner/<slug:slug>/", "legal/approvals/ask/consumer/<slug:slug>/",
        "legal/approvals/ask/promotion/<int:number>/", "legal/approvals/ask/export/<int:number>/",
        "api/v1/approvals/owners", "api/v1/approvals/consumers", "api/v1/approvals/promotions",
        "api/v1/approvals/exports", "legal/approvals/routes/new/",
        "legal/approvals/routes/<slug:key>/", "legal/experts/<slug:name>/hold/",
        "engineer/revisions/<uuid:identity>/activation/", "api/v1/approvals/keys",
        "api/v1/approvals/waivers", "api/v1/approval-routes", "api/v1/policy-apply",
        "api/v1/experts/<slug:name>/holds",
    },
    "takes back or ends what is one's own side's; nobody asked for it": {
        "api/v1/absences/<uuid:identity>/end",
        "legal/approvals/<uuid:identity>/take-back/", "legal/approvals/<uuid:identity>/resume/",
        "legal/approvals/absence/<uuid:identity>/end/", "legal/licences/<slug:reference>/end/",
        "legal/licences/<slug:reference>/resume/", "legal/experts/<slug:name>/effect/",
        "effects/experts/<slug:name>/suspend/", "effects/experts/<slug:name>/resume/",
        "owner/experts/<slug:name>/withdraw/",
        "legal/consumers/<slug:slug>/keys/<slug:prefix>/revoke/",
        "api/v1/consumers/<slug:slug>/keys/<slug:prefix>/revoke",
        "api/v1/licences/<slug:reference>/resume", "api/v1/licences/<slug:reference>/end",
        "api/v1/experts/<slug:name>/withdraw", "api/v1/experts/<slug:name>/effect",
        "api/v1/experts/<slug:name>/resume",
    },
    "is the owner's own consent, which no staff may give": {
        "owner/experts/<slug:name>/consent/<slug:reference>/", "api/v1/experts/<slug:name>/consent",
    },
    "lends one's own right; who asked is refused wherever it is used": {
        "api/v1/approval-groups",
        "legal/approvals/absence/", "legal/approvals/groups/", "api/v1/absences",
    },
    "gives a key that exists a new secret, with the same rights": {
        "api/v1/consumers/<slug:slug>/keys/<slug:prefix>/rotate",
        "legal/consumers/<slug:slug>/keys/<slug:prefix>/rotate/",
    },
    "writes down facts, each in a history": {
        "api/v1/owners/<slug:slug>", "api/v1/consumers/<slug:slug>",
        "api/v1/consents/<uuid:identity>/basis", "api/v1/gaps/<uuid:identity>/resolve",
        "api/v1/notices/<uuid:identity>/acknowledged",
        "legal/owners/new/", "legal/owners/<slug:slug>/", "legal/owners/<slug:slug>/edit/",
        "legal/corpora/new/",
        "legal/corpora/<slug:slug>/sources/",
        "legal/corpora/<slug:slug>/sources/<uuid:identity>/strike/",
        "legal/corpora/<slug:slug>/profile/", "legal/corpora/<slug:slug>/sketches/",
        "legal/corpora/<slug:slug>/signals/", "legal/consumers/",
        "legal/consumers/<slug:slug>/edit/",
        "legal/consents/<uuid:identity>/basis/", "legal/due/gaps/<uuid:identity>/",
        "legal/duties/<uuid:identity>/", "legal/statements/",
        "legal/statements/<uuid:identity>/answer/", "owner/statements/<uuid:identity>/remark/",
        "notices/<uuid:identity>/acknowledged/", "notices/acknowledge/<str:token>/",
        "api/v1/owners", "api/v1/consumers", "api/v1/corpora",
        "api/v1/corpora/<slug:slug>/sources", "api/v1/corpora/<slug:slug>/profile",
        "api/v1/corpora/<slug:slug>/sketches", "api/v1/corpora/<slug:slug>/signals",
        "api/v1/licence-templates", "api/v1/contracts", "api/v1/duties/<uuid:identity>/fulfilment",
        "api/v1/statements", "api/v1/statements/<uuid:identity>/remarks",
        "legal/licences/new/contract/",
    },
    "stops or starts a clock that guards no decision": {
        r"api/v1/^clocks/<clock>/<identity>/(?P<verb>pause|resume)$",
        "legal/due/<slug:clock>/<uuid:identity>/<slug:verb>/",
    },
    "says something in a thread": {
        "legal/approvals/<uuid:identity>/comment/", "legal/approvals/<uuid:identity>/attach/",
        "api/v1/approvals/<uuid:identity>/comments", "api/v1/approvals/<uuid:identity>/attachments",
    },
    "orders work whose outcome waits for an approval": {
        "engineer/experts/", "engineer/experts/<slug:name>/training/",
        "engineer/revisions/<uuid:identity>/audit/", "engineer/builds/", "api/v1/experts",
        "api/v1/experts/<slug:name>/training", "api/v1/revisions/<uuid:identity>/audit",
        "api/v1/builds",
    },
    "reads, previews or checks": {
        "legal/exchange/", "legal/licences/new/preview/", "legal/licences/new/import/",
        "legal/log/verify/", "receipts/check/", "api/v1/imports", "api/v1/licences/preview",
        "api/v1/policy-plan", "playground/answer/",
    },
    "is about one's own mail, hooks, filters and keys, which may no more than oneself": {
        "api/v1/notices/preferences",
        "api/keys/", "api/keys/<slug:prefix>/revoke/", "api/v1/me/keys",
        "api/v1/me/keys/<slug:prefix>/revoke",
        "notices/read/", "notices/preferences/", "notices/webhooks/",
        "notices/webhooks/<uuid:identity>/<slug:verb>/",
        "notices/webhooks/<uuid:identity>/replay/<uuid:message>/", "api/v1/notices/read",
        "api/v1/webhooks", "api/v1/webhooks/messages/<uuid:identity>/replay",
        r"api/v1/^webhooks/<identity>/(?P<verb>test|secret|disable)$", "lists/<slug:name>/save/",
        "lists/saved/<uuid:identity>/forget/",
    },
    "invites people, who accept by themselves, or lets them go": {
        "api/v1/staff", "api/v1/owners/<slug:slug>/people", "api/v1/members/<uuid:identity>/role",
        "api/v1/members/<uuid:identity>/remove", "api/v1/invitations/<uuid:identity>/resend",
        "api/v1/invitations/<uuid:identity>/revoke",
        "legal/staff/", "legal/owners/<slug:slug>/members/", "people/of/<slug:slug>/",
        "people/members/<uuid:identity>/role/", "people/members/<uuid:identity>/remove/",
        "people/invitations/<uuid:identity>/resend/", "people/invitations/<uuid:identity>/revoke/",
    },
}  # fmt: skip
