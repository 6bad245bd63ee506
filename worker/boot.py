"""Django's start-up for processes that are not the web: settings by name, apps loaded once."""

from __future__ import annotations

import os
from typing import Any


def boot() -> None:
    """Load Django's settings and apps, and act for the system; safe to repeat."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
    import django

    django.setup()
    from governance import tenancy

    tenancy.be_system()


def bound_database_waits(seconds: int) -> None:
    """Let no database call of this process hang for longer than `seconds` on a silent network.

    A lease holder that waits on a half-open connection is safe, because its deadline passes, but
    it would come back late; so connecting and unacknowledged bytes both have an end. Asks for a
    server that takes writes, so that a stale standby cannot grant a lease.
    """
    from django.db import connections

    bounds: dict[str, Any] = {
        "connect_timeout": max(2, seconds),
        "tcp_user_timeout": seconds * 1000,
        "target_session_attrs": "read-write",
    }
    options = connections.databases["default"].setdefault("OPTIONS", {})
    for name, value in bounds.items():
        options.setdefault(name, value)
