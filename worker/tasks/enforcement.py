"""What a withdrawal waits for: quiesce, erase, certify. No torch, nothing slow.

QUIESCE is the coordinator of the lease protocol (W2): it counts acknowledgements, or waits one
lease length on its own monotonic clock since it saw the commit. One that takes over from another
starts its wait again: later, never wrong.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from governance import keys
from governance.models import Withdrawal
from governance.services import holds, withdrawals
from governance.vocabulary import CertificateStage, FollowUpKind
from worker.celery import ERRANDS, app
from worker.tasks import erasing
from worker.tasks.courier import Carrier, Evidence, Later, carry

log = logging.getLogger(__name__)

SHORTEST_LOOK_S, LONGEST_LOOK_S, LOOK_SHARE = 0.002, 0.05, 0.1
"""A look every tenth of the time waited, so that looking adds at most that much to it."""
CLAIM_S = 3.0
"""A withdrawal is taken over this soon from a worker that died over it."""
HOLD_LOOK_S = 60.0
"""How often a held erasure asks whether the hold is over; lifting one asks at once."""


@app.task(name=ERRANDS[FollowUpKind.QUIESCE].task)
def quiesce(follow_up_id: str) -> bool:
    """Wait until no runner can still release what the withdrawn expert made (W2, W3)."""
    return carry(follow_up_id, _quiesce, claim_s=CLAIM_S)


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
    A database that is away is waited for.
    """
    history = ""
    seen_s = time.monotonic()
    while True:
        # A row seen is a row committed, in the history it was seen in. Monotonic time stands still
        # while a machine is suspended, so the wait can only become longer.
        waited_s = time.monotonic() - seen_s
        try:
            now = withdrawals.look(withdrawal)
            if now.history != history:
                history, seen_s, waited_s = now.history, time.monotonic(), 0.0
            # The look takes no lock: settling holds off every renewal, so it is tried when it is
            # due. And the instant of effect is read after it, never before an acknowledgement.
            if (now.is_acked or now.is_over(waited_s)) and withdrawals.try_settle(
                withdrawal, waited_s=waited_s, at=timezone.now()
            ):
                return
        except (OperationalError, InterfaceError) as error:
            log.warning("%s: the database is away, the wait goes on: %s", withdrawal, error)
            connection.close_if_unusable_or_obsolete()
            waited_s = LONGEST_LOOK_S / LOOK_SHARE
        check()
        time.sleep(min(max(waited_s * LOOK_SHARE, SHORTEST_LOOK_S), LONGEST_LOOK_S))


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
