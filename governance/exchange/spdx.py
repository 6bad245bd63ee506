"""SPDX 3.0.1 JSON-LD: the corpus as a dataset package, its licence as a relationship. Written only.

Source: SPDX 3.0.1 specification, profiles Core, SimpleLicensing, Software and Dataset. Conformance
to the Dataset profile is not claimed: it asks for a place to download from, and there is none.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from governance.exchange.rights import Exported, Rights, unsaid

MEDIA_TYPE = "application/spdx+json"
_CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
_BECAUSE = "SPDX holds a licence as a name and a text, not as terms."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def export(rights: Rights) -> Exported:
    """A document with the dataset, its rights holder, its licence, and the period it holds for."""
    graph = [_creation(rights), _owner(rights), _dataset(rights), _text(rights), _declared(rights)]
    document = {"@context": _CONTEXT, "@graph": graph}
    instants = {name: rights.terms[name] for name in ("starts_at", "ends_at")}
    said = {name: at and at.replace(microsecond=0) for name, at in instants.items()}
    losses = unsaid(rights.terms, said, reasons={}, because=_BECAUSE)
    body = json.dumps(document, indent=2, ensure_ascii=False).encode()
    return Exported(MEDIA_TYPE, body, losses)


def _creation(rights: Rights) -> dict[str, Any]:
    created = rights.decided_at or rights.terms["starts_at"] or _EPOCH
    return {
        "type": "CreationInfo",
        "@id": "_:creation",
        "specVersion": "3.0.1",
        "created": _second(created),
        "createdBy": [_owner_id(rights)],
    }


def _owner(rights: Rights) -> dict[str, Any]:
    return {
        "type": "Organization",
        "spdxId": _owner_id(rights),
        "creationInfo": "_:creation",
        "name": rights.owner_name or "unnamed",
    }


def _dataset(rights: Rights) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "dataset_DatasetPackage",
        "spdxId": _corpus_id(rights),
        "creationInfo": "_:creation",
        "name": rights.title or rights.corpus or "unnamed",
        "originatedBy": [_owner_id(rights)],
        "software_primaryPurpose": "data",
        "dataset_datasetType": ["text"],
        "dataset_datasetSize": rights.document_count,
    }
    if rights.description:
        found["description"] = rights.description
    if rights.merkle_root:
        found["comment"] = f"Merkle root over the documents: {rights.merkle_root}"
    return found


def _text(rights: Rights) -> dict[str, Any]:
    words = f"Terms of licence {rights.reference or 'draft'}"
    where = f", kept at {rights.policy_url}" if rights.policy_url else ""
    return {
        "type": "simplelicensing_SimpleLicensingText",
        "spdxId": _licence_id(rights),
        "creationInfo": "_:creation",
        "name": rights.reference or "draft",
        "simplelicensing_licenseText": f"{words}{where}. These words grant nothing themselves.",
    }


def _declared(rights: Rights) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "Relationship",
        "spdxId": f"{_licence_id(rights)}:declared",
        "creationInfo": "_:creation",
        "from": _corpus_id(rights),
        "relationshipType": "hasDeclaredLicense",
        "to": [_licence_id(rights)],
    }
    for term, name in (("starts_at", "startTime"), ("ends_at", "endTime")):
        if rights.terms[term] is not None:
            found[name] = _second(rights.terms[term])
    return found


def _second(at: datetime) -> str:
    """SPDX takes whole seconds of UTC; parts of one are cut off."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _owner_id(rights: Rights) -> str:
    return f"urn:reclaim:owner:{rights.owner or 'unnamed'}"


def _corpus_id(rights: Rights) -> str:
    return f"urn:reclaim:corpus:{rights.corpus or 'unnamed'}"


def _licence_id(rights: Rights) -> str:
    return f"urn:reclaim:licence:{rights.reference or 'draft'}"
