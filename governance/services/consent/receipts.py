"""What an owner gets to keep of its consent: a receipt, signed, that anybody can check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from governance.canonical import (
    Signer,
    Verifier,
    canonical_json,
    open_envelope,
    seal,
    sha256_hex,
    to_base64,
)
from governance.errors import SignatureInvalid, UnlawfulMove
from governance.log import events
from governance.models import ConsentEvent, ConsentReceipt, ConsentRecord
from governance.services.consent.validator import Fault, faults
from governance.vocabulary import EventTag

PAYLOAD_TYPE = "application/vnd.reclaim.consent-receipt+json"
RECEIPT_TYPE = "https://reclaim.example/consent-receipt/v1"
MAX_BYTES = 256 * 1024
"""A receipt handed in for checking may be this long."""


def receipt(record: ConsentRecord, *, receipt_id: str = "") -> dict[str, Any]:
    """A consent receipt with the fields of ISO/IEC TS 27560:2023, as the owner gets it.

    `at`, `kind` and `consent_type` of an event are the standard's event time, state and type.
    """
    happened = list(record.events.order_by("at", "id"))
    return {
        "schema_version": record.schema_version,
        "receipt_id": receipt_id or str(record.pk),
        "record_id": str(record.pk),
        "record_digest": record.record_digest,
        "previous_digest": record.previous_digest,
        "pii_principal_id": record.owner.slug,
        "pii_principal_name": record.owner.legal_name,
        "controller": record.controller,
        "parties": list(record.parties),
        "service": record.service or f"expert {record.expert.name}",
        "licence": record.licence.reference,
        "purposes": list(record.purposes),
        "processing": list(record.processing),
        "data_categories": list(record.data_categories),
        "lawful_basis": record.lawful_basis,
        "collection_method": record.collection_method,
        "storage_locations": list(record.storage_locations),
        "retention_period": record.retention_period,
        "processing_locations": list(record.processing_locations),
        "geographic_restrictions": list(record.geographic_restrictions),
        "recipients": list(record.recipients),
        "jurisdiction": record.jurisdiction,
        "notice": {
            "language": record.notice_language,
            "version": record.notice_version,
            "url": record.notice_url,
            "digest": record.notice_digest,
            "text": record.notice_text,
        },
        "withdrawal_method": record.withdrawal_method,
        "privacy_rights": list(record.privacy_rights),
        "created_at": record.created_at.isoformat(),
        "state": happened[-1].kind if happened else "unknown",
        "events": [_event(record, event) for event in happened],
    }


def _event(record: ConsentRecord, event: ConsentEvent) -> dict[str, Any]:
    until = event.valid_until
    return {
        "at": event.at.isoformat(),
        "kind": event.kind,
        "consent_type": event.consent_type,
        "entity": event.entity or f"owner:{record.owner.slug}",
        "method": event.method,
        "valid_until": until.isoformat() if until else None,
        "validity_duration": f"P{(until - event.at).days}D" if until else "until withdrawn",
    }


def issue(record: ConsentRecord, *, signer: Signer, at: datetime) -> ConsentReceipt:
    """Sign a receipt of the record as it stands. For the same newest event, the same bytes.

    Raises:
        UnlawfulMove: a mandatory field is missing; the message names each.
    """
    with transaction.atomic():
        found = (
            ConsentRecord.objects.select_for_update(of=("self",))
            .select_related("owner", "expert", "licence")
            .get(pk=record.pk)
        )
        newest = found.events.order_by("-at", "-id").first()
        first = ConsentReceipt.objects.filter(event=newest).first()
        if newest is not None and first is not None:
            return first
        issued = ConsentReceipt(record=found, event=newest, issued_at=at)
        body = receipt(found, receipt_id=str(issued.pk))
        missing = faults(body)
        if newest is None or missing:
            raise UnlawfulMove(
                "expected a record with every mandatory field of ISO/IEC TS 27560, found "
                + "; ".join(str(fault) for fault in missing)
            )
        payload = canonical_json(_statement(body, signer, at))
        envelope = canonical_json(seal(PAYLOAD_TYPE, payload, [signer]))
        issued.envelope, issued.digest = envelope.decode(), sha256_hex(envelope)
        issued.save(force_insert=True)
        events.stage(
            EventTag.RECEIPT_ISSUED,
            subject=f"expert:{found.expert.name}",
            by=None,
            at=at,
            details={"record": str(found.pk), "digest": issued.digest, "key_id": signer.key_id},
        )
    return issued


def _statement(body: Mapping[str, Any], signer: Signer, at: datetime) -> dict[str, Any]:
    return {
        "_type": RECEIPT_TYPE,
        "issued_at": at.isoformat(),
        "receipt": dict(body),
        "signed_by": {"key_id": signer.key_id, "public": to_base64(signer.verifier.public)},
        "verify_with": "python verify.py receipt.json",
        "not_claimed": [
            "that the consent still stands: ask the issuer, or the owner, for a newer receipt",
            "that whoever shows this receipt is the owner",
        ],
    }


@dataclass(frozen=True)
class Checked:
    """What came of checking a receipt: sound only if nothing stands in `why`."""

    why: tuple[str, ...]
    body: Mapping[str, Any]
    issued_at: str = ""
    key_id: str = ""
    faults: tuple[Fault, ...] = ()

    @property
    def at(self) -> datetime | None:
        """When it was signed, by its own word."""
        return datetime.fromisoformat(self.issued_at) if self.issued_at else None

    @property
    def is_sound(self) -> bool:
        """Whether this installation signed exactly these bytes, and they are a whole receipt."""
        return not self.why


def check(content: bytes, *, verifiers: Iterable[Verifier]) -> Checked:
    """Check a receipt by itself: nothing is looked up, so nothing is shown that it does not hold.

    It says that the bytes are as they were signed, not that the consent still stands.
    """
    if len(content) > MAX_BYTES:
        return Checked((f"expected at most {MAX_BYTES} bytes, found {len(content)}",), {})
    try:
        envelope = json.loads(content)
        payload = open_envelope(envelope, verifiers, payload_type=PAYLOAD_TYPE)
        told = json.loads(payload)
        body, signed_by = told["receipt"], told["signed_by"]["key_id"]
        if told["_type"] != RECEIPT_TYPE or not isinstance(body, dict):
            return Checked(("expected a consent receipt, found another statement",), {})
    except SignatureInvalid as error:
        return Checked((error.message,), {})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Checked((f"expected a signed receipt in JSON, found other text ({error})",), {})
    found = faults(body)
    why = tuple(str(fault) for fault in found)
    return Checked(why, body, told["issued_at"], signed_by, found)
