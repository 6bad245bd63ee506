"""How far a withdrawal is, for the live page."""

from __future__ import annotations

from dataclasses import dataclass

from governance.models import Build, FollowUp, Withdrawal
from governance.services import builds, withdrawals
from governance.vocabulary import CertificateStage, FollowUpKind


@dataclass(frozen=True)
class WithdrawalProgress:
    """The live counter and what still has to follow.

    `took_ms` is from commit to settled, None while it is being enforced. `rebuilt` is the build
    that serves, or served, without the expert. `stages` are the certificates this withdrawal will
    get: an expert that was never in a build has none of a rebuild.
    """

    confirmed: int
    runners: int
    took_ms: int | None
    rebuilt: Build | None
    stages: tuple[CertificateStage, ...]
    follow_ups: tuple[FollowUp, ...]


def withdrawal_progress(withdrawal: Withdrawal) -> WithdrawalProgress:
    """Where a withdrawal stands now."""
    follow_ups = tuple(
        FollowUp.objects.filter(subject_kind="withdrawal", subject_id=withdrawal.pk).order_by(
            "opened_at", "kind"
        )
    )
    wanted = {row.order.get("stage") for row in follow_ups if row.kind == FollowUpKind.CERTIFY}
    took = withdrawal.quiesced_at - withdrawal.committed_at if withdrawal.quiesced_at else None
    return WithdrawalProgress(
        **withdrawals.progress(withdrawal),
        took_ms=None if took is None else round(took.total_seconds() * 1000),
        rebuilt=builds.answering(withdrawal),
        stages=tuple(stage for stage in CertificateStage if stage in wanted),
        follow_ups=follow_ups,
    )
