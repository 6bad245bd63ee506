"""Notices: who is told of what, in the inbox, by mail and through webhooks.

The log is the outbox. Every act stages its event in its own transaction, so nothing can happen
without being told, and no act pays for the telling: a worker reads the sealed leaves in order and
writes the notices and messages of each. What no act causes (an end that comes near, a duty that is
overdue) is told by `remind`. Every row has a key, so telling twice tells once.
"""

from governance.services.notices.mailing import Mail, mail_failed, mailed, mails_due
from governance.services.notices.reading import (
    acknowledge,
    mark_read,
    of_token,
    prefer,
    preference_of,
    token_of,
    unread,
)
from governance.services.notices.reminders import REMIND_DAYS, remind
from governance.services.notices.stories import RECENT, Told, of_event
from governance.services.notices.telling import tell, tell_of_log

__all__ = [
    "RECENT",
    "REMIND_DAYS",
    "Mail",
    "Told",
    "acknowledge",
    "mail_failed",
    "mailed",
    "mails_due",
    "mark_read",
    "of_event",
    "of_token",
    "prefer",
    "preference_of",
    "remind",
    "tell",
    "tell_of_log",
    "token_of",
    "unread",
]
