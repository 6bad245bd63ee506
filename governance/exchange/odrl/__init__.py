"""ODRL 2.2 (W3C Recommendation, 15 February 2018): a licence out, a policy in.

Out, nothing is lost: what ODRL cannot say stands under our profile's namespace
`https://reclaim.example/ns/odrl#`. In, nothing is widened (`reading`).
"""

from __future__ import annotations

import json
from typing import Any

from governance.exchange.odrl.reading import load
from governance.exchange.odrl.writing import policy
from governance.exchange.rights import Exported, Rights, of, unsaid

__all__ = ["MEDIA_TYPE", "export", "load", "written"]

MEDIA_TYPE = "application/ld+json"


def export(licence: object) -> dict[str, Any]:
    """The policy (JSON-LD, compact) of a licence row, of terms, or of a mapping of their fields."""
    return policy(of(licence))


def written(rights: Rights) -> Exported:
    """The policy as a file. It is read back, and whatever did not survive is a loss."""
    body = json.dumps(policy(rights), indent=2, ensure_ascii=False).encode()
    back = load(body).terms_fields
    losses = unsaid(rights.terms, back, reasons={}, because="Our ODRL profile does not carry it.")
    return Exported(media_type=MEDIA_TYPE, body=body, losses=losses)
