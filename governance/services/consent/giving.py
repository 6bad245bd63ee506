"""Consent given under a licence, and given again."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.canonical import sha256_hex
from governance.errors import NotCovered, UnlawfulMove
from governance.log import events
from governance.models import Account, ConsentEvent, ConsentRecord, Expert, Licence
from governance.services.consent.standing import check_speaks_for, standing
from governance.services.terms import plain_words
from governance.vocabulary import ConsentEventKind, EventTag, ExpertState, LicenceState

CONTROLLER = "the operator of this Reclaim installation"
WITHDRAWAL_METHOD = "the owner's page: Withdraw; or POST /api/v1/experts/<name>/withdraw"


@transaction.atomic
def give(
    expert: Expert, *, licence: Licence, by: Account, at: datetime, method: str
) -> ConsentRecord:
    """Consent to what a licence says about an expert. Given again, it is renewed.

    Raises:
        NotPermitted: the person speaks neither for the owner nor as legal staff.
        NotCovered: the licence is not approved, or is about another corpus.
        UnlawfulMove: the expert was withdrawn; a new one must be proposed.
    """
    expert = (
        Expert.objects.select_for_update(of=("self",)).select_related("owner").get(pk=expert.pk)
    )
    check_speaks_for(expert, by)
    if expert.state in (ExpertState.WITHDRAWN, ExpertState.ERASED):
        raise UnlawfulMove(
            f"expected an expert that was not withdrawn, found {expert} {expert.state}. A later "
            "consent is a new record: propose a new expert."
        )
    if licence.state != LicenceState.APPROVED or licence.corpus_id != expert.corpus_id:
        raise NotCovered(
            f"expected an approved licence of {expert.corpus}, found {licence} of "
            f"{licence.corpus}, {licence.state}. Approve one first."
        )
    record = standing(expert).filter(licence=licence).first()
    kind = ConsentEventKind.RENEWED if record else ConsentEventKind.GIVEN
    record = record or ConsentRecord.objects.create(
        owner=expert.owner,
        expert=expert,
        licence=licence,
        controller=CONTROLLER,
        purposes=licence.purposes,
        processing=licence.uses,
        jurisdiction=expert.owner.jurisdiction,
        notice_digest=sha256_hex(plain_words(licence).encode()),
        withdrawal_method=WITHDRAWAL_METHOD,
        created_at=at,
    )
    ConsentEvent.objects.create(record=record, kind=kind, actor=by, method=method, at=at)
    events.stage(
        EventTag.CONSENT_GIVEN,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={"record": str(record.pk), "licence": licence.reference, "kind": kind.value},
    )
    return record
