"""The tree against RFC 6962's own recursion and against pymerkle."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from governance.log.tree import (
    EMPTY_ROOT,
    Frontier,
    LeafNodes,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    node_hash,
    perfect,
    root_of_inclusion,
)

sizes = st.integers(1, 130)


def leaves(size: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(2, "big")) for number in range(size)]


def root_by_recursion(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(root_by_recursion(hashes[:split]), root_by_recursion(hashes[split:]))


def oracle(size: int) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for number in range(size):
        tree.append_entry(number.to_bytes(2, "big"))
    return tree


def test_known_hashes_of_rfc_6962():
    assert EMPTY_ROOT.hex() == hashlib.sha256(b"").hexdigest()
    assert leaf_hash(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert Frontier().root() == EMPTY_ROOT


@given(sizes)
def test_the_frontier_gives_the_root_of_the_recursion(size):
    assert Frontier().extended(leaves(size)).root() == root_by_recursion(leaves(size))


@given(sizes, st.data())
def test_extending_in_two_steps_is_extending_in_one(size, data):
    cut = data.draw(st.integers(0, size))
    whole = leaves(size)
    assert Frontier().extended(whole[:cut]).extended(whole[cut:]) == Frontier().extended(whole)
    assert Frontier.of(LeafNodes(whole), size) == Frontier().extended(whole)


@given(sizes)
def test_a_frontier_has_one_peak_for_every_one_in_the_size(size):
    assert len(Frontier().extended(leaves(size)).peaks) == size.bit_count() == len(perfect(0, size))


def path_by_recursion(index: int, hashes: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, 2.1.1, as it is written there."""
    if len(hashes) == 1:
        return []
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if index < split:
        return [*path_by_recursion(index, hashes[:split]), root_by_recursion(hashes[split:])]
    deeper = path_by_recursion(index - split, hashes[split:])
    return [*deeper, root_by_recursion(hashes[:split])]


def proof_by_recursion(old: int, hashes: list[bytes], is_known: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962, 2.1.2, as it is written there."""
    if old == len(hashes):
        return [] if is_known else [root_by_recursion(hashes)]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    if old <= split:
        deeper = proof_by_recursion(old, hashes[:split], is_known)
        return [*deeper, root_by_recursion(hashes[split:])]
    deeper = proof_by_recursion(old - split, hashes[split:], is_known=False)
    return [*deeper, root_by_recursion(hashes[:split])]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 21, 64, 70])
def test_proofs_are_those_of_the_rfc(size):
    hashes = leaves(size)
    nodes = LeafNodes(hashes)
    for at in range(size):
        assert inclusion_proof(nodes, at, size) == path_by_recursion(at, hashes)
        assert consistency_proof(nodes, at + 1, size) == proof_by_recursion(at + 1, hashes)


def test_roots_equal_pymerkle_at_every_size():
    tree, nodes = oracle(130), LeafNodes(leaves(130))
    for size in range(1, 131):
        root = tree.get_root(size)
        assert Frontier.of(nodes, size).root() == root
        path = inclusion_proof(nodes, size // 2, size)
        assert root_of_inclusion(nodes.leaves[size // 2], size // 2, size, path) == root


@given(sizes, st.data())
def test_an_inclusion_proof_leads_to_the_root_and_nothing_else_does(size, data):
    index = data.draw(st.integers(0, size - 1))
    hashes = leaves(size)
    path = inclusion_proof(LeafNodes(hashes), index, size)
    root = Frontier().extended(hashes).root()
    assert root_of_inclusion(hashes[index], index, size, path) == root
    assert root_of_inclusion(leaf_hash(b"other"), index, size, path) != root
    assert root_of_inclusion(hashes[index], index, size, [*path, root]) is None
    if path:
        assert root_of_inclusion(hashes[index], index, size, path[:-1]) is None
        wrong = data.draw(st.integers(0, size - 1).filter(lambda other: other != index))
        assert root_of_inclusion(hashes[index], wrong, size, path) != root


@given(sizes, st.data())
def test_a_consistency_proof_holds_for_its_two_trees_alone(size, data):
    old = data.draw(st.integers(1, size))
    nodes = LeafNodes(leaves(size))
    before, after = Frontier.of(nodes, old).root(), Frontier.of(nodes, size).root()
    path = consistency_proof(nodes, old, size)
    assert is_consistent(old, before, size, after, path)
    assert not is_consistent(old, leaf_hash(b"x"), size, after, path)
    assert not is_consistent(old, before, size, leaf_hash(b"x"), path)
    assert not is_consistent(old, before, size, after, [*path, after])
    assert not is_consistent(0, before, size, after, path)


def test_proofs_of_what_is_not_there_are_refused():
    nodes = LeafNodes(leaves(4))
    with pytest.raises(IndexError, match="found index 4"):
        inclusion_proof(nodes, 4, 4)
    with pytest.raises(IndexError, match="between 1 and 4"):
        consistency_proof(nodes, 5, 4)
    with pytest.raises(IndexError, match="expected 8 leaves"):
        nodes.node(3, 0)
    assert root_of_inclusion(b"", 4, 4, []) is None
