"""Duties and obligations of an ODRL policy as what a licence obliges us to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from governance.exchange.odrl.nodes import Names, many
from governance.exchange.odrl.own import embedded
from governance.exchange.odrl.words import CURRENCY, DUTY_ACTIONS, ODRL, OWN, PROFILE, URN
from governance.exchange.rights import Direction, Loss, shown

_KNOWN = {"uid", "@id", "@type", "action", "assignee", "target", "constraint", "consequence",
          "attributedParty", "informedParty", "compensatedParty", f"{OWN}duty"}  # fmt: skip
_DAYS = re.compile(r"P(\d{1,5})D")
_PER = {"million-tokens": "rate_per_million_tokens", "month": "minimum_per_period"}
_EURO = "http://dbpedia.org/resource/Euro"


@dataclass(frozen=True)
class Duties:
    """The duties taken over so far. A duty of one permission binds for all: never fewer."""

    entries: tuple[dict[str, Any], ...] = ()
    money: tuple[tuple[str, Any], ...] = ()
    is_exclusive: bool = False
    requires_attribution: bool = False
    attribution_text: str = ""
    losses: tuple[Loss, ...] = ()

    def taken(self, rules: list[Any], names: Names) -> Duties | str:
        """These and the duties of `rules`, or why one of them cannot be kept."""
        found = self
        for rule in rules:
            added = found._and(rule, names)
            if isinstance(added, str):
                return added
            found = added
        return found

    def terms(self) -> dict[str, Any]:
        """As fields of a licence, only those there are."""
        found: dict[str, Any] = dict(self.money)
        if self.entries:
            found["duties"] = list(self.entries)
        if self.is_exclusive:
            found["is_exclusive"] = True
        if self.requires_attribution:
            found["requires_attribution"] = True
        if self.attribution_text:
            found["attribution_text"] = self.attribution_text
        return found

    def _and(self, rule: Any, names: Names) -> Duties | str:
        if not isinstance(rule, Mapping):
            return f"a duty is only referred to ({shown(rule)})"
        if odd := sorted(set(rule) - _KNOWN):
            return f"we do not know {', '.join(odd)} in a duty"
        actions = [names.action(one) for one in many(rule.get("action"))]
        if len(actions) != 1:
            return "a duty names one action"
        action = actions[0]
        if f"{OWN}duty" in rule:
            return self._own(rule, action.iri)
        if action.iri == f"{ODRL}ensureExclusivity" and not action.refinement:
            return replace(self, is_exclusive=True)
        name = DUTY_ACTIONS.get(action.iri)
        if name is None:
            return f"we cannot promise to {action.label}"
        if name == "attribute":
            return self._attributed(rule, action, names)
        if name == "compensate" and (owed := _own_payment(action.refinement, names)):
            return self if owed in [self.money] else replace(self, money=(*self.money, *owed))
        return self._kept(rule, name, action.refinement, names)

    def _own(self, rule: Mapping[str, Any], iri: str) -> Duties | str:
        entry = embedded(f"{OWN}duty", rule[f"{OWN}duty"])
        if f"{ODRL}{entry.get('action', 'inform')}" != iri:
            return "a duty says one thing in ODRL and another in our profile"
        return replace(self, entries=(*self.entries, entry))

    def _attributed(self, rule: Mapping[str, Any], action: Any, names: Names) -> Duties:
        party = names.identity(rule.get("attributedParty", ""))
        text = "" if party.startswith(URN) else party[:300]
        losses = self.losses
        if action.refinement or rule.get("constraint"):
            reason = "The limits of this duty have no term here; credit is always given."
            losses += (Loss("requires_attribution", shown(rule), reason, Direction.CONFIRM),)
        losses += _after_breach(rule)
        return replace(
            self,
            requires_attribution=True,
            attribution_text=text or self.attribution_text,
            losses=losses,
        )

    def _kept(
        self, rule: Mapping[str, Any], name: str, refinement: tuple[Any, ...], names: Names
    ) -> Duties:
        """A duty of another vocabulary: its days where it names them, the rest as words."""
        entry: dict[str, Any] = {"action": name}
        about = [_said(one, names) for one in refinement]
        for constraint in many(rule.get("constraint")):
            days = _within(constraint, names)
            if days is None:
                about.append(_said(constraint, names))
            else:
                entry["within_days"] = days
        parties = [rule[key] for key in ("informedParty", "compensatedParty") if key in rule]
        about += [f"to {names.identity(party)}" for party in parties]
        losses = self.losses + _after_breach(rule)
        if about:
            entry["about"] = "; ".join(about)[:300]
            reason = "Taken over in words; check them and say by when it is due."
            losses += (Loss("duties", entry["about"], reason, Direction.CONFIRM),)
        entries = self.entries if entry in self.entries else (*self.entries, entry)
        return replace(self, entries=entries, losses=losses)


def _after_breach(rule: Mapping[str, Any]) -> tuple[Loss, ...]:
    if "consequence" not in rule:
        return ()
    reason = "Consequences of a breach have no term here; they stand in the contract alone."
    return (Loss("consequence", shown(rule["consequence"]), reason, Direction.UNSAID),)


def _within(constraint: Any, names: Names) -> int | None:
    if not isinstance(constraint, Mapping):
        return None
    left = names.local(constraint.get("leftOperand"))
    if left not in ("elapsedTime", "delayPeriod"):
        return None
    match = _DAYS.fullmatch(names.value(constraint.get("rightOperand")))
    is_limit = names.local(constraint.get("operator")) in ("lteq", "eq")
    return int(match[1]) if match and is_limit else None


def _said(constraint: Any, names: Names) -> str:
    """A constraint in words: `payAmount eq 500.00 EUR`."""
    if not isinstance(constraint, Mapping) or "leftOperand" not in constraint:
        return shown(constraint)
    parts = [names.local(constraint.get(key)) for key in ("leftOperand", "operator")]
    parts.append(shown([names.value(one) for one in many(constraint.get("rightOperand"))]))
    if "unit" in constraint:
        parts.append(_currency(names.iri(constraint["unit"])))
    return " ".join(parts)


def _currency(unit: str) -> str:
    return "EUR" if unit == _EURO else unit.removeprefix(CURRENCY).removeprefix(PROFILE)


def _own_payment(refinement: tuple[Any, ...], names: Names) -> tuple[tuple[str, Any], ...]:
    """The rate or the minimum, where the amount says in our profile what it is per."""
    if len(refinement) != 1 or not isinstance(refinement[0], Mapping):
        return ()
    amount = refinement[0]
    term = _PER.get(str(amount.get(f"{OWN}per")))
    currency = _currency(names.iri(amount.get("unit", "")))
    if term is None or not re.fullmatch(r"[A-Z]{3}", currency):
        return ()
    try:
        owed = Decimal(names.value(amount.get("rightOperand")))
    except InvalidOperation:
        return ()
    return ((term, owed), ("currency", currency))
