"""A consent record as JSON-LD of the W3C Data Privacy Vocabulary (DPV 2.x), our own mapping.

The shape follows the profile for ISO/IEC TS 27560 of the DPV guide: header, process, parties,
events. Where DPV has no term of its own for a word of ours, the nearest wider one is given and our
word stands beside it, as `dct:identifier` or `dct:title`, so that nothing is lost and nothing is
claimed. Pure: a receipt in, a document out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PROFILE: Final = "https://w3id.org/dpv/schema/dpv-27560#record"
CONTEXT: Final = {
    "dpv": "https://w3id.org/dpv#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "loc": "https://w3id.org/dpv/loc#",
    "dct": "http://purl.org/dc/terms/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "reclaim": "https://reclaim.example/vocabulary#",
}

_STATUS: Final = {
    "requested": "dpv:ConsentRequested",
    "deferred": "dpv:ConsentRequestDeferred",
    "refused": "dpv:ConsentRefused",
    "given": "dpv:ConsentGiven",
    "renewed": "dpv:RenewedConsentGiven",
    "withdrawn": "dpv:ConsentWithdrawn",
    "revoked": "dpv:ConsentRevoked",
    "expired": "dpv:ConsentExpired",
    "invalidated": "dpv:ConsentInvalidated",
    "unknown": "dpv:ConsentUnknown",
}
_TYPE: Final = {
    "implied": "dpv:ImpliedConsent",
    "expressed": "dpv:ExpressedConsent",
    "explicit": "dpv:ExplicitlyExpressedConsent",
}
_BASIS: Final = {
    "contract": "dpv:Contract",
    "consent": "dpv:Consent",
    "legitimate_interest": "dpv:LegitimateInterest",
    # DPV knows neither of these two as a legal basis of its own: the wider term, and our word.
    "tdm_exception": "dpv:LegalBasis",
    "public_domain": "dpv:LegalBasis",
}
_PURPOSE: Final = {
    "research": "dpv:ResearchAndDevelopment",
    "academic_research": "dpv:AcademicResearch",
    "industrial_research": "dpv:CommercialResearch",
    "commercial": "dpv:CommercialPurpose",
    "customer_product": "dpv:ServiceProvision",
    "advertising": "dpv:Advertising",
    "public_service": "dpv:PublicBenefit",
}
_PROCESSING: Final = {
    "train": "dpv:Derive",
    "answer": "dpv:Use",
    "merge": "dpv:Combine",
    "audit": "dpv:Assess",
    "redistribute": "dpv:Share",
    "quantise": "dpv:Transform",
    "distil": "dpv:Derive",
    "fine_tune": "dpv:Adapt",
    "tune_router": "dpv:Adapt",
}
_RIGHTS: Final = {
    "withdraw": "eu-gdpr:A7-3",
    "access": "eu-gdpr:A15",
    "rectification": "eu-gdpr:A16",
    "erasure": "eu-gdpr:A17",
    "portability": "eu-gdpr:A20",
    "complaint": "eu-gdpr:A77",
}
_ROLE: Final = {"controller": "dpv:DataController", "pii_principal": "dpv:LegalEntity"}


def export(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The record behind a receipt (`consent.receipt`) as a JSON-LD document.

    An organisation that owns data is no data subject: it stands as `dpv:hasEntity`, with the
    standard's principal in `reclaim:principal`.
    """
    record = f"urn:uuid:{receipt['record_id']}"
    principal = f"{record}#owner:{receipt['pii_principal_id']}"
    return {
        "@context": dict(CONTEXT),
        "@id": record,
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": [{"@id": PROFILE}, receipt["schema_version"]],
        "dct:identifier": receipt["record_id"],
        "dct:created": _instant(receipt["created_at"]),
        "reclaim:recordDigest": receipt["record_digest"],
        "reclaim:previousDigest": receipt["previous_digest"],
        "reclaim:principal": {"@id": principal},
        "dpv:hasEntity": [_party(record, party) for party in receipt["parties"]],
        "dpv:hasNotice": _notice(receipt["notice"]),
        "dpv:hasProcess": _process(record, receipt),
        "dpv:hasConsentStatus": {"@id": _STATUS[receipt["state"]]},
        "dpv:hasActivity": [_event(record, event) for event in receipt["events"]],
    }


