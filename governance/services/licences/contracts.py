"""The signed file behind a licence: read by a second person, and countersigned by the owner."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from governance.errors import InvalidTerms, NotPermitted, UnlawfulMove
from governance.log import events
from governance.models import (
    Account,
    ContractReading,
    Countersignature,
    Document,
    Licence,
)
from governance.services import eyes, owners, snapshots
from governance.services import terms as terms_of
from governance.services.locks import policy_act
from governance.vocabulary import EventTag, LicenceState, OwnerStatus


def contract_of(licence: Licence) -> Document | None:
    """The signed file the terms name, without its bytes; None where none is attached."""
    return Document.objects.defer("content").filter(pk=licence.contract_digest).first()


def contract_is_confirmed(licence: Licence) -> bool:
    """Whether nothing about a file stands in the way of approval.

    True where no file is attached, or where the newest reading of this file against these terms
    says that they match.
    """
    if not licence.contract_digest:
        return True
    newest = (
        licence.readings.filter(
            terms_digest=licence.terms_digest, contract_digest=licence.contract_digest
        )
        .order_by("-read_at", "-id")
        .first()
    )
    return newest is not None and newest.is_match


def check_contract(licence: Licence) -> None:
    """Refuse to go on while a file is attached that no second person has confirmed.

    Raises:
        UnlawfulMove: not read yet, or the newest reading found a difference.
    """
    if not contract_is_confirmed(licence):
        raise UnlawfulMove(
            f"expected a second person to have read the contract of {licence} against its terms, "
            "found no reading that says they match. Read the file and confirm it, or reject."
        )


def check_owner(licence: Licence) -> None:
    """Refuse to bind an organisation that is not an owner yet.

    Raises:
        UnlawfulMove: it is a prospect.
    """
    owner = licence.corpus.owner
    if owner.status == OwnerStatus.PROSPECT:
        raise UnlawfulMove(
            f"expected {owner} taken on before a licence of it is in force, found it a prospect. "
            "Make it active first."
        )


@transaction.atomic
def read_contract(
    licence: Licence, *, is_match: bool, by: Account, at: datetime, note: str = ""
) -> ContractReading:
    """Note that a second person held the file against the terms, and what came of it.

    Raises:
        FourEyes: who requested the licence or handed in the file may not be its second reader.
        InvalidTerms: a difference without words for it.
        UnlawfulMove: no file is attached, or the licence is decided already.
    """
    found = Licence.objects.select_for_update(of=("self",)).get(pk=licence.pk)
    document = contract_of(found)
    if document is None:
        raise UnlawfulMove(f"expected a signed file with {found}, found none. Nothing to read.")
    if found.state != LicenceState.REQUESTED:
        raise UnlawfulMove(
            f"expected {found} to await a decision, found it {found.state}. Request a new version."
        )
    asked = (found.requested_by_id, document.stored_by_id)
    eyes.check(by, asked=asked, to=f"read the contract of {found}")
    if not is_match and not note.strip():
        raise InvalidTerms(
            "expected words for what differs, found none. Say which clause and which term.",
            fields={"note": "Say which clause and which term differ."},
        )
    reading = ContractReading.objects.create(
        licence=found,
        terms_digest=found.terms_digest,
        contract_digest=found.contract_digest,
        is_match=is_match,
        reader=by,
        note=note.strip(),
        read_at=at,
    )
    events.stage(
        EventTag.LICENCE_CONTRACT_READ,
        subject=f"licence:{found.reference}",
        by=by,
        at=at,
        details={
            "terms_digest": found.terms_digest,
            "contract_digest": found.contract_digest,
            "is_match": is_match,
            "note": reading.note,
        },
    )
    return reading


def countersign(
    licence: Licence, *, by: Account, at: datetime, method: str = "owner page"
) -> Countersignature:
    """The owner's own yes to the terms. A second one gives the first back.

    Where the licence waits for it, it is in force from here on, and policy hears of it.

    Raises:
        NotPermitted: the account may not sign for the owner.
        FourEyes: the account requested or approved it on our side.
        UnlawfulMove: not approved, the terms are not those approved, or the owner is a prospect.
    """
    with policy_act():
        found = (
            Licence.objects.select_for_update(of=("self",))
            .select_related("corpus__owner")
            .get(pk=licence.pk)
        )
        _check_countersigner(found, by)
        standing = Countersignature.objects.filter(licence=found).first()
        if standing is not None:
            return standing
        _check_countersignable(found)
        check_owner(found)
        signature = Countersignature.objects.create(
            licence=found,
            owner=found.corpus.owner,
            terms_digest=found.terms_digest,
            signed_by=by,
            method=method,
            signed_at=at,
        )
        events.stage(
            EventTag.LICENCE_COUNTERSIGNED,
            subject=f"licence:{found.reference}",
            by=by,
            at=at,
            details={"terms_digest": found.terms_digest, "method": method},
        )
        if found.needs_countersignature:
            snapshots.publish(reason=f"licence {found.reference} countersigned", at=at)
    return signature


def _check_countersigner(licence: Licence, by: Account) -> None:
    owner = licence.corpus.owner
    if not owners.may_bind(by, owner):
        raise NotPermitted(
            f"expected an administrator or signatory of {owner}, found {by}. Ask one of them."
        )
    eyes.check(by, asked=[licence.requested_by_id, licence.decided_by_id], to=f"sign {licence}")


def _check_countersignable(licence: Licence) -> None:
    if licence.state != LicenceState.APPROVED:
        raise UnlawfulMove(
            f"expected an approved licence, found {licence} {licence.state}. Legal staff approves "
            "it first."
        )
    if terms_of.digest(licence.corpus, terms_of.of(licence)) != licence.terms_digest:
        raise UnlawfulMove(
            f"expected the terms of {licence} as they were approved, found them changed since. "
            "Nothing was signed; tell legal staff."
        )
