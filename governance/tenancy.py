"""Row-level security: which rows belong to which data owner, said once and held by PostgreSQL.

Every connection carries the setting `reclaim.tenant`: nothing (it sees no owner's row, fail
closed), the identities of the owners a person speaks for, `staff`, or `system` for our own
processes. `OWNED` names each owned table with the foreign keys that lead to its owner; `install`
turns that into policies after every migration. A new table with a way to an owner earns a line in
`OWNED` or a reason in `EXEMPT`; a test of the catalogue fails for one that has neither.

The policies bind the tables' owner too (FORCE), so one database role is enough; a superuser or a
role with BYPASSRLS passes them, and `reclaim doctor` refuses such a role. What they do not cover:
TRUNCATE, and that a unique key tells whether a value is taken (identities are random for that).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.apps import apps
from django.db import DatabaseError, connection, connections, transaction
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

SETTING: Final = "reclaim.tenant"
NOBODY: Final = ""
STAFF: Final = "staff"
SYSTEM: Final = "system"

# A table's columns that lead to its owner, nearest first; any of them is enough. "id" is for the
# owners themselves. Rules are made from these, so the order of the lines does not matter.
OWNED: Final[Mapping[str, tuple[str, ...]]] = {
    "DataOwner": ("id",),
    "Membership": ("owner",),
    "Corpus": ("owner",),
    "CorpusProfile": ("corpus",),
    "CorpusSource": ("corpus",),
    "CorpusSketch": ("corpus",),
    "ReservationSignal": ("corpus",),
    "Licence": ("corpus",),
    "Ending": ("licence", "expert"),
    "ConsentRecord": ("owner",),
    "ConsentEvent": ("record",),
    "Expert": ("owner",),
    "ExpertRevision": ("expert",),
    "Finding": ("revision",),
    "Withdrawal": ("expert",),
    "Certificate": ("withdrawal",),
    "ConsentReceipt": ("record",),
    "OwnerChange": ("owner",),
    "ProcessingActivity": ("expert",),
    "LegalHold": ("expert",),
    "ContractReading": ("licence",),
    "Countersignature": ("owner",),
    "Duty": ("owner",),
    "Quota": ("licence",),
    "QuotaSlice": ("quota",),
    "Statement": ("owner",),
    "StatementRemark": ("statement",),
    "ApprovalRequest": ("owner",),
    "ApprovalStep": ("request",),
    "ApprovalAct": ("request",),
    "Invitation": ("owner",),
    "WebhookEndpoint": ("owner",),
    "WebhookDelivery": ("endpoint",),
    "WebhookAttempt": ("delivery",),
    "Shadow": ("licence",),
}

# Rows that belong to no owner and may be read by any owner; never written by an owner.
COMMON_ROWS: Final[Mapping[str, str]] = {
    # Who is on our staff is no owner's secret, and an act asks whether its actor is.
    "Membership": "owner_id IS NULL",
}

EXEMPT: Final[Mapping[str, str]] = {
    "Build": "a merged whole of all owners' experts; its rows name no terms",
    "ExpertFence": "must bind whoever writes a usage row, so a trigger reads it as anyone",
}

_TENANT = f"current_setting('{SETTING}', true)"
# In a sub-select each is worked out once a statement, not once a row.
_SEES_ALL = f"(SELECT {_TENANT} IN ('{STAFF}', '{SYSTEM}'))"
_IS_OWNER = f"{_TENANT} ~ '^[0-9a-f]{{8}}-'"
_OWNERS = f"(SELECT CASE WHEN {_IS_OWNER} THEN string_to_array({_TENANT}, ',')::uuid[] END)"
# One statement tells who one was and changes it.
_SWAP = """
WITH was AS MATERIALIZED (SELECT coalesce(current_setting('reclaim.tenant', true), '') AS tenant)
SELECT tenant, set_config('reclaim.tenant', %s, false) FROM was
"""
_POLICY, _COMMON_POLICY = "tenancy", "tenancy_common"


# ── The tenant of a connection ───────────────────────────────────────────────────────────────────


def of_owners(identities: Iterable[UUID]) -> str:
    """The tenant that is these owners; of none of them, nobody."""
    return ",".join(sorted(str(identity) for identity in identities))


@contextmanager
def acting_as(tenant: str) -> Iterator[None]:
    """Carry out what is inside as `tenant`, then be again who one was, also after an error."""
    before = _swap(tenant)
    try:
        yield
    finally:
        _come_back(before)


def as_system() -> Any:
    """For the few reads and writes of an act that span owners, such as every policy act.

    Fetch what the act is about before, as the person asking: that is what keeps it theirs.
    """
    return acting_as(SYSTEM)


def take(tenant: str) -> None:
    """Be `tenant` on this thread's connection until `leave`."""
    _swap(tenant)


def leave() -> None:
    """Be nobody in particular again: what this process is by default.

    A connection that cannot be set back is closed, so nobody can inherit it.
    """
    if connection.connection is None or _is_failed():
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"RESET {SETTING}")
    except DatabaseError:
        connection.close()


