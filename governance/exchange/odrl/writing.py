"""A licence as an ODRL 2.2 policy in our profile."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from governance.exchange.odrl.words import (
    ACTIONS,
    CONTEXT,
    COUNTRY,
    CURRENCY,
    DAY_TERMS,
    OWN,
    PLAIN_TERMS,
    PROFILE,
    URN,
)
from governance.exchange.rights import ABSENT, Rights
from governance.vocabulary import TerritoryGroup, Use

Node = dict[str, Any]


def policy(rights: Rights) -> Node:
    """The policy: an Agreement once two people approved it, an Offer before.

    Each permission carries all limits itself, so that a reader who takes one of them alone is
    told everything that narrows it.
    """
    terms = rights.terms
    limits = _limits(terms)
    found: Node = {
        "@context": [CONTEXT, {"reclaim": PROFILE}],
        "@type": "Agreement" if rights.is_agreed else "Offer",
        "uid": f"{URN}licence:{rights.reference or 'draft'}",
        "profile": PROFILE,
        "conflict": "prohibit",
        "assigner": f"{URN}owner:{rights.owner or 'unnamed'}",
        "target": f"{URN}corpus:{rights.corpus or 'unnamed'}",
        "permission": [_rule(use, limits) for use in terms["uses"]],
    }
    if rights.is_agreed:
        found["assignee"] = f"{URN}operator"
    if forbidden := [_rule(use, []) for use in terms["prohibited_uses"]] + _forbidden(terms):
        found["prohibition"] = forbidden
    if obligations := _obligations(terms, found["assigner"]):
        found["obligation"] = obligations
    return found | _own_terms(terms)


def _rule(use: str, limits: list[Node]) -> Node:
    rule: Node = {"action": f"{OWN}{ACTIONS[Use(use)]}"}
    return {**rule, "constraint": limits} if limits else rule


def _forbidden(terms: Mapping[str, Any]) -> list[Node]:
    purposes = terms["prohibited_purposes"]
    if not purposes:
        return []
    return [{"action": "use", "constraint": [limit("purpose", "isAnyOf", _purposes(purposes))]}]


def limit(left: str, operator: str, right: Any, **more: Any) -> Node:
    """One constraint."""
    return {"leftOperand": left, "operator": operator, "rightOperand": right, **more}


def _limits(terms: Mapping[str, Any]) -> list[Node]:
    found = []
    if terms["purposes"] or Use.ANSWER in terms["uses"]:
        found.append(limit("purpose", "isAnyOf", _purposes(terms["purposes"])))
    for name, left, iri in (
        ("consumers", "recipient", _consumer),
        ("recipient_classes", f"{OWN}recipientClass", _class),
        ("sectors", "industry", str),
        ("territories", "spatial", _territory),
    ):
        if terms[name] is not None:
            found.append(limit(left, "isAnyOf", [iri(code) for code in terms[name]]))
        if terms.get(f"excluded_{name}"):
            out = [iri(code) for code in terms[f"excluded_{name}"]]
            found.append(limit(left, "isNoneOf", out))
    if terms["starts_at"] is not None:
        found.append(limit("dateTime", "gteq", _instant(terms["starts_at"])))
    if terms["ends_at"] is not None:
        found.append(limit("dateTime", "lt", _instant(terms["ends_at"])))
    for name, unit in (("max_tokens", "token"), ("max_answers", "answer")):
        if terms[name] is not None:
            found.append(_quota(terms[name], unit, terms["quota_period"]))
    if terms["expert_digest"]:
        found.append(limit("version", "eq", f"sha256:{terms['expert_digest']}"))
    rate = {"@value": repr(terms["max_extraction_rate"]), "@type": "xsd:double"}
    found.append(limit(f"{OWN}extractionRate", "lteq", rate))
    return found


def _quota(most: int, unit: str, period: str) -> Node:
    count = {"@value": str(most), "@type": "xsd:integer"}
    found = limit("count", "lteq", count, unit={"@id": f"{OWN}{unit}"})
    # A reader who ignores the period counts over all time: narrower, never wider.
    return {**found, f"{OWN}period": period} if period else found


def _purposes(codes: list[str]) -> list[Node]:
    return [{"@id": f"{OWN}purpose-{code}"} for code in codes]


def _consumer(slug: str) -> Node:
    return {"@id": f"{URN}consumer:{slug}"}


def _class(code: str) -> Node:
    return {"@id": f"{OWN}class-{code}"}


def _territory(code: str) -> Node:
    return {"@id": f"{OWN}{code}" if code in set(TerritoryGroup) else f"{COUNTRY}{code}"}


def _instant(at: datetime) -> Node:
    return {"@value": at.isoformat(), "@type": "xsd:dateTime"}


def _days(days: int) -> Node:
    return {"@value": f"P{days}D", "@type": "xsd:duration"}


def _obligations(terms: Mapping[str, Any], assigner: str) -> list[Node]:
    found: list[Node] = []
    if terms["is_exclusive"]:
        found.append({"action": "ensureExclusivity", "assignee": assigner})
    if terms["requires_attribution"]:
        found.append({"action": "attribute", "attributedParty": assigner})
    for name, operator, per in (
        ("rate_per_million_tokens", "eq", "million-tokens"),
        ("minimum_per_period", "gteq", "month"),
    ):
        if terms[name]:
            found.append(_payment(str(terms[name]), operator, terms["currency"], per))
    return found + [_duty(duty) for duty in terms["duties"]]


def _payment(amount: str, operator: str, currency: str, per: str) -> Node:
    value = {"@value": amount, "@type": "xsd:decimal"}
    unit = {"@id": f"{CURRENCY}{currency}"}
    refinement = limit("payAmount", operator, value, unit=unit)
    refinement[f"{OWN}per"] = per
    return {"action": [{"rdf:value": {"@id": "odrl:compensate"}, "refinement": [refinement]}]}


def _duty(duty: Mapping[str, Any]) -> Node:
    """A duty keeps its own fields in one place; the ODRL reading of them stands beside it."""
    found: Node = {"@type": f"{OWN}Duty", "action": duty.get("action", "inform")}
    days = duty.get("within_days")
    if isinstance(days, int):
        found["constraint"] = [limit("elapsedTime", "lteq", _days(days))]
    return {**found, f"{OWN}duty": {"@type": "@json", "@value": dict(duty)}}


def _own_terms(terms: Mapping[str, Any]) -> Node:
    found: Node = {}
    for word, name in PLAIN_TERMS.items():
        if terms[name] != ABSENT[name]:
            found[f"{OWN}{word}"] = terms[name]
    for word, name in DAY_TERMS.items():
        if terms[name]:
            found[f"{OWN}{word}"] = _days(terms[name])
    if terms["clauses"]:
        found[f"{OWN}clauses"] = {"@type": "@json", "@value": dict(terms["clauses"])}
    return found
