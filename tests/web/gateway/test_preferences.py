"""A preference narrows and never widens, whatever the policy; and wrong ways to prefer are seen."""

from dataclasses import replace

import pytest
from hypothesis import given

from governance.policy.decide import decide
from governance.policy.types import Denied
from tests.governance.policy import worlds
from web.gateway import orders


def preferred(seed, other, preferring):
    """What is permitted without and with a preference drawn from `other`."""
    snapshot, ask, at = worlds.a_snapshot(seed), worlds.an_ask(other), worlds.an_instant(other)
    prefer = worlds.Chooser(other).some((*worlds.NAMES, "public", "unheard-of"))
    plain = decide(snapshot, ask, at)
    narrowed, wrong = preferring(prefer, ask, snapshot, plain)
    return prefer, ask, plain, decide(snapshot, narrowed, at), wrong


def names(decision):
    return {expert.name for expert in decision.allowed}


def faults(seed, other, preferring=orders.preferring):
    """What is wrong with a preference in this world."""
    prefer, ask, plain, after, wrong = preferred(seed, other, preferring)
    if isinstance(plain, Denied):
        return [] if after == plain and not wrong else ["a denial changed"]
    if isinstance(after, Denied):
        return ["a preference refused an answer"]
    found = []
    if not names(after) <= names(plain):
        found.append("it widened")
    chosen = prefer & (names(plain) | {"public"})
    kept = names(plain) & (chosen | ask.require) if chosen else names(plain)
    if names(after) != kept:
        found.append("it kept others than the preferred ones")
    if set(wrong) != prefer - names(plain) - {"public"} or not all(wrong.values()):
        found.append("it does not say why not")
    if any(not set(whys) <= set(after.denied[name]) for name, whys in plain.denied.items()):
        found.append("a reason was lost")
    return found


@given(worlds.seeds, worlds.seeds)
def test_a_preference_only_narrows_and_says_why_not(seed, other):
    assert faults(seed, other) == []


def forgets_what_was_excluded(prefer, ask, snapshot, decision):
    narrowed, wrong = orders.preferring(prefer, ask, snapshot, decision)
    return replace(narrowed, exclude=narrowed.exclude - ask.exclude), wrong


def requires(prefer, ask, snapshot, decision):
    narrowed, wrong = orders.preferring(prefer, ask, snapshot, decision)
    return replace(narrowed, require=narrowed.require | (prefer - {"public"})), wrong


def excludes_what_is_required(prefer, ask, snapshot, decision):
    _, wrong = orders.preferring(prefer, ask, snapshot, decision)
    known = {expert.name for expert in snapshot.experts}
    return replace(ask, exclude=ask.exclude | (known - prefer)) if prefer else ask, wrong


def says_nothing(prefer, ask, snapshot, decision):
    return orders.preferring(prefer, ask, snapshot, decision)[0], {}


@pytest.mark.parametrize(
    "wrong_way", [forgets_what_was_excluded, requires, excludes_what_is_required, says_nothing]
)
def test_a_wrong_way_to_prefer_is_caught(wrong_way):
    assert any(faults(seed, other, wrong_way) for seed in range(30) for other in range(10))
