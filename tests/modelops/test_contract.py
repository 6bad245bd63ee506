"""What is written on the wire is read back the same, and an older peer's words are understood."""

import json

import pytest

from modelops.contract import (
    Delta,
    ExpertRef,
    GenerationOrder,
    Sampling,
    ScoredToken,
    from_wire,
    to_wire,
)

SAMPLING = Sampling(
    max_tokens=5, stop=("a", "é"), top_k=3, logit_bias=((4, 1.5), (7, -2.0)), top_logprobs=2
)
ORDER = GenerationOrder(
    "order", "decision", 7, "b" * 64, "a" * 64, (ExpertRef("alder", "c" * 64),), 2,
    prompt="漢", sampling=SAMPLING, ask={"purpose": "search"}, trace_routing=True,
)  # fmt: skip
TOP = ScoredToken(3, "x", 1, -0.5)
DELTA = Delta(
    "order", "xy", (3,), (TOP,), (ScoredToken(3, "x", 1, -0.5, (TOP, TOP)),),
    routing=({"public": 0.25, "alder": 0.75},),
)  # fmt: skip


@pytest.mark.parametrize("message", [ORDER, DELTA])
def test_a_message_comes_back_as_it_was_sent(message):
    assert from_wire(to_wire(message)) == message


def test_fields_a_peer_does_not_know_are_left_out_and_missing_ones_have_their_defaults():
    fields = json.loads(to_wire(ORDER))
    for name in ("top_k", "logit_bias", "top_logprobs"):
        del fields["sampling"][name]
    fields["invented"] = fields["sampling"]["invented"] = 1
    found = from_wire(json.dumps(fields).encode())
    assert found.sampling == Sampling(max_tokens=5, stop=("a", "é"))
    assert found.order_id == "order"


def test_what_is_no_message_is_refused():
    for line in (b"", b"[]", b'{"kind": "delta"}', b'{"kind": "song"}', b"\xff"):
        with pytest.raises(ValueError, match=r"expected one message|Expecting value"):
            from_wire(line)
