"""How far a withdrawal is, and which experts went because an authority or a court said so."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from governance.models import Build, Ending, FollowUp, Withdrawal
from governance.policy.types import Ask
from governance.services import builds, withdrawals
from governance.services.effects import Demand
from governance.vocabulary import CertificateStage, FollowUpKind, Instrument, Purpose


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


def voided(names: Collection[str], ask: Ask, at: datetime) -> dict[str, Demand]:
    """Those of these experts that `ask` lost to an authority or a court, in order, and on whose
    demand, as far as that is on record.

    Of all acts that ended use of an expert, or of a licence on its corpus, the latest counts.
    """
    purpose = [one.value for one in Purpose(ask.purpose).lineage]
    acts = (
        Ending.objects.exclude(instrument=Instrument.SUSPEND)
        .filter(Q(purposes=None) | Q(purposes__overlap=purpose), effective_at__lte=at)
        .filter(Q(consumers=None) | Q(consumers__contains=[ask.consumer]))
        .order_by("effective_at", "recorded_at")
    )
    about = ("expert__name", "licence__corpus__experts__name")
    found = acts.filter(Q(expert__name__in=names) | Q(licence__corpus__experts__name__in=names))
    said = ("instrument", "authority", "authority_reference", "authority_url")
    latest: dict[str | None, tuple[str, ...]] = {}
    for *named, instrument, authority, reference, url in found.values_list(*about, *said):
        latest |= dict.fromkeys(named, (instrument, authority, reference, url))
    ended = {name: latest[name] for name in sorted(names) if name in latest}
    return {
        name: Demand(*demand)
        for name, (instrument, *demand) in ended.items()
        if instrument == Instrument.INVALIDATE
    }
