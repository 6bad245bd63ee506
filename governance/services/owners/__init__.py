"""Data owners, the people who speak for them, and the roles of our own staff."""

from governance.services.owners.members import (
    add_member,
    appoint,
    change_member,
    check_may_manage,
    check_one_kind,
    may_bind,
    open_account,
    remove_member,
)
from governance.services.owners.names import duplicates, name_key
from governance.services.owners.register import (
    FACTS,
    as_of,
    change,
    check_country,
    move,
    register,
)

__all__ = [
    "FACTS",
    "add_member",
    "appoint",
    "as_of",
    "change",
    "change_member",
    "check_country",
    "check_may_manage",
    "check_one_kind",
    "duplicates",
    "may_bind",
    "move",
    "name_key",
    "open_account",
    "register",
    "remove_member",
]
