"""Sketches of corpora: fixed, comparable, and near the truth."""

import random

import pytest

from modelops.corpus.jsonl import Document
from modelops.corpus.sketch import PERMUTATIONS, Sketch, jaccard, shingles, sketch
from modelops.errors import CorpusError


def passages(count, seed, length=40):
    rng = random.Random(seed)
    words = [f"w{n}" for n in range(5_000)]
    return [Document(" ".join(rng.choices(words, k=length)), f"{seed}-{n}") for n in range(count)]


def true_jaccard(one, other):
    first, second = ({s for d in side for s in shingles(d.text)} for side in (one, other))
    return len(first & second) / len(first | second)


def test_the_scheme_has_not_moved():
    # Sketches made last year are compared with those of today: these values may never change.
    found = sketch([Document("the quick brown fox jumps over the lazy dog", "1")])
    assert found.minima[:4] == (2400232983, 519181292, 1234484152, 933262134)
    assert len(found.minima) == PERMUTATIONS


@pytest.mark.parametrize("shared", [0, 10, 40, 100])
def test_an_estimate_lies_within_four_standard_errors_of_the_truth(shared):
    both = passages(shared, seed=1)
    one, other = both + passages(100, seed=2), both + passages(100, seed=3)
    truth = true_jaccard(one, other)
    allowed = 4 * (truth * (1 - truth) / PERMUTATIONS) ** 0.5
    assert abs(jaccard(sketch(one), sketch(other)) - truth) <= allowed


def test_neither_order_nor_repetition_nor_case_changes_a_sketch():
    documents = passages(20, seed=4)
    loud = [Document(each.text.upper() + " !", each.id) for each in reversed(documents)]
    assert sketch(documents).minima == sketch(loud + documents).minima


def test_a_short_text_is_one_shingle_and_an_empty_corpus_none():
    assert list(shingles("Two words.")) == [b"two words"]
    with pytest.raises(CorpusError, match="at least one word"):
        sketch([Document("…", "1")])


def test_sketches_of_different_schemes_are_not_compared():
    one = sketch(passages(1, seed=5))
    with pytest.raises(CorpusError, match="one scheme"):
        jaccard(one, Sketch(one.minima, 1, scheme="older"))
