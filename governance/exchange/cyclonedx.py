"""CycloneDX 1.6: the corpus as a data component with its commercial licensing. Written only.

Source: CycloneDX JSON schema 1.6, `license.licensing` and `componentData`.
"""

from __future__ import annotations

import json
from typing import Any

from governance.exchange.rights import Exported, Rights, unsaid
from governance.vocabulary import PaymentType

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_KINDS = {
    PaymentType.SUBSCRIPTION: "subscription",
    PaymentType.USE: "custom-metric",
    PaymentType.PURCHASE: "perpetual",
}
_BECAUSE = "CycloneDX names the parties, the kind and the end of a licence, and no limits of use."


def export(rights: Rights) -> Exported:
    """A bill of materials with one component, the corpus."""
    slug = rights.corpus or "unnamed"
    component: dict[str, Any] = {
        "type": "data",
        "bom-ref": f"corpus:{slug}",
        "name": rights.title or slug,
        "licenses": [{"license": _licence(rights)}],
        "data": [_content(rights)],
    }
    if rights.description:
        component["description"] = rights.description
    if rights.merkle_root:
        component["properties"] = [{"name": "reclaim:merkleRoot", "value": rights.merkle_root}]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [component],
    }
    said = {"ends_at": rights.terms["ends_at"]}
    losses = unsaid(rights.terms, said, reasons={}, because=_BECAUSE)
    return Exported(MEDIA_TYPE, json.dumps(bom, indent=2, ensure_ascii=False).encode(), losses)


def _licence(rights: Rights) -> dict[str, Any]:
    terms = rights.terms
    kind = _KINDS.get(terms["payment_type"], "other")
    if kind == "perpetual" and terms["ends_at"] is not None:
        kind = "other"
    licensing: dict[str, Any] = {"licenseTypes": [kind]}
    if rights.reference:
        licensing["altIds"] = [rights.reference]
    if rights.owner_name:
        licensing["licensor"] = {"organization": {"name": rights.owner_name}}
    if rights.decided_at is not None:
        licensing["lastRenewal"] = rights.decided_at.isoformat()
    if terms["ends_at"] is not None:
        licensing["expiration"] = terms["ends_at"].isoformat()
    name = f"Licence {rights.reference}" if rights.reference else "Licence"
    return {"name": name, "licensing": licensing}


def _content(rights: Rights) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "dataset", "classification": "confidential"}
    if rights.owner_name:
        owner = {"organization": {"name": rights.owner_name}}
        found["governance"] = {"owners": [owner], "stewards": [owner]}
    return found
