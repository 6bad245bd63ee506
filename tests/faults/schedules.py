"""What goes wrong and when: drawn from a seed, or directed at one guard of the protocol."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.worker.installation import wait_until

if TYPE_CHECKING:
    from tests.faults.harness import World

Happening = Callable[[], None]
Agenda = list[tuple[float, Happening]]

KINDS = {
    "stop_runner": 3,
    "kill_runner": 1,
    "cut": 3,
    "slow": 3,
    "hold_requests": 2,
    "hold_replies": 3,
    "hold_notices": 3,
    "kill_coordinator": 1,
    "stop_coordinator": 1,
    "kill_database": 1,
    "freeze_database": 1,
}
"""Faults, each with how often it is drawn beside the others."""


def drawn(world: World, seed: int) -> Agenda:
    """One to three faults around a withdrawal: what to do, in seconds before or after the click."""
    chance = random.Random(seed)
    agenda: Agenda = []
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=chance.randint(1, 3))
    for kind in dict.fromkeys(kinds):
        begin_s = chance.uniform(-0.4, 0.4) * world.lease_s
        end_s = begin_s + chance.uniform(0.1, 1.4) * world.lease_s
        for which in chance.sample(range(world.size), chance.randint(1, world.size - 1)):
            begin, end = _fault(world, kind, which, chance)
            agenda += [(begin_s, begin), (end_s, end)]
            if kind.endswith(("coordinator", "database")):
                break
    return sorted(agenda, key=lambda one: one[0])


def _fault(
    world: World, kind: str, which: int, chance: random.Random
) -> tuple[Happening, Happening]:
    line = world.lines[which]
    if kind in ("hold_requests", "hold_replies", "hold_notices"):
        return lambda: setattr(line, kind, True), line.heal
    if kind == "slow":
        delay_s = chance.uniform(0.02, 0.6) * world.lease_s
        return lambda: setattr(line, "delay_s", delay_s), line.heal
    if kind == "cut":
        return lambda: setattr(line, "is_cut", True), line.heal
    if kind.endswith("_runner"):
        act = world.stop_runner if kind == "stop_runner" else world.kill_runner
        return lambda: act(which), lambda: world.resume_runner(which)
    begin, end = {
        "kill_coordinator": (world.kill_coordinator, world.resume_coordinator),
        "stop_coordinator": (world.stop_coordinator, world.resume_coordinator),
        "kill_database": (world.kill_database, world.resume_database),
        "freeze_database": (world.freeze_database, world.resume_database),
    }[kind]
    return begin, end


# ── Directed: each lets out a word late where its guard is missing, and none where it is not ─────


def no_shared_lock(world: World, seed: int) -> None:
    """A runner begins; a withdrawal comes between its reading of policy and its row."""
    del seed
    expert = world.next_expert()
    world.kill_runner(0)
    world.wait_for_no_lease()
    world.resume_runner(0)
    wait_until(lambda: expert in world.loaded(0), 30, "the expert in memory")
    wait_until(world.is_granting, 10, "a renewal that takes its time")
    world.lines[0].holds_renewals = True
    world.withdraw(expert, wait=False)
    world.listen(expert, 0, patience_s=world.lease_s)
    world.wait_until_effective(expert)
    time.sleep(world.lease_s)
    world.lines[0].heal()


def deadline_from_reply(world: World, seed: int) -> None:
    """The answer to a renewal takes long; nothing is heard after it."""
    del seed
    expert = world.next_expert()
    world.listen(expert, 0)
    line = world.lines[0]
    before = world.renewed_at(0)
    line.delay_s = 0.4 * world.lease_s
    wait_until(lambda: world.renewed_at(0) != before, 10, "a renewal")
    line.holds_requests = True
    world.withdraw(expert)
    time.sleep(world.lease_s)
    line.heal()


def early_ack(world: World, seed: int) -> None:
    """The answer that names the new epoch is lost."""
    del seed
    expert = world.next_expert()
    world.listen(expert, 0)
    world.lines[0].holds_replies = True
    world.withdraw(expert)
    time.sleep(world.lease_s)
    world.lines[0].heal()


def no_check_after(world: World, seed: int) -> None:
    """The runner sleeps while a step computes, and past the withdrawal."""
    expert = world.next_expert()
    world.listen(expert, 0)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    world.stop_runner(0)
    world.withdraw(expert)
    world.resume_runner(0)
    time.sleep(0.5)


def no_epoch_check(world: World, seed: int) -> None:
    """The withdrawal is acknowledged while a step computes."""
    expert = world.next_expert()
    world.listen(expert, 0)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    world.withdraw(expert)
    time.sleep(0.5)


DIRECTED = {
    one.__name__: one
    for one in (no_shared_lock, deadline_from_reply, early_ack, no_check_after, no_epoch_check)
}
SETTINGS: dict[str, dict[str, str]] = {
    "no_shared_lock": {"FAULTS_GRANT_S": "0.8"},
    "no_check_after": {"FAULTS_COMPUTE_S": "0.3"},
    "no_epoch_check": {"FAULTS_COMPUTE_S": "0.3"},
}
"""What the runner of a directed schedule does slowly, so that its moment can be met."""

DIRECTED_LEASE_S = 2.0
