"""Why each processing activity on an expert is lawful (GDPR article 30 asks for the register)."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import InvalidTerms, NotCovered
from governance.log import events
from governance.models import Account, Expert, Licence, ProcessingActivity
from governance.vocabulary import EventTag, LawfulBasis, LicenceState, Use


@transaction.atomic
def record(
    expert: Expert,
    *,
    activity: Use,
    lawful_basis: LawfulBasis,
    licence: Licence | None = None,
    justification: str = "",
    by: Account | None,
    at: datetime,
) -> ProcessingActivity:
    """Say on which basis an activity rests from now on. The same as what stands changes nothing.

    It is a record for people and reports: what may run is decided by licences alone.

    Raises:
        InvalidTerms: a contract without a licence, or another basis without words why it holds.
        NotCovered: the licence is of another corpus or not approved.
    """
    justification = justification.strip()
    _check_basis(expert, lawful_basis, licence, justification)
    standing = current(expert).get(activity)
    told = (lawful_basis, licence.pk if licence else None, justification)
    if standing is not None and told == (
        standing.lawful_basis, standing.licence_id, standing.justification
    ):  # fmt: skip
        return standing
    row = ProcessingActivity.objects.create(
        expert=expert,
        activity=activity,
        lawful_basis=lawful_basis,
        licence=licence,
        justification=justification,
        recorded_by=by,
        recorded_at=at,
    )
    events.stage(
        EventTag.ACTIVITY_RECORDED,
        subject=f"expert:{expert.name}",
        by=by,
        at=at,
        details={
            "activity": activity.value,
            "lawful_basis": lawful_basis.value,
            "licence": licence.reference if licence else None,
        },
    )
    return row


def _check_basis(
    expert: Expert, lawful_basis: LawfulBasis, licence: Licence | None, justification: str
) -> None:
    if lawful_basis == LawfulBasis.CONTRACT and licence is None:
        raise InvalidTerms(
            "expected the licence that is the contract, found none. Name it.",
            fields={"licence": "Name the licence."},
        )
    if lawful_basis != LawfulBasis.CONTRACT and not justification:
        raise InvalidTerms(
            f"expected words for why {lawful_basis} holds, found none. Say why.",
            fields={"justification": "Say why this basis holds."},
        )
    if licence is not None and (
        licence.corpus_id != expert.corpus_id or licence.state != LicenceState.APPROVED
    ):
        raise NotCovered(
            f"expected an approved licence of {expert.corpus}, found {licence}. Name another."
        )


def current(expert: Expert) -> dict[Use, ProcessingActivity]:
    """The newest record of each activity that has one."""
    rows = ProcessingActivity.objects.filter(expert=expert).select_related("licence")
    newest: dict[Use, ProcessingActivity] = {}
    for row in rows.order_by("recorded_at", "id"):
        newest[Use(row.activity)] = row
    return newest
