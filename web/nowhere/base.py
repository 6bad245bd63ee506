"""The database backend of a process for which no database is named.

Settings still load, so commands that need no database (collect static files, print the API
schema, check types) run on a bare checkout; the first query raises.
"""

from __future__ import annotations

from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.dummy import base


class DatabaseWrapper(base.DatabaseWrapper):
    def ensure_connection(self) -> NoReturn:
        """Raises: ImproperlyConfigured, always."""
        raise ImproperlyConfigured(
            "DATABASE_URL: expected a PostgreSQL database, found none in the environment and no "
            "servers.json in RECLAIM_HOME. To do: set DATABASE_URL, or start the embedded "
            "servers with `reclaim servers` (or `make demo`)."
        )

    def cursor(self, *_args: Any, **_named: Any) -> NoReturn:
        self.ensure_connection()
