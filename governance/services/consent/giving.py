"""Consent asked for, refused, given under a licence, and given again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction

from governance.canonical import canonical_json, plain, sha256_hex
from governance.errors import InvalidTerms, NotCovered, UnlawfulMove
from governance.log import events
from governance.models import Account, ConsentEvent, ConsentRecord, DataOwner, Expert, Licence
from governance.services import suppression
from governance.services.consent.standing import (
    PERMITTING,
    check_may_consent,
    check_speaks_for,
    with_state,
)
from governance.services.terms import plain_words
from governance.vocabulary import (
    ConsentEventKind,
    ConsentType,
    EventTag,
    ExpertState,
    LawfulBasis,
    LicenceState,
    OwnerStatus,
)

CONTROLLER_ID = "controller"
DATA_CATEGORIES = ("corpus_text", "expert_weights", "usage_counts")
"""What is processed: the text while training, the weights, and counts of use. No prompts."""
PRIVACY_RIGHTS = ("withdraw", "access", "rectification", "erasure", "portability", "complaint")
_WAITING = (ConsentEventKind.REQUESTED, ConsentEventKind.DEFERRED)


@transaction.atomic
def give(
    expert: Expert,
    *,
    licence: Licence,
    by: Account,
    at: datetime,
    method: str,
    consent_type: ConsentType = ConsentType.EXPLICIT,
    lawful_basis: LawfulBasis = LawfulBasis.CONTRACT,
) -> ConsentRecord:
    """Consent to what a licence says about an expert. Given again, it is renewed.

    It is valid as long as the licence runs.

    Raises:
        InvalidTerms: implied consent; silence is none (GDPR, recital 32).
        NotPermitted: the person neither may sign for the owner nor is legal staff.
        NotCovered: the licence is not approved, or is about another corpus.
        UnlawfulMove: the expert was withdrawn, or its name or corpus was and that still stands, or
            the owner is not active.
    """
    expert = _locked(expert)
    check_may_consent(expert, by)
    _check_may_stand(expert, licence)
    suppression.check_grant(expert)
    if consent_type == ConsentType.IMPLIED:
        raise InvalidTerms("expected consent that was expressed, found it implied. Ask for it.")
    record = _open_record(expert, licence, (*_WAITING, *PERMITTING))
    annotated: Any = record
    is_renewed = record is not None and annotated.stands_as in PERMITTING
    kind = ConsentEventKind.RENEWED if is_renewed else ConsentEventKind.GIVEN
    record = record or _record(expert, licence, lawful_basis, at)
    told: dict[str, Any] = {
        "method": method,
        "consent_type": consent_type,
        "valid_until": licence.ends_at,
    }
    _note(record, kind, by, at, entity=f"owner:{expert.owner.slug}", **told)
    details = {"record": str(record.pk), "licence": licence.reference, "kind": kind.value}
    subject = f"expert:{expert.name}"
    events.stage(EventTag.CONSENT_GIVEN, subject=subject, by=by, at=at, details=details)
    return record


@transaction.atomic
def ask(
    expert: Expert, *, licence: Licence, by: Account | None, at: datetime, method: str
) -> ConsentRecord:
    """Ask an owner for its consent. Asked already, or given, it gives the first record back.

    Raises:
        NotCovered: the licence is not approved, or is about another corpus.
        UnlawfulMove: the expert was withdrawn, or the owner is not active.
    """
    expert = _locked(expert)
    _check_may_stand(expert, licence)
    found = _open_record(expert, licence, (*_WAITING, *PERMITTING))
    if found is not None:
        return found
    record = _record(expert, licence, LawfulBasis.CONTRACT, at)
    _note(record, ConsentEventKind.REQUESTED, by, at, entity=CONTROLLER_ID, method=method)
    details = {"record": str(record.pk), "licence": licence.reference}
    subject = f"expert:{expert.name}"
    events.stage(EventTag.CONSENT_REQUESTED, subject=subject, by=by, at=at, details=details)
    return record


@transaction.atomic
def refuse(
    expert: Expert, *, licence: Licence, by: Account, at: datetime, method: str, reason: str = ""
) -> ConsentRecord:
    """Say no to what was asked. Repeating it changes nothing.

    Raises:
        NotPermitted: the person speaks neither for the owner nor as legal staff.
        UnlawfulMove: nothing was asked, or it is given already; withdraw it instead.
    """
    expert = _locked(expert)
    check_speaks_for(expert, by)
    refused = _open_record(expert, licence, (ConsentEventKind.REFUSED,))
    record = _open_record(expert, licence, _WAITING)
    if record is None and refused is not None:
        return refused
    if record is None:
        raise UnlawfulMove(
            f"expected consent that was asked for under {licence}, found none waiting. Given "
            "consent is taken back by withdrawing."
        )
    told = {"entity": f"owner:{expert.owner.slug}", "method": method, "reason": reason}
    _note(record, ConsentEventKind.REFUSED, by, at, **told)
    details = {"record": str(record.pk), "licence": licence.reference, "reason": reason}
    subject = f"expert:{expert.name}"
    events.stage(EventTag.CONSENT_REFUSED, subject=subject, by=by, at=at, details=details)
    return record


def record_body(record: ConsentRecord) -> dict[str, Any]:
    """What `record_digest` seals: every column of the record but the digest itself."""
    columns = [field.attname for field in record._meta.concrete_fields]  # noqa: SLF001 - Django's own API
    return {name: plain(getattr(record, name)) for name in columns if name != "record_digest"}


def digest_of(record: ConsentRecord) -> str:
    """SHA-256 of the record as it stands; equal to `record_digest` unless somebody touched it."""
    return sha256_hex(canonical_json(record_body(record)))


def controller() -> dict[str, str]:
    """This installation's operator as a party of ISO/IEC TS 27560, out of the settings."""
    told: Mapping[str, str] = settings.RECLAIM_CONTROLLER
    return {
        "party_id": CONTROLLER_ID,
        "party_name": told["name"],
        "party_role": "controller",
        "party_type": "organisation",
        "party_address": told["address"],
        "party_contact": told["contact"],
        "party_url": told["url"],
    }