def now() -> str:
    """Who this connection acts for."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT coalesce({_TENANT}, '')")
        return str(cursor.fetchone()[0])


def be_system() -> None:
    """Make every connection of this process act for the system from its first statement.

    Entry points that are ours alone call it (worker, runner, relay, commands); the web never does.
    It is a start-up option of the connection, so that `RESET` comes back to it.
    """
    for settings in connections.databases.values():
        settings["OPTIONS"] = _system_options(settings)


def be_system_in_this_thread() -> None:
    """`be_system` for the connections of one thread of a process that also serves people."""
    for wrapper in connections.all():
        wrapper.settings_dict = {
            **wrapper.settings_dict,
            "OPTIONS": _system_options(wrapper.settings_dict),
        }


def _system_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(settings.get("OPTIONS") or {})
    asked = str(options.get("options", ""))
    if SETTING not in asked:
        options["options"] = f"{asked} -c {SETTING}={SYSTEM}".strip()
    return options


def _swap(tenant: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(_SWAP, [tenant])
        return str(cursor.fetchone()[0])


def _come_back(before: str) -> None:
    if connection.connection is None or _is_failed():
        return
    try:
        _swap(before)
    except DatabaseError:
        connection.close()
        raise


def _is_failed() -> bool:
    """Whether an open transaction can only be rolled back.

    The setting is part of the transaction: rolling back what failed brings the old one back.
    """
    status = connection.connection.info.transaction_status
    return connection.needs_rollback or status == TransactionStatus.INERROR


# ── The policies in the database ─────────────────────────────────────────────────────────────────


def rule(name: str) -> str:
    """The condition under which a row of the table of model `name` belongs to the tenant."""
    return " OR ".join((_SEES_ALL, *(_through(name, column) for column in OWNED[name])))


def _through(name: str, column: str) -> str:
    if name == "DataOwner":
        return f"id = ANY ({_OWNERS}::uuid[])"
    key: Any = _model(name)._meta.get_field(column)  # noqa: SLF001 - Django's documented API
    target: type[Model] = key.related_model
    if target.__name__ == "DataOwner":
        return f"{key.column} = ANY ({_OWNERS}::uuid[])"
    # The rows of the other table are under their own policy, so this needs no condition.
    there = _table(target.__name__)
    return f"{key.column} IN (SELECT {key.target_field.column} FROM {there})"  # noqa: S608


def _model(name: str) -> type[Model]:
    return apps.get_model("governance", name)


def _table(name: str) -> str:
    return _model(name)._meta.db_table  # noqa: SLF001 - Django's documented API


def statements() -> dict[str, tuple[str, ...]]:
    """What each owned table's security is made of, by table name."""
    found = {}
    for name in OWNED:
        table = _table(name)
        lines = [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"DROP POLICY IF EXISTS {_POLICY} ON {table}",
            f"DROP POLICY IF EXISTS {_COMMON_POLICY} ON {table}",
            f"CREATE POLICY {_POLICY} ON {table} FOR ALL"
            f" USING ({rule(name)}) WITH CHECK ({rule(name)})",
        ]
        if name in COMMON_ROWS:
            condition = f"(SELECT {_IS_OWNER}) AND {COMMON_ROWS[name]}"
            lines.append(
                f"CREATE POLICY {_COMMON_POLICY} ON {table} FOR SELECT USING ({condition})"
            )
        found[table] = tuple(lines)
    return found


def install(using: BaseDatabaseWrapper) -> list[str]:
    """Bring the tables' security to what this version says; the tables that had to change.

    A table that is as it should be is not touched, because changing one waits for its readers.
    """
    changed = []
    with transaction.atomic(using=using.alias), using.cursor() as cursor:
        known = _digests(cursor)
        for table, lines in statements().items():
            digest = _digest(lines)
            if known.get(table) == digest:
                continue
            for line in lines:
                cursor.execute(line)
            cursor.execute(f"COMMENT ON POLICY {_POLICY} ON {table} IS '{digest}'")
            changed.append(table)
    return changed


def missing(using: BaseDatabaseWrapper) -> list[str]:
    """Owned tables whose security is not what this version says, by name."""
    with using.cursor() as cursor:
        known = _digests(cursor)
    return [table for table, lines in statements().items() if known.get(table) != _digest(lines)]


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digests(cursor: Any) -> dict[str, str]:
    """The digest each table's policy carries, of tables whose security is on and forced."""
    cursor.execute(
        "SELECT c.relname, obj_description(p.oid, 'pg_policy') FROM pg_policy p"
        " JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE p.polname = %s AND n.nspname = current_schema()"
        " AND c.relrowsecurity AND c.relforcerowsecurity",
        [_POLICY],
    )
    return {str(table): str(comment) for table, comment in cursor.fetchall()}


def role_passes_policies(using: BaseDatabaseWrapper) -> bool:
    """Whether our database role is one that row-level security does not bind."""
    with using.cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        return bool(cursor.fetchone()[0])


def after_migrate(using: str) -> None:
    """What follows a migration of the database `using`."""
    wrapper = connections[using]
    tables = set(wrapper.introspection.table_names())
    # A test of migrations may have gone back to before the tables.
    if set(statements()) <= tables:
        install(wrapper)
