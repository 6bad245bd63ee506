"""Chunks: the quick way to write one says byte for byte what the plain way says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contract import Delta, ScoredToken
from tests.web.gateway.test_pool import order
from web.gateway.orders import Admitted
from web.gateway.render import Answer

TOKEN = ScoredToken(7, "x", 1, -0.5)


@pytest.mark.parametrize("is_chat", [True, False])
@given(texts=st.lists(st.text(), min_size=1, max_size=5), index=st.integers(0, 1))
def test_a_chunk_written_the_quick_way_is_the_plain_one(is_chat, texts, index):
    admitted = Admitted(order(), snapshot=None, ask=None, denied={}, answers=2)
    quick, plain = Answer(admitted, is_chat, created_s=1), Answer(admitted, is_chat, created_s=1)
    for text in texts:
        slowly = plain.piece(index, Delta("one", text, (7,), chosen=(TOKEN,)))
        assert quick.piece(index, Delta("one", text, (7,))) == slowly
    assert quick.grown == plain.grown
