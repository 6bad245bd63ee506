"""What a withdrawal waits for: quiesce, erase, certify. No torch, nothing slow.

QUIESCE is the coordinator of the lease protocol (W2): it counts acknowledgements, or waits one
lease length on its own monotonic clock since it saw the commit. One that takes over from another
starts its wait again: later, never wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.utils import timezone

from governance import keys
from governance.models import RunnerLease, Withdrawal
from governance.services import holds, withdrawals
from governance.services.leases import CLOCK_MARGIN
from governance.vocabulary import CertificateStage, FollowUpKind
from worker.celery import ERRANDS, app
from worker.tasks import erasing
from worker.tasks.courier import Carrier, Evidence, Later, carry

FIRST_LOOK_S, LONGEST_LOOK_S = 0.005, 0.025
HOLD_LOOK_S = 60.0
"""How often a held erasure asks whether the hold is over; lifting one asks at once."""


@app.task(name=ERRANDS[FollowUpKind.QUIESCE].task)
def quiesce(follow_up_id: str) -> bool:
    """Wait until no runner can still release what the withdrawn expert made (W2, W3)."""
    return carry(follow_up_id, _quiesce)


@app.task(name=ERRANDS[FollowUpKind.ERASE].task)
def erase(follow_up_id: str) -> bool:
    """Destroy every copy of the withdrawn expert that we hold, and list what was destroyed."""
    return carry(follow_up_id, _erase)


@app.task(name=ERRANDS[FollowUpKind.CERTIFY].task)
def certify(follow_up_id: str) -> bool:
    """Issue the certificate of one stage."""
    return carry(follow_up_id, _certify)


def _quiesce(carrier: Carrier) -> Evidence:
    withdrawal = Withdrawal.objects.get(pk=carrier.row.subject_id)
    settle(withdrawal, carrier.check)
    withdrawal.refresh_from_db()
    return {
        "quiesced_by": withdrawal.quiesced_by,
        "quiesced_at": withdrawal.quiesced_at.isoformat() if withdrawal.quiesced_at else None,
        "settled": withdrawal.settled,
    }


def settle(withdrawal: Withdrawal, check: Callable[[], None]) -> None:
    """Wait until the withdrawal is true on every runner, and have that written down (W2, W3).

    `withdrawal` was read before; `check` is called between looks and may raise to end the wait.
    """
    # The commit was seen before this instant. Monotonic time stands still while a machine is
    # suspended, so the wait can only become longer.
    seen_s = time.monotonic()
    pause_s = FIRST_LOOK_S
    while True:
        waited_s = time.monotonic() - seen_s
        # The look takes no lock: settling holds off every renewal, so it is tried when it is due.
        # And the instant of effect is read after the look, never before an acknowledgement.
        if is_due(withdrawal, waited_s) and withdrawals.try_settle(
            withdrawal, waited_s=waited_s, at=timezone.now()
        ):
            return
        check()
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_LOOK_S)


def is_due(withdrawal: Withdrawal, waited_s: float) -> bool:
    """Whether no open lease is behind, or the longest of them has run out by our clock."""
    leases = RunnerLease.objects.filter(closed_at=None).values_list("applied_epoch", "lease_s")
    found = list(leases)
    longest_s = max([withdrawal.lease_s, *(lease_s for _, lease_s in found)])
    is_acked = all(epoch >= withdrawal.policy_epoch for epoch, _ in found)
    return is_acked or waited_s >= longest_s * (1 + CLOCK_MARGIN)


def _erase(carrier: Carrier) -> Evidence:
    withdrawal = Withdrawal.objects.select_related("expert").get(pk=carrier.row.subject_id)
    if withdrawal.erased_at is not None:
        return dict(withdrawal.erasure)
    hold = holds.standing(withdrawal.expert, at=timezone.now())
    if hold is not None:
        raise Later(f"sealed by a legal hold until {hold.until_at:%d %B %Y}", HOLD_LOOK_S)
    runners = erasing.require_unloaded(withdrawal, at=timezone.now())
    places = erasing.Places(home=settings.RECLAIM_HOME, store=settings.RECLAIM_STORE)
    evidence: dict[str, Any] = {
        "runners": runners,
        **erasing.erase(withdrawal.expert, places, carrier.report),
    }
    carrier.check()
    withdrawals.record_erased(withdrawal, evidence=evidence, at=timezone.now())
    return evidence


def _certify(carrier: Carrier) -> Evidence:
    # Imported here: it brings a PDF writer, which quiescing must not wait for.
    from governance.services import certificates

    withdrawal = Withdrawal.objects.get(pk=carrier.row.subject_id)
    stage = CertificateStage(carrier.row.order["stage"])
    issued = withdrawal.certificates.filter(stage=stage).first()
    if issued is None:
        signer = keys.load_or_create(settings.RECLAIM_KEYS, "certificate")
        issued = certificates.issue(withdrawal, stage=stage, signer=signer, at=timezone.now())
    return {"stage": stage.value, "certificate": str(issued.pk), "digest": issued.digest}
