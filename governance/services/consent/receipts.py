"""What an owner gets to keep of its consent."""

from __future__ import annotations

from typing import Any

from governance.models import ConsentRecord
from governance.services.terms import plain_words


def receipt(record: ConsentRecord) -> dict[str, Any]:
    """A consent receipt with the fields of ISO/IEC TS 27560:2023, as the owner gets it."""
    happened = list(record.events.all())
    return {
        "schema_version": record.schema_version,
        "receipt_id": str(record.pk),
        "record_id": str(record.pk),
        "pii_principal_id": record.owner.slug,
        "pii_principal_name": record.owner.legal_name,
        "controller": record.controller,
        "service": f"expert {record.expert.name}",
        "licence": record.licence.reference,
        "purposes": list(record.purposes),
        "processing": list(record.processing),
        "lawful_basis": record.lawful_basis,
        "jurisdiction": record.jurisdiction,
        "notice": {
            "language": record.notice_language,
            "digest": record.notice_digest,
            "text": plain_words(record.licence),
        },
        "withdrawal_method": record.withdrawal_method,
        "created_at": record.created_at.isoformat(),
        "state": happened[-1].kind if happened else "unknown",
        "events": [
            {"at": event.at.isoformat(), "kind": event.kind, "method": event.method}
            for event in happened
        ],
    }
