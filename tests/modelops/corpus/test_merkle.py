"""The commitment to a corpus."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.corpus import merkle
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError

SECRET = b"birch archive's own secret"


def documents(count):
    return [Document(f"text {n}", f"work-{n}", "birch", "CC0-1.0") for n in range(count)]


@given(st.integers(1, 40), st.data())
def test_every_document_of_a_corpus_can_be_proved(count, data):
    corpus = documents(count)
    index = data.draw(st.integers(0, count - 1))
    hashed = merkle.leaves(corpus, SECRET)
    proof = merkle.prove(hashed, SECRET, index)
    commitment = merkle.commit(corpus, SECRET)
    assert merkle.is_included(corpus[index], proof, commitment)
    other = Document(corpus[index].text + "!", corpus[index].id, "birch", "CC0-1.0")
    assert not merkle.is_included(other, proof, commitment)


def test_the_tree_is_that_of_rfc_6962():
    leaves = [hashlib.sha256(b"\x00" + bytes([n])).digest() for n in range(3)]
    pair = hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    assert merkle.root(leaves) == hashlib.sha256(b"\x01" + pair + leaves[2]).digest()
    assert merkle.root([]) == hashlib.sha256().digest()


def test_a_proof_with_a_longer_or_shorter_path_or_another_place_fails():
    corpus = documents(7)
    commitment = merkle.commit(corpus, SECRET)
    proof = merkle.prove(merkle.leaves(corpus, SECRET), SECRET, 2)
    for path in (proof.path[:-1], (*proof.path, proof.path[0]), ()):
        changed = merkle.Inclusion(2, proof.salt, path)
        assert not merkle.is_included(corpus[2], changed, commitment)
    for index in (-1, 3, 7):
        changed = merkle.Inclusion(index, proof.salt, proof.path)
        assert not merkle.is_included(corpus[2], changed, commitment)


def test_another_secret_or_order_gives_another_root():
    corpus = documents(5)
    root = merkle.commit(corpus, SECRET).root
    assert merkle.commit(corpus, SECRET).root == root
    assert merkle.commit(corpus, SECRET + b"x").root != root
    assert merkle.commit(corpus[::-1], SECRET).root != root


def test_moving_a_letter_from_one_field_to_the_next_changes_the_leaf():
    one, other = Document("b", "a", "", ""), Document("", "ab", "", "")
    assert merkle.leaf_digest(b"s", one) != merkle.leaf_digest(b"s", other)


def test_a_short_secret_is_refused():
    with pytest.raises(CorpusError, match="at least 16 bytes"):
        merkle.commit(documents(2), b"short")
