"""The compact form of JSON-LD, as far as ODRL policies use it: names, values, lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from governance.exchange.odrl.words import CONTEXT, ODRL, PREFIXES
from governance.exchange.rights import unreadable

Node = dict[str, Any]
_DESCRIBING = (
    "http://purl.org/dc/terms/",
    "http://purl.org/dc/elements/1.1/",
    "http://www.w3.org/2000/01/rdf-schema#",
)
"""Vocabularies whose properties describe a policy and never limit it."""


_WORDS = frozenset(
    {"permission", "prohibition", "obligation", "duty", "remedy", "consequence", "action"}
    | {"target", "assigner", "assignee", "constraint", "refinement", "leftOperand", "operator"}
    | {"rightOperand", "unit", "dataType", "uid", "profile", "conflict", "inheritFrom", "use"}
    | {"and", "or", "xone", "andSequence", "status", "purpose", "spatial", "dateTime", "count"}
    | {"recipient", "industry", "version", "payAmount", "elapsedTime", "delayPeriod", "event"}
    | {"eq", "neq", "lt", "lteq", "gt", "gteq", "isA", "isAnyOf", "isNoneOf", "isAllOf"}
    | {"isPartOf", "hasPart", "attribute", "inform", "compensate", "delete", "source"}
)
"""Words of ODRL that we read bare: a context that defines one anew would change its meaning."""


@dataclass(frozen=True)
class Action:
    """What a rule is about: the action's IRI, and what refines it (nothing, if not refined)."""

    iri: str
    label: str
    refinement: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Names:
    """The prefixes in force in one file."""

    prefixes: Mapping[str, str]

    def iri(self, name: Any) -> str:
        """The full IRI of a name; a bare word is a word of ODRL."""
        text = str(name.get("@id", "") if isinstance(name, Mapping) else name)
        prefix, colon, rest = text.partition(":")
        if colon and not rest.startswith("//") and prefix in self.prefixes:
            return self.prefixes[prefix] + rest
        return text if colon else ODRL + text

    def local(self, name: Any) -> str:
        """The name without the namespace of ODRL, for comparing with words of the standard."""
        return self.iri(name).removeprefix(ODRL)

    def is_described(self, key: str) -> bool:
        """Whether a property only describes."""
        return self.iri(key).startswith(_DESCRIBING)

    def action(self, raw: Any) -> Action:
        """The action of a rule, in either of the two forms of IM §2.4 and §2.5.2."""
        if not isinstance(raw, Mapping):
            return Action(self.iri(raw), str(raw))
        named = raw.get("rdf:value", raw)
        known = {"rdf:value", "refinement", "@id", "@type"}
        odd = tuple(key for key in raw if key not in known)
        return Action(self.iri(named), self.local(named), (*many(raw.get("refinement")), *odd))

    def identity(self, party: Any) -> str:
        """Which party or asset is meant."""
        if isinstance(party, Mapping):
            return str(party.get("uid") or party.get("@id") or party.get("source") or "")
        return str(party)

    def value(self, raw: Any) -> str:
        """A right operand as text: the IRI of a node, the text of a literal."""
        if isinstance(raw, Mapping):
            return str(raw["@value"]) if "@value" in raw else self.iri(raw)
        text = str(raw)
        prefix, colon, rest = text.partition(":")
        return self.prefixes[prefix] + rest if colon and prefix in self.prefixes else text


def many(value: Any) -> list[Any]:
    """A value that may stand alone, in a list, or in an ordered list of JSON-LD."""
    if value is None:
        return []
    if isinstance(value, Mapping) and "@list" in value:
        return many(value["@list"])
    return list(value) if isinstance(value, list) else [value]


def names_of(policy: Node) -> Names:
    """The names of a file, from its context.

    Raises:
        InvalidTerms: the ODRL context is missing, or another one could change what words mean.
    """
    what = "the context http://www.w3.org/ns/odrl.jsonld"
    remedy = "Compact the policy with that context; further prefixes may stand beside it."
    prefixes = dict(PREFIXES)
    is_odrl = False
    for entry in many(policy.get("@context")):
        if isinstance(entry, str) and entry.replace("https:", "http:") == CONTEXT:
            is_odrl = True
        elif isinstance(entry, Mapping):
            for prefix, iri in entry.items():
                if not _is_prefix(prefix, iri):
                    raise unreadable(what, f"a definition of {prefix!r} in the context", remedy)
                prefixes[prefix] = iri
        else:
            raise unreadable(what, f"the context {entry!r}", remedy)
    if not is_odrl:
        raise unreadable(what, "none" if "@context" not in policy else "others alone", remedy)
    return Names(prefixes)


def _is_prefix(prefix: str, iri: Any) -> bool:
    """Whether a context entry names a prefix and cannot redefine a word."""
    if prefix.startswith("@") or prefix in _WORDS:
        return False
    if prefix in PREFIXES:
        return bool(iri == PREFIXES[prefix])
    return isinstance(iri, str) and iri.endswith(("#", "/", ":")) and ":" in iri
