"""Draws that nobody can repeat until they like the result."""

import numpy as np
import pytest

from modelops.audits import windows
from modelops.corpus.jsonl import Document
from modelops.errors import AuditError


def _documents(count, length=40):
    return [
        Document(text=" ".join(str(n + k) for k in range(length)), id=f"d{n}", source="s",
                 licence="CC0-1.0")
        for n in range(count)
    ]  # fmt: skip


def _encode(text):
    return [int(word) for word in text.split()]


def _draw(key=b"k", count=5, documents=None):
    return windows.draw(documents or _documents(20), _encode, width=16, count=count, key=key)


def test_the_same_key_draws_the_same_windows_whatever_the_order_of_documents():
    one, other = _draw(), _draw(documents=_documents(20)[::-1])
    assert one.document_ids == other.document_ids
    assert np.array_equal(one.tokens_NW, other.tokens_NW)


def test_another_key_draws_others():
    assert _draw().document_ids != _draw(key=b"another").document_ids


def test_one_window_a_document_of_consecutive_tokens():
    found = _draw(count=20)
    assert len(set(found.document_ids)) == 20
    assert (np.diff(found.tokens_NW, axis=1) == 1).all()


def test_short_documents_are_counted_not_silently_dropped():
    found = _draw(
        count=10,
        documents=[*_documents(4), Document(text="1 2", id="short", source="s", licence="CC0-1.0")],
    )
    assert len(found.tokens_NW) == 4
    assert found.too_short == 1


def test_only_short_documents_is_an_error_that_says_so():
    with pytest.raises(AuditError, match="at least 16 tokens"):
        _draw(documents=_documents(3, length=4))


def test_the_key_binds_every_part():
    assert windows.sample_key("a", "bc") != windows.sample_key("ab", "c")
