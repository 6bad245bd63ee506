"""Consumers and their API keys."""

from governance.services.consumers.keys import (
    IssuedKey,
    authenticate,
    issue_key,
    may_ask_for,
    may_call,
    playground_keys,
    revoke_key,
    rotate_key,
    take_playground_key,
)
from governance.services.consumers.register import FACTS, change, move, register

__all__ = [
    "FACTS",
    "IssuedKey",
    "authenticate",
    "change",
    "issue_key",
    "may_ask_for",
    "may_call",
    "move",
    "playground_keys",
    "register",
    "revoke_key",
    "rotate_key",
    "take_playground_key",
]