def _principal(owner: DataOwner) -> dict[str, str]:
    return {
        "party_id": f"owner:{owner.slug}",
        "party_name": owner.legal_name,
        "party_role": "pii_principal",
        "party_type": "organisation",
        "party_address": owner.postal_address,
        "party_contact": owner.contact_email or owner.signatory_email,
    }


def _recipients(licence: Licence) -> list[dict[str, Any]]:
    """Who gets answers made with the expert: named consumers, or every one the licence lets in."""
    if licence.consumers:
        return [{"party_id": f"consumer:{slug}"} for slug in sorted(licence.consumers)]
    classes = sorted(licence.recipient_classes or []) or ["any"]
    return [{"party_type": "consumer", "recipient_class": name} for name in classes]


def _record(
    expert: Expert, licence: Licence, lawful_basis: LawfulBasis, at: datetime
) -> ConsentRecord:
    told: Mapping[str, str] = settings.RECLAIM_CONTROLLER
    site, notice = settings.RECLAIM_PUBLIC_URL, plain_words(licence)
    before = ConsentRecord.objects.filter(owner=expert.owner).order_by("-created_at", "-id").first()
    record = ConsentRecord(
        owner=expert.owner,
        expert=expert,
        licence=licence,
        controller=told["name"],
        parties=[controller(), _principal(expert.owner)],
        purposes=licence.purposes,
        processing=licence.uses,
        data_categories=list(DATA_CATEGORIES),
        lawful_basis=lawful_basis,
        collection_method="handed over by the owner",
        storage_locations=[told["storage"]],
        retention_period=told["retention"],
        processing_locations=[told["storage"]],
        geographic_restrictions=sorted(licence.territories or []),
        service=f"expert {expert.name}",
        jurisdiction=expert.owner.jurisdiction,
        recipients=_recipients(licence),
        notice_version=licence.reference,
        notice_url=f"{site}/owner/experts/{expert.name}/",
        notice_text=notice,
        notice_digest=sha256_hex(notice.encode()),
        withdrawal_method=f"{site}/owner/experts/{expert.name}/",
        privacy_rights=list(PRIVACY_RIGHTS),
        previous_digest=before.record_digest if before else "",
        created_at=at,
    )
    record.record_digest = digest_of(record)
    record.save(force_insert=True)
    return record


def _note(
    record: ConsentRecord,
    kind: ConsentEventKind,
    by: Account | None,
    at: datetime,
    **told: Any,
) -> ConsentEvent:
    return ConsentEvent.objects.create(record=record, kind=kind, actor=by, at=at, **told)


def _locked(expert: Expert) -> Expert:
    rows = Expert.objects.select_for_update(of=("self",)).select_related("owner", "corpus")
    return rows.get(pk=expert.pk)


def _check_may_stand(expert: Expert, licence: Licence) -> None:
    if expert.state in (ExpertState.WITHDRAWN, ExpertState.ERASED):
        raise UnlawfulMove(
            f"expected an expert that was not withdrawn, found {expert} {expert.state}. A later "
            "consent is a new record: propose a new expert."
        )
    if expert.owner.status != OwnerStatus.ACTIVE:
        raise UnlawfulMove(
            f"expected an owner that deals with us, found {expert.owner} {expert.owner.status}. "
            "Move it to active first."
        )
    if licence.state != LicenceState.APPROVED or licence.corpus_id != expert.corpus_id:
        raise NotCovered(
            f"expected an approved licence of {expert.corpus}, found {licence} of "
            f"{licence.corpus}, {licence.state}. Approve one first."
        )


def _open_record(
    expert: Expert, licence: Licence, kinds: tuple[ConsentEventKind, ...]
) -> ConsentRecord | None:
    """The newest record of the two that is in one of these states, or None."""
    rows = with_state(ConsentRecord.objects.filter(expert=expert, licence=licence))
    rows = rows.filter(stands_as__in=kinds).order_by("-created_at", "-id")
    found: ConsentRecord | None = rows.first()
    return found
