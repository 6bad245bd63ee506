"""Chunks: the quick way to write one says byte for byte what the plain way says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelops.contract import Delta, Done, FinishReason, ScoredToken, Tally
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


def test_a_whole_answer_names_who_was_withdrawn_from_it_and_from_which_of_several():
    admitted = Admitted(order(), snapshot=None, ask=None, denied={}, answers=2)
    ends = [(one, Done("one", FinishReason.STOP, Tally(1, 2), 7)) for one in (0, 1)]
    whole = Answer(admitted, is_chat=True).whole(
        [(1, Delta("one", "a", (7,))), (1, Delta("one", "", recomputed_without=("code",))), *ends]
    )
    assert whole["reclaim"]["experts_withdrawn"] == ["code"]
    told = [one["reclaim"].get("experts_withdrawn") for one in whole["choices"]]
    assert told == [None, ["code"]]
