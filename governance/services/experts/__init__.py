"""Anchors and experts: proposed, trained, submitted, found out about, activated by two people.

An expert that serves keeps serving while a newer revision of it is reviewed.
"""

from governance.services.experts.activation import resume, suspend
from governance.services.experts.admission import (
    approve_activation,
    needs_waiver,
    reject_activation,
    request_activation,
    return_activation,
    take_back_activation,
)
from governance.services.experts.proposals import (
    order_anchor_training,
    order_training,
    propose,
    register_anchor,
)
from governance.services.experts.reviews import (
    order_audit,
    record_finding,
    record_refused,
    record_verified,
    submit,
)

__all__ = [
    "approve_activation",
    "needs_waiver",
    "order_anchor_training",
    "order_audit",
    "order_training",
    "propose",
    "record_finding",
    "record_refused",
    "record_verified",
    "register_anchor",
    "reject_activation",
    "request_activation",
    "resume",
    "return_activation",
    "submit",
    "suspend",
    "take_back_activation",
]
