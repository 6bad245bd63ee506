"""This runner's slices of quotas, and what an order is permitted to use within them.

What is free of a slice is kept in memory and only ever too small or, where another runner took
some back, too large: PostgreSQL has the last word when the usage row is opened. An order that no
licence with a quota covers asks the database nothing here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from django.db import DatabaseError, InterfaceError

from governance.errors import GovernanceError
from governance.policy.cover import covering
from governance.policy.decide import decide
from governance.policy.types import Ask, Decision, Denied, Snapshot
from governance.services import quotas
from governance.services.quotas import LEAST_TOKENS, Limits, Slice
from modelops.contract import GenerationOrder
from worker.runner.registry import kept_connection

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
"""How long a quota found used up is believed to be so."""

_TURN_TOKENS = 8
"""More than a chat's marks and line ends add to a turn."""


@dataclass(frozen=True)
class Permission:
    """What policy says about an order, quotas included.

    `licences` names the licence each allowed expert is charged to, `slices` those of them that
    have a quota, and `max_tokens` what the answer may have at most: less than was asked for where
    a quota reaches no further. `was_short`: some quota had no room for the answer asked for.
    """

    decision: Decision
    max_tokens: int
    licences: Mapping[str, str] = field(default_factory=dict)
    slices: Mapping[str, UUID] = field(default_factory=dict)
    was_short: bool = False

    @property
    def width(self) -> int:
        """How many licensed experts it permits."""
        return 0 if isinstance(self.decision, Denied) else len(self.decision.allowed)


class Escrow:
    """The slices of one incarnation; from any thread, may wait for the database."""

    def __init__(self, incarnation: UUID) -> None:
        self._incarnation = incarnation
        self._lock = threading.Lock()
        self._slices: dict[str, Slice] = {}
        self._empty_until_s: dict[str, float] = {}
        self._limits = Limits()

    def permission(
        self, order: GenerationOrder, ask: Ask, snapshot: Snapshot, at: datetime
    ) -> Permission:
        """Decide about `order`; what has no quota left is denied as `Why.QUOTA`.

        An answer is shortened only where that lets it use an expert it would otherwise lose.
        """
        asked = order.sampling.max_tokens
        found = self._within(order, ask, snapshot, at, least=asked)
        least = min(asked, LEAST_TOKENS)
        if found.was_short and least < asked:
            shorter = self._within(order, ask, snapshot, at, least=least)
            found = max(found, shorter, key=lambda one: one.width)
        return found

    def _within(
        self, order: GenerationOrder, ask: Ask, snapshot: Snapshot, at: datetime, *, least: int
    ) -> Permission:
        """Decide again and again without what has no room for `least` tokens, until all have."""
        prompt, asked = most_prompt_tokens(order), order.sampling.max_tokens
        limited, names = self.limited(snapshot), {ref.name for ref in order.allowed}
        exhausted: frozenset[str] = frozenset()
        while True:
            decision = decide(snapshot, ask, at, exhausted=exhausted)
            if isinstance(decision, Denied):
                return Permission(decision, asked, was_short=bool(exhausted))
            covered = covering(snapshot, ask, at, exhausted=exhausted)
            charged = {
                ref.name: covered[ref.name][0] for ref in decision.allowed if ref.name in names
            }
            held = {
                one: self.slice_for(one, prompt + asked, at)
                for one in limited & set(charged.values())
            }
            rooms = {one: _room(found, prompt + asked, at) for one, found in held.items()}
            short = {one for one, room in rooms.items() if room < prompt + least}
            if not short:
                most = min(rooms.values(), default=prompt + asked) - prompt
                slices = {one: found.id for one, found in held.items() if found is not None}
                return Permission(decision, most, charged, slices, bool(exhausted))
            exhausted |= short

    def limited(self, snapshot: Snapshot) -> frozenset[str]:
        """The licences of this policy that have a quota."""
        with kept_connection():
            return self._limits.of(snapshot)

    def slice_for(self, reference: str, tokens: int, at: datetime) -> Slice | None:
        """The slice of a licence's quota, grown until an answer of `tokens` fits if it can be."""
        with self._lock:
            held = self._slices.get(reference)
            if held is None or not held.covers(tokens, at):
                held = self._reserved(reference, tokens, at) or held
        return held

    def _reserved(self, reference: str, tokens: int, at: datetime) -> Slice | None:
        """The slice, grown as far as the quota goes; None while that is known to be no further."""
        held, now_s = self._slices.get(reference), time.monotonic()
        is_same_period = held is None or held.covers(0, at) or held.free_answers == 0
        if is_same_period and now_s < self._empty_until_s.get(reference, 0.0):
            return None
        try:
            with kept_connection():
                found = quotas.reserve(
                    reference, incarnation=self._incarnation, tokens=tokens, at=at
                )
        except (GovernanceError, DatabaseError, InterfaceError) as error:
            log.warning("no slice of the quota of %s: %s", reference, error)
            self._slices.pop(reference, None)
            return None
        self._slices[reference] = found
        if not found.covers(tokens, at):
            self._empty_until_s[reference] = now_s + LOOK_AGAIN_S
        return found

    def note_promised(self, references: Collection[str], tokens: int) -> None:
        """Take a promise that PostgreSQL has recorded out of what is free."""
        with self._lock:
            for reference in references:
                held = self._slices.get(reference)
                if held is not None:
                    self._slices[reference] = replace(
                        held,
                        free_tokens=_less(held.free_tokens, tokens),
                        free_answers=_less(held.free_answers, 1),
                    )

    def forget(self, references: Collection[str]) -> None:
        """Read these slices again before they are used: PostgreSQL has less than we thought."""
        with self._lock:
            for reference in references:
                self._slices.pop(reference, None)
                self._empty_until_s.pop(reference, None)


def most_prompt_tokens(order: GenerationOrder) -> int:
    """No prompt of this order has more tokens: a byte-level tokenizer makes one a byte at most."""
    turns = sum(_TURN_TOKENS + len(turn.content.encode("utf-8", "replace")) for turn in order.turns)
    return turns + _TURN_TOKENS + len(order.prompt.encode("utf-8", "replace"))


def _room(held: Slice | None, tokens: int, at: datetime) -> int:
    """How many of `tokens` one answer can be promised; -1 where not even an empty one can."""
    if held is None or not held.covers(0, at):
        return -1
    return tokens if held.free_tokens is None else min(tokens, held.free_tokens)


def _less(free: int | None, taken: int) -> int | None:
    return None if free is None else max(0, free - taken)