def _process(record: str, receipt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": [_term(_PURPOSE, one, "dpv:Purpose") for one in receipt["purposes"]],
        "dpv:hasProcessing": [
            _term(_PROCESSING, one, "dpv:Processing") for one in receipt["processing"]
        ],
        "dpv:hasLegalBasis": _term(_BASIS, receipt["lawful_basis"], "dpv:LegalBasis"),
        "dpv:hasData": [_term({}, one, "dpv:Data") for one in receipt["data_categories"]],
        "dpv:hasDataController": [
            {"@id": f"{record}#{party['party_id']}"}
            for party in receipt["parties"]
            if party["party_role"] == "controller"
        ],
        "dpv:hasDataSource": {"@type": "dpv:DataSource", "dct:title": receipt["collection_method"]},
        "dpv:hasStorageCondition": [
            *({"@type": "dpv:StorageLocation", "dct:title": one}
              for one in receipt["storage_locations"]),
            {"@type": "dpv:StorageDuration", "dct:title": receipt["retention_period"]},
        ],
        "dpv:hasLocation": [
            {"@type": "dpv:Location", "dct:title": one} for one in receipt["processing_locations"]
        ],
        "dpv:hasRule": [
            {"@type": "dpv:Permission", "dpv:hasLocation": {"@id": f"loc:{one}"}}
            for one in receipt["geographic_restrictions"]
        ],
        "dpv:hasService": {"@type": "dpv:Service", "dct:title": receipt["service"]},
        "dpv:hasJurisdiction": {"@id": f"loc:{receipt['jurisdiction']}"},
        "dpv:hasRecipient": [_recipient(one) for one in receipt["recipients"]],
        "dpv:hasConsentControl": {
            "@type": "dpv:WithdrawConsent", "dct:source": receipt["withdrawal_method"],
        },
        "dpv:hasRight": [
            {"@id": _RIGHTS[one]} for one in receipt["privacy_rights"] if one in _RIGHTS
        ],
        "reclaim:licence": receipt["licence"],
    }  # fmt: skip


def _notice(notice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "dpv:ConsentNotice",
        "dct:hasVersion": notice["version"],
        "dct:language": notice["language"],
        "dct:source": notice["url"],
        "dct:description": notice["text"],
        "reclaim:sha256": notice["digest"],
    }


def _party(record: str, party: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "@id": f"{record}#{party['party_id']}",
        "@type": _ROLE.get(party["party_role"], "dpv:LegalEntity"),
        "dct:identifier": party["party_id"],
        "dpv:hasName": party["party_name"],
        "dpv:hasAddress": party.get("party_address", ""),
        "dpv:hasContact": party.get("party_contact", ""),
    }
    return {name: value for name, value in told.items() if value}


def _event(record: str, event: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "@type": "dpv:Process",
        "dct:date": _instant(event["at"]),
        "dpv:hasConsentStatus": {"@id": _STATUS[event["kind"]]},
        "dpv:hasLegalBasis": {"@id": _TYPE[event["consent_type"]]},
        "dpv:isImplementedByEntity": {"@id": f"{record}#{event['entity']}"},
        "dpv:hasIndicationMethod": event["method"],
    }
    until = event["valid_until"]
    return {**told, "dct:valid": _instant(until)} if until else told


def _recipient(recipient: Mapping[str, Any]) -> dict[str, Any]:
    name = recipient.get("party_id") or recipient.get("recipient_class", "any")
    return {"@type": "dpv:Recipient", "dct:identifier": name}


def _term(known: Mapping[str, str], word: str, wider: str) -> dict[str, Any]:
    """DPV's term, or the wider one; our own word always stands beside it."""
    return {"@type": known.get(word, wider), "dct:identifier": word}


def _instant(text: str) -> dict[str, str]:
    return {"@type": "xsd:dateTime", "@value": text}
