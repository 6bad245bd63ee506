"""An ODRL 2.2 policy as proposed terms.

The law of this module: an import never widens. A permission with anything in it that we cannot
read is not taken over; a prohibition we cannot read in full forbids more than it says; a duty we
cannot keep takes the permission with it. Only the compact form of JSON-LD is read, with the ODRL
context and plain prefixes beside it: other contexts could give the same words other meanings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from governance.exchange.odrl import limits, merging
from governance.exchange.odrl.duties import Duties
from governance.exchange.odrl.nodes import Names, Node, many, names_of
from governance.exchange.odrl.own import OWN_TERMS, own_terms
from governance.exchange.odrl.words import FORBIDDEN, ODRL, PERMITTED, PROFILE, URN
from governance.exchange.rights import Direction, Imported, Loss, shown, text_of, unreadable
from governance.vocabulary import QuotaPeriod, Use

_WHAT = "an ODRL 2.2 policy in compact JSON-LD"
_GRANTING = {"Set", "Policy", "Offer", "Agreement", "Privacy"}
_SHARED = ("target", "action", "assigner", "assignee")
_IN_A_RULE = {*_SHARED, "uid", "@id", "@type", "constraint", "duty", "remedy"}
_RULES = ("permission", "prohibition", "obligation")


@dataclass
class Reading:
    """What has been understood so far."""

    names: Names
    is_ours: bool
    is_refused: bool = False
    uses: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    permitted: list[limits.Limits] = field(default_factory=list)
    barred: limits.Limits = field(default_factory=limits.Limits)
    duties: Duties = field(default_factory=Duties)
    losses: list[Loss] = field(default_factory=list)

    def lose(self, term: str, value: Any, reason: str, direction: Direction) -> None:
        """Note one loss."""
        self.losses.append(Loss(term, shown(value), reason, direction))


def load(body: bytes) -> Imported:
    """The terms a policy proposes, with what could not be taken over.

    Raises:
        InvalidTerms: no JSON, not the compact form, or a context we do not know.
    """
    policy = _parsed(body)
    names = names_of(policy)
    profiles = {names.iri(one) for one in many(policy.get("profile"))}
    reading = Reading(names=names, is_ours=PROFILE in profiles)
    if why := _void(policy, names):
        reading.lose("policy", why[0], why[1], Direction.REFUSED)
        return Imported({"uses": [], "purposes": []}, tuple(reading.losses))
    for rule in _rules(policy, "permission"):
        _permission(rule, reading)
    for rule in _rules(policy, "prohibition"):
        _prohibition(rule, reading)
    for rule in _rules(policy, "obligation"):
        _obligation(rule, reading)
    own = own_terms(policy, reading.names)
    _others(policy, reading)
    return _concluded(policy, reading, own)


def _parsed(body: bytes) -> Node:
    try:
        found = json.loads(text_of(body, _WHAT))
    except (json.JSONDecodeError, RecursionError) as error:
        raise unreadable(_WHAT, f"no JSON ({error})", "Check that the file is whole.") from error
    if not isinstance(found, dict):
        raise unreadable(
            _WHAT,
            "the expanded form (a list)" if isinstance(found, list) else "a bare value",
            "Compact it with the context http://www.w3.org/ns/odrl.jsonld.",
        )
    if "@graph" in found or any(str(key).startswith(ODRL) for key in found):
        raise unreadable(
            _WHAT,
            "a graph or full IRIs as keys",
            "Compact it with the context http://www.w3.org/ns/odrl.jsonld, one policy a file.",
        )
    return found


def _void(policy: Node, names: Names) -> tuple[str, str] | None:
    """Why nothing of the policy can be taken over: what it holds, and the reason."""
    kinds = {names.local(one) for one in many(policy.get("@type"))}
    if not kinds & _GRANTING:
        return (shown(sorted(kinds)), "A policy of this type grants nothing.")
    if "inheritFrom" in policy:
        return (shown(policy["inheritFrom"]), "The policy it inherits from may forbid more.")
    unknown = set(policy) - {
        *_RULES, *_SHARED, "@context", "@type", "@id", "uid", "profile", "conflict",
    }  # fmt: skip
    for key in sorted(unknown):
        if not names.is_described(key) and names.iri(key) not in OWN_TERMS:
            return (key, "We do not know this property of a policy; it may narrow what is granted.")
    return None


def _rules(policy: Node, kind: str) -> list[Node]:
    """Every rule with what it shares with the others filled in (IM §2.7.2)."""
    shared = {name: policy[name] for name in _SHARED if name in policy}
    found = []
    for rule in many(policy.get(kind)):
        if not isinstance(rule, Mapping):
            # A rule by reference: what it says is not in this file.
            found.append({"reference": rule})
        else:
            found.append({**shared, **rule})
    return found


def _permission(rule: Node, reading: Reading) -> None:
    names = reading.names
    actions = [names.action(one) for one in many(rule.get("action"))]
    uses = {use for action in actions for use in PERMITTED.get(action.iri, ())}
    label = ", ".join(action.label for action in actions) or shown(rule)
    problem = _unreadable_in(rule, reading) or next(
        (f"its action is refined by {shown(a.refinement)}" for a in actions if a.refinement), None
    )
    for action in actions:
        if not problem and action.iri not in PERMITTED:
            reading.lose("uses", action.label, "We do not do this with data.", Direction.REFUSED)
    if problem:
        reading.lose("permission", label, f"Not taken over: {problem}.", Direction.REFUSED)
        return
    if not uses:
        return
    read = limits.read(many(rule.get("constraint")), names, is_ours=reading.is_ours)
    if isinstance(read, str):
        reading.lose("permission", label, f"Not taken over: {read}.", Direction.REFUSED)
        return
    taken = reading.duties.taken(many(rule.get("duty")), names)
    if isinstance(taken, str):
        reading.lose("duties", label, f"Not taken over: {taken}.", Direction.REFUSED)
        return
    if (beside := merging.clash([*reading.permitted, read])) is not None:
        reading.lose("permission", label, f"Not taken over: {beside}.", Direction.REFUSED)
        return
    reading.duties = taken
    _confirm_actions(actions, reading)
    reading.losses.extend(read.losses)
    reading.uses |= {str(use) for use in uses}
    reading.permitted.append(read)


def _confirm_actions(actions: list[Any], reading: Reading) -> None:
    for action in actions:
        if action.iri in PERMITTED and not action.iri.startswith(PROFILE):
            said = " and ".join(use.label.lower() for use in PERMITTED[action.iri])
            reading.lose(
                "uses", action.label, f"Read as: {said}. Nothing further.", Direction.CONFIRM
            )


def _unreadable_in(rule: Node, reading: Reading) -> str | None:
    """What of a permission we cannot read, apart from its constraints and duties."""
    names = reading.names
    for key in sorted(set(rule) - _IN_A_RULE):
        if not names.is_described(key):
            return f"we do not know its property {key}"
    for key in ("target", "assignee", "assigner"):
        for party in many(rule.get(key)):
            if isinstance(party, Mapping) and ("refinement" in party or "constraint" in party):
                return f"its {key} is only a part of a collection"
    return None


def _prohibition(rule: Node, reading: Reading) -> None:
    """What it forbids; a limit of the prohibition that we cannot keep makes it forbid always."""
    names = reading.names
    for raw in many(rule.get("action")) or [None]:
        action = names.action(raw)
        hit = FORBIDDEN.get(action.iri, tuple(Use))
        barred = limits.barred(many(rule.get("constraint")), names)
        if rule.get("remedy"):
            reading.lose("remedy", rule["remedy"], "Remedies have no term here.", Direction.UNSAID)
        if action.iri not in FORBIDDEN and action.iri != f"{ODRL}use":
            reading.lose(
                "prohibited_uses",
                action.label,
                "We cannot tell what this keeps us from, so it forbids every use.",
                Direction.NARROWER,
            )
        if barred is None:
            reading.forbidden |= {str(use) for use in hit}
            if rule.get("constraint"):
                reading.lose(
                    "prohibited_uses",
                    rule["constraint"],
                    "The limit of this prohibition has no term here; it forbids without limit.",
                    Direction.NARROWER,
                )
            continue
        if action.iri != f"{ODRL}use":
            reading.lose(
                "prohibited_uses",
                action.label,
                "Forbidden for these alone; taken over for every use.",
                Direction.NARROWER,
            )
        reading.losses.extend(barred.losses)
        reading.barred = merging.joined(reading.barred, barred)


def _obligation(rule: Node, reading: Reading) -> None:
    taken = reading.duties.taken([_without_shared(rule)], reading.names)
    if isinstance(taken, str):
        reading.lose(
            "duties", rule, f"We could not keep this obligation: {taken}.", Direction.REFUSED
        )
        reading.is_refused = True
        return
    reading.duties = taken


def _without_shared(rule: Node) -> Node:
    return {key: value for key, value in rule.items() if key not in ("assigner", "target")}


def _others(policy: Node, reading: Reading) -> None:
    """What else a person must look at before the terms are requested."""
    ours = (f"{URN}operator", f"{URN}owner:")
    for rule in _rules(policy, "permission"):
        for party in many(rule.get("assignee")):
            who = reading.names.identity(party)
            if who and not who.startswith(ours):
                reading.lose(
                    "assignee", who, "Check that this party is the one licensed.", Direction.CONFIRM
                )
    if reading.names.local(policy.get("conflict", "")) == "perm":
        reading.lose(
            "conflict", "perm", "Permissions win there; here prohibitions do.", Direction.NARROWER
        )


def _concluded(policy: Node, reading: Reading, own: dict[str, Any]) -> Imported:
    terms, differing = merging.strictest(reading.permitted)
    for name in differing:
        reading.lose(
            name,
            "differs between permissions",
            "One licence has one set of limits; the strictest holds for all uses.",
            Direction.NARROWER,
        )
    terms = merging.applied(terms, reading.barred)
    terms["uses"] = sorted(reading.uses)
    terms["prohibited_uses"] = sorted(reading.forbidden)
    if _is_void_by_conflict(policy, reading, terms):
        reading.lose(
            "conflict",
            str(policy.get("conflict", "invalid")),
            "It permits what it forbids and is void by its own rule.",
            Direction.REFUSED,
        )
        return Imported({"uses": [], "purposes": []}, tuple(dict.fromkeys(reading.losses)))
    if reading.is_refused:
        return Imported({"uses": [], "purposes": []}, tuple(dict.fromkeys(reading.losses)))
    terms.setdefault("purposes", [])
    found = {**terms, **reading.duties.terms(), **own}
    reading.losses.extend(reading.duties.losses)
    if not reading.is_ours:
        # Who forbids a use need not be told that it was granted beside it.
        found["uses"] = sorted(reading.uses - reading.forbidden)
        if {"max_tokens", "max_answers"} & set(found):
            found.setdefault("quota_period", str(QuotaPeriod.TERM))
    return Imported(found, tuple(dict.fromkeys(reading.losses)))


def _is_void_by_conflict(policy: Node, reading: Reading, terms: dict[str, Any]) -> bool:
    """Whether the rule `invalid`, which holds where none is named (IM §2.9), voids the policy."""
    if reading.names.local(policy.get("conflict", "invalid")) != "invalid":
        return False
    both = reading.uses & reading.forbidden
    return bool(both) or bool(
        merging.meet_purposes(terms.get("purposes", []), terms.get("prohibited_purposes", []))
    )
