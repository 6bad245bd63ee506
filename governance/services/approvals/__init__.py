"""Approvals: what one person asks for and others decide, each step by people who did not ask.

The engine knows requests, steps and acts. What an approval brings about is done by the service of
the thing itself, in the same transaction as the last signature; `services.signoffs` finds it.
"""

from governance.services.approvals.acts import (
    Signed,
    attach,
    comment,
    hand_over,
    may_decide,
    pause,
    refuse,
    resume,
    send_back,
    sign,
    take_back,
)
from governance.services.approvals.changes import propose
from governance.services.approvals.requests import (
    approved,
    ask,
    check_unchanged,
    is_unchanged,
    opened,
    required,
    spend,
    standing,
    void,
)
from governance.services.approvals.routes import Route, Step, adopt, chosen, in_force
from governance.services.approvals.seats import (
    check_eyes,
    end_absence,
    record_absence,
    requesters,
    set_group,
    whom,
)
from governance.services.approvals.subjects import Subject

__all__ = [
    "Route",
    "Signed",
    "Step",
    "Subject",
    "adopt",
    "approved",
    "ask",
    "attach",
    "check_eyes",
    "check_unchanged",
    "chosen",
    "comment",
    "end_absence",
    "hand_over",
    "in_force",
    "is_unchanged",
    "may_decide",
    "opened",
    "pause",
    "propose",
    "record_absence",
    "refuse",
    "requesters",
    "required",
    "resume",
    "send_back",
    "set_group",
    "sign",
    "spend",
    "standing",
    "take_back",
    "void",
    "whom",
]
