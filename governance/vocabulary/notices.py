"""What people and endpoints are told of, the clocks that run, and the holds that stop one."""

from __future__ import annotations

from governance.vocabulary.words import Labelled


class NoticeKind(Labelled):
    """What a notice tells of. The value is the `type` of a webhook's message."""

    LICENCE_REQUESTED = "licence.requested"
    LICENCE_APPROVED = "licence.approved"
    LICENCE_REJECTED = "licence.rejected"
    LICENCE_ENDED = "licence.ended"
    LICENCE_RESUMED = "licence.resumed"
    LICENCE_EXPIRING = "licence.expiring"
    EXPERT_WITHDRAWN = "expert.withdrawn"
    EXPERT_NARROWED = "expert.narrowed"
    EXPERT_SUSPENDED = "expert.suspended"
    EXPERT_RESUMED = "expert.resumed"
    EXPERT_NOTICE_GIVEN = "expert.notice_given"
    EXPERT_QUIESCED = "expert.quiesced"
    EXPERT_ERASED = "expert.erased"
    CERTIFICATE_ISSUED = "certificate.issued"
    BUILD_CHANGED = "build.changed"
    GAP_FOUND = "policy.gap_found"
    DUTY_OVERDUE = "duty.overdue"
    HOLD_REQUESTED = "hold.requested"
    HOLD_IN_FORCE = "hold.in_force"
    HOLD_LIFTED = "hold.lifted"
    TEST = "webhook.test"

    @property
    def label(self) -> str:
        """The kind in words for a form or a list."""
        return _NOTICE_LABELS[self]


_NOTICE_LABELS = {
    NoticeKind.LICENCE_REQUESTED: "Licence requested",
    NoticeKind.LICENCE_APPROVED: "Licence approved",
    NoticeKind.LICENCE_REJECTED: "Licence rejected",
    NoticeKind.LICENCE_ENDED: "Licence ended or paused",
    NoticeKind.LICENCE_RESUMED: "Licence resumed",
    NoticeKind.LICENCE_EXPIRING: "Licence ends soon",
    NoticeKind.EXPERT_WITHDRAWN: "Expert withdrawn",
    NoticeKind.EXPERT_NARROWED: "Expert withdrawn in part",
    NoticeKind.EXPERT_SUSPENDED: "Expert suspended",
    NoticeKind.EXPERT_RESUMED: "Expert resumed",
    NoticeKind.EXPERT_NOTICE_GIVEN: "Notice given for an expert",
    NoticeKind.EXPERT_QUIESCED: "Expert disabled on every runner",
    NoticeKind.EXPERT_ERASED: "Expert's bytes erased",
    NoticeKind.CERTIFICATE_ISSUED: "Certificate issued",
    NoticeKind.BUILD_CHANGED: "Another build serves",
    NoticeKind.GAP_FOUND: "Licence cannot be read",
    NoticeKind.DUTY_OVERDUE: "Duty overdue",
    NoticeKind.HOLD_REQUESTED: "Legal hold requested",
    NoticeKind.HOLD_IN_FORCE: "Legal hold in force",
    NoticeKind.HOLD_LIFTED: "Legal hold lifted",
    NoticeKind.TEST: "Test message",
}


class MailRhythm(Labelled):
    """When an account's notices are mailed."""

    AT_ONCE = "at_once"
    DAILY = "daily"
    NEVER = "never"


class DeliveryState(Labelled):
    """Where a message to an endpoint stands."""

    DUE = "due"
    DELIVERED = "delivered"
    FAILED = "failed"


class HoldState(Labelled):
    """Where a legal hold stands. Only IN_FORCE, and only until its last day, stops an erasure."""

    REQUESTED = "requested"
    IN_FORCE = "in_force"
    REFUSED = "refused"
    LIFTED = "lifted"


class Clock(Labelled):
    """Deadlines that run. Only some may be paused; the table is in `services.clocks`."""

    LICENCE_END = "licence_end"
    NOTICE = "notice"
    WIND_DOWN = "wind_down"
    HOLD_REVIEW = "hold_review"
    GAP = "gap"
    DUTY = "duty"
    WITHDRAWAL = "withdrawal"
    ACKNOWLEDGEMENT = "acknowledgement"
    FAILED_WORK = "failed_work"
