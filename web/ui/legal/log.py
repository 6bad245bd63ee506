"""The log and its verification."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_POST

from governance.log import sequencer
from governance.log.verify import verify
from governance.models import (
    Account,
    LogCheckpoint,
    LogLeaf,
)
from governance.vocabulary import (
    Role,
)
from web import access
from web.ui.legal.rows import ROWS_A_PAGE
from web.ui.lists.paging import stretch


@access.staff_page(Role.LEGAL, Role.AUDITOR)
def log_page(request: HttpRequest) -> HttpResponse:
    """The tamper-evident log, newest first, and its last signed checkpoint."""
    rows = LogLeaf.objects.order_by("-seq")
    page = stretch(rows, request, ROWS_A_PAGE, ("-seq",))
    context = {
        "page": page,
        "events": _told(list(page.object_list)),
        "checkpoint": LogCheckpoint.objects.first(),
    }
    return render(request, "legal/log.html", context)


@access.staff_page(Role.LEGAL, Role.AUDITOR)
@require_POST
def verify_log(request: HttpRequest) -> HttpResponse:
    """Check the whole log now and say what was found."""
    log = sequencer.configured()
    report = verify(log.origin, log.signer.verifier, log.tiles)
    return render(request, "legal/_verification.html", {"report": report})


def _told(leaves: list[LogLeaf]) -> list[dict[str, Any]]:
    """The events of the leaves. The log names accounts by number alone; here they get names."""
    events = [{**json.loads(bytes(leaf.body)), "seq": leaf.seq} for leaf in leaves]
    numbers = {event["by"].removeprefix("account:") for event in events} - {"system"}
    known = {f"account:{one.pk}": str(one) for one in Account.objects.filter(pk__in=numbers)}
    for event in events:
        event["at"] = datetime.fromisoformat(event["at"])
        event["by"] = known.get(event["by"], event["by"])
    return events


urlpatterns = [
    path("log/", log_page, name="log"),
    path("log/verify/", verify_log, name="log-verify"),
]
