"""Name what was done to a log, given what its leaves hash to now and what they were. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Trouble(StrEnum):
    """What can be wrong with a log."""

    EDITED = "edited"
    REMOVED = "removed"
    INSERTED = "inserted"
    SWAPPED = "swapped"
    TRUNCATED = "truncated"
    HEAD = "head"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `seq` is the event's number, None where it is not one event."""

    trouble: Trouble
    seq: int | None
    message: str


def differences(now: Mapping[int, bytes], was: Sequence[bytes]) -> list[Problem]:
    """How the leaf hashes `now` (by number) differ from what they were.

    Leaves beyond `len(was)` are looked at only for events that were pushed there. An event that
    only stands elsewhere because another one was taken out or put in before it is not named.
    Equal events (equal bytes) are told apart by their place alone.
    """
    moved_from, foreign = _paired(now, was)
    kept = set(moved_from.values())
    lost = {seq for seq in range(len(was)) if seq not in kept}
    tail = _cut_tail(now, lost, len(was))
    problems = [
        Problem(Trouble.TRUNCATED, tail, f"events {tail} to {len(was) - 1} are gone from the end")
        for _ in range(int(tail < len(was)))
    ]
    lost -= set(range(tail, len(was)))
    for trouble, seqs, told in (
        (Trouble.EDITED, foreign & lost, "event {} is not what was sealed"),
        (Trouble.REMOVED, lost - foreign, "event {} is gone"),
        (Trouble.INSERTED, foreign - lost, "what stands at {} was never sealed"),
    ):
        problems += [Problem(trouble, seq, told.format(seq)) for seq in sorted(seqs)]
    return problems + _out_of_order(moved_from)


def _paired(now: Mapping[int, bytes], was: Sequence[bytes]) -> tuple[dict[int, int], set[int]]:
    """For each leaf now, where it was; and the numbers of leaves that never were."""
    moved_from = {seq: seq for seq, found in now.items() if seq < len(was) and was[seq] == found}
    free: dict[bytes, deque[int]] = defaultdict(deque)
    for seq, found in enumerate(was):
        if seq not in moved_from:
            free[found].append(seq)
    foreign = set()
    for seq in sorted(now.keys() - moved_from.keys()):
        places = free.get(now[seq])
        if places:
            moved_from[seq] = places.popleft()
        elif seq < len(was):
            foreign.add(seq)
    return moved_from, foreign


def _cut_tail(now: Mapping[int, bytes], lost: set[int], size: int) -> int:
    """Where the run of lost events that reaches the end begins; `size` if there is none."""
    begin = size
    while begin - 1 in lost and begin - 1 not in now:
        begin -= 1
    return begin


def _out_of_order(moved_from: Mapping[int, int]) -> list[Problem]:
    """Events that stand in another order than they did: those outside the longest ordered run."""
    places = sorted(moved_from)
    in_order = _longest_rising([moved_from[place] for place in places])
    strays = [place for at, place in enumerate(places) if at not in in_order]
    named = {seq for place in strays for seq in (place, moved_from[place])}
    return [
        Problem(Trouble.SWAPPED, seq, f"event {seq} does not stand where it was sealed")
        for seq in sorted(named)
    ]


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """The positions of one longest strictly rising subsequence (patience sorting)."""
    if all(before < after for before, after in pairwise(numbers)):
        return set(range(len(numbers)))
    smallest: list[int] = []  # smallest last number of a run of each length
    holder: list[int] = []  # its position
    before = [-1] * len(numbers)
    for at, number in enumerate(numbers):
        length = bisect_left(smallest, number)
        before[at] = holder[length - 1] if length else -1
        smallest[length : length + 1] = [number]
        holder[length : length + 1] = [at]
    chain = set()
    at = holder[-1]
    while at >= 0:
        chain.add(at)
        at = before[at]
    return chain
