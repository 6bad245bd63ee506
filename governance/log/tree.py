"""The Merkle tree of RFC 6962, section 2.1 (SHA-256): hashes, growth, and proofs. Pure.

Subtrees are addressed as (level, index): the perfect subtree over leaves
[index * 2**level, (index + 1) * 2**level). Whoever holds hashes answers `Nodes`; leaves in memory
and tiles on disk both do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one leaf (prefix 0x00, so that a leaf can never pose as a node)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (prefix 0x01)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Nodes(Protocol):
    """A source of the hashes of perfect subtrees."""

    def node(self, level: int, index: int) -> bytes:
        """The hash of the perfect subtree at (level, index)."""


@dataclass(frozen=True, slots=True)
class LeafNodes:
    """Subtrees computed from leaf hashes in memory: exact, and linear in the subtree's size."""

    leaves: Sequence[bytes]

    def node(self, level: int, index: int) -> bytes:
        """The hash of the perfect subtree at (level, index)."""
        row = list(self.leaves[index << level : (index + 1) << level])
        if len(row) != 1 << level:
            raise IndexError(f"expected {1 << level} leaves under ({level}, {index})")
        while len(row) > 1:
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to extend it.

    `peaks` are the roots of its perfect subtrees, largest first; there is one for every 1 in the
    binary form of `size`.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def extended(self, leaf_hashes: Iterable[bytes]) -> Self:
        """The frontier after appending `leaf_hashes` in order."""
        size, peaks = self.size, list(self.peaks)
        for added in leaf_hashes:
            peaks.append(added)
            merging = size
            while merging & 1:
                right = peaks.pop()
                peaks[-1] = node_hash(peaks[-1], right)
                merging >>= 1
            size += 1
        return type(self)(size, tuple(peaks))

    def root(self) -> bytes:
        """The Merkle tree hash of the whole tree."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    @classmethod
    def of(cls, nodes: Nodes, size: int) -> Self:
        """The frontier of the first `size` leaves."""
        return cls(size, tuple(nodes.node(level, index) for level, index in perfect(0, size)))


def perfect(begin: int, end: int) -> list[tuple[int, int]]:
    """The perfect subtrees, largest first, that make up leaves [begin, end).

    `begin` is a multiple of the largest power of two in the range, as it is for every subtree
    that RFC 6962 splits off.
    """
    parts = []
    at = begin
    for level in range((end - begin).bit_length() - 1, -1, -1):
        if (end - begin) >> level & 1:
            parts.append((level, at >> level))
            at += 1 << level
    return parts


def subtree_root(nodes: Nodes, begin: int, end: int) -> bytes:
    """The Merkle tree hash of leaves [begin, end)."""
    peaks = tuple(nodes.node(level, index) for level, index in perfect(begin, end))
    return Frontier(end - begin, peaks).root()


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """The audit path of leaf `index` in the tree of `size` leaves, nearest first (2.1.1).

    Raises:
        IndexError: there is no such leaf in that tree.
    """
    if not 0 <= index < size:
        raise IndexError(f"expected a leaf of a tree of {size}, found index {index}")
    begin, end = 0, size
    path: list[bytes] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(subtree_root(nodes, middle, end))
            end = middle
        else:
            path.append(subtree_root(nodes, begin, middle))
            begin = middle
    return path[::-1]


def consistency_proof(nodes: Nodes, old: int, size: int) -> list[bytes]:
    """The proof that the first `old` leaves are a prefix of the tree of `size` (2.1.2).

    Raises:
        IndexError: `old` is not between 1 and `size`.
    """
    if not 0 < old <= size:
        raise IndexError(f"expected an older size between 1 and {size}, found {old}")
    begin, end = 0, size
    is_whole = True  # the old tree's subtree here is one the verifier already knows
    path: list[bytes] = []
    while end - begin > 1 and old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(subtree_root(nodes, middle, end))
            end = middle
        else:
            path.append(subtree_root(nodes, begin, middle))
            begin, is_whole = middle, False
    if not is_whole:
        path.append(subtree_root(nodes, begin, end))
    return path[::-1]


def root_of_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that `path` leads to from `leaf`, or None if a path of that length cannot fit."""
    if not 0 <= index < size:
        return None
    steps = list(path)
    node, last = leaf, size - 1
    while last > 0:
        if index & 1:
            if not steps:
                return None
            node = node_hash(steps.pop(0), node)
        elif index < last:
            if not steps:
                return None
            node = node_hash(node, steps.pop(0))
        index, last = index >> 1, last >> 1
    return None if steps else node


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Whether `path` shows that the tree of `old` leaves is a prefix of that of `size`."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not path and old_root == root
    steps = list(path)
    index, last = old - 1, size - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    if index:
        if not steps:
            return False
        seed = steps.pop(0)
    else:
        seed = old_root
    before = after = seed
    while last:
        if (index & 1 or index < last) and not steps:
            return False
        if index & 1:
            sibling = steps.pop(0)
            before, after = node_hash(sibling, before), node_hash(sibling, after)
        elif index < last:
            after = node_hash(after, steps.pop(0))
        index, last = index >> 1, last >> 1
    return not steps and before == old_root and after == root


def _split(width: int) -> int:
    """The largest power of two smaller than `width`."""
    return 1 << (width - 1).bit_length() - 1
