"""The law of the six instruments as a table: who, when, what is disabled, what is erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from governance.errors import NotPermitted
from governance.models import Account, Membership
from governance.vocabulary import Instrument, Role


class Capacity(StrEnum):
    """In which capacity somebody acts. SYSTEM is this installation itself, its clock included."""

    OWNER = "owner"
    LEGAL = "legal"
    ENGINEER = "engineer"
    SYSTEM = "system"


class When(StrEnum):
    """When an instrument takes effect."""

    AT_ONCE = "at once, from the next token on"
    AFTER_NOTICE = "after the notice the licence names"
    AT_WRITTEN_END = "at the written end"


@dataclass(frozen=True, slots=True)
class Rule:
    """One instrument. `erases_expert`: of an act on the whole of an expert; on a licence, and in a
    narrower scope, nothing is ever erased. No rule asks for a second person, and none for a reason:
    what disables is never made to wait for us."""

    instrument: Instrument
    on_expert: frozenset[Capacity]
    on_licence: frozenset[Capacity]
    takes_effect: When
    erases_expert: bool
    may_be_lifted: bool
    meaning: str
    follows: tuple[str, ...]


_ENFORCED = (
    "every runner confirms, or its lease runs out",
    "the model is rebuilt without it",
    "its bytes are destroyed, unless a legal hold seals them for a while",
    "certificates are issued stage by stage",
    "consumers that used it in the last 90 days are told",
)
_EVERYBODY = frozenset(Capacity)
_OWNER_OR_LEGAL = frozenset({Capacity.OWNER, Capacity.LEGAL, Capacity.SYSTEM})
_OURS = frozenset({Capacity.LEGAL, Capacity.SYSTEM})

RULES: Mapping[Instrument, Rule] = {
    rule.instrument: rule
    for rule in (
        Rule(
            Instrument.SUSPEND, _EVERYBODY, _OWNER_OR_LEGAL, When.AT_ONCE,
            erases_expert=False, may_be_lifted=True,
            meaning="Pauses use. Whoever paused it, the owner or the operator, can lift it again.",
            follows=("a build on its way with the expert is planned anew",),
        ),
        Rule(
            Instrument.WITHDRAW, _OWNER_OR_LEGAL, _OWNER_OR_LEGAL, When.AT_ONCE,
            erases_expert=True, may_be_lifted=False,
            meaning="The owner takes back what it granted. Nobody may refuse or delay it.",
            follows=_ENFORCED,
        ),
        Rule(
            Instrument.TERMINATE, _OWNER_OR_LEGAL, _OWNER_OR_LEGAL, When.AFTER_NOTICE,
            erases_expert=True, may_be_lifted=False,
            meaning="Ends the contract after its notice; then consumers that used it before the "
            "notice may wind down, where the licence names days for that.",
            follows=_ENFORCED,
        ),
        Rule(
            Instrument.EXPIRE, _OURS, _OURS, When.AT_WRITTEN_END,
            erases_expert=True, may_be_lifted=False,
            meaning="The written end has come. Policy knows it beforehand; recording it comes "
            "after and changes nothing.",
            follows=_ENFORCED,
        ),
        Rule(
            Instrument.REVOKE, _OURS, _OURS, When.AT_ONCE,
            erases_expert=True, may_be_lifted=False,
            meaning="The operator ends it, for a breach of the terms for example.",
            follows=_ENFORCED,
        ),
        Rule(
            Instrument.INVALIDATE, _OURS, _OURS, When.AT_ONCE,
            erases_expert=True, may_be_lifted=False,
            meaning="An authority or a court has voided it.",
            follows=_ENFORCED,
        ),
    )
}  # fmt: skip


def capacities(by: Account | None, owner_id: UUID) -> frozenset[Capacity]:
    """Every capacity in which `by` could act on something of this owner. None is the system."""
    if by is None:
        return frozenset({Capacity.SYSTEM})
    held = Membership.objects.filter(account=by).values_list("role", "owner_id")
    found = set()
    for role, speaks_for in held:
        if role == Role.OWNER and speaks_for == owner_id:
            found.add(Capacity.OWNER)
        elif role == Role.LEGAL:
            found.add(Capacity.LEGAL)
        elif role == Role.ENGINEER:
            found.add(Capacity.ENGINEER)
    return frozenset(found)


def may(instrument: Instrument, held: frozenset[Capacity], *, is_licence: bool) -> bool:
    """Whether somebody in one of these capacities may put the instrument into effect."""
    rule = RULES[instrument]
    return bool(held & (rule.on_licence if is_licence else rule.on_expert))


def check_may(
    instrument: Instrument, by: Account | None, owner_id: UUID, *, is_licence: bool
) -> frozenset[Capacity]:
    """The capacities of `by`.

    Raises:
        NotPermitted: none of them may put the instrument into effect here.
    """
    held = capacities(by, owner_id)
    if not may(instrument, held, is_licence=is_licence):
        rule = RULES[instrument]
        wanted = rule.on_licence if is_licence else rule.on_expert
        people = " or ".join(sorted({one.value for one in wanted} - {Capacity.SYSTEM.value}))
        raise NotPermitted(
            f"expected the owner's or our own {people} to {instrument.value}, found {by}. Ask one "
            "of them."
        )
    return held
