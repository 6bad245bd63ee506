"""Consumers and their API keys."""

from governance.services.consumers.keys import (
    IssuedKey,
    authenticate,
    issue_key,
    may_ask_for,
    may_call,
    revoke_key,
    rotate_key,
)
from governance.services.consumers.register import change, move, register

__all__ = [
    "IssuedKey",
    "authenticate",
    "change",
    "issue_key",
    "may_ask_for",
    "may_call",
    "move",
    "register",
    "revoke_key",
    "rotate_key",
]
