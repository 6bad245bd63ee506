"""Tokens to text: whole characters only, and never a stop string."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from modelops.engine.text import TextStream, TokenBytes, byte_letters
from modelops.errors import EngineError
from modelops.model import tokenizer


def cut(text: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


@given(st.text(), st.lists(st.integers(0, 3), max_size=30))
def test_any_cut_of_the_bytes_gives_the_text_back(text, sizes):
    stream = TextStream()
    parts = [stream.push(piece)[0] for piece in cut(text.encode(), sizes)]
    assert "".join(parts) + stream.finish() == text
    assert all("\ufffd" not in part for part in parts if "\ufffd" not in text)


@given(st.text("ab", max_size=20), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_before_the_first_stop_string(text, stop):
    stream, heard = TextStream(stop), ""
    for letter in text:
        piece, is_stopped = stream.push(letter.encode())
        heard += piece
        if is_stopped:
            break
    else:
        heard += stream.finish()
    ends = [text.find(s) + len(s) for s in stop if s in text]
    first = min(ends, default=len(text))
    expected = text[:first]
    cuts = [expected.find(s) for s in stop if s in expected]
    assert heard == expected[: min(cuts, default=first)]


def test_what_may_become_a_stop_string_is_held_back():
    stream = TextStream(["END"])
    assert stream.push(b"so E") == ("so ", False)
    assert stream.push(b"N") == ("", False)
    assert stream.push(b"ough") == ("ENough", False)
    assert stream.push(b" END now") == (" ", True)


def test_bytes_that_are_no_text_show_as_replacement():
    stream = TextStream()
    assert stream.push(b"\xe2\x82") == ("", False)
    assert stream.finish() == "\ufffd"


def test_every_byte_has_its_own_letter():
    assert len(set(byte_letters())) == 256
    assert byte_letters()[ord("A")] == "A"
    assert byte_letters()[ord(" ")] == "\u0120"


@example("<|user|>")
@given(st.text(max_size=40))
def test_token_bytes_spell_the_text_that_was_encoded(text):
    words = tokenizer.train(["Alder Press keeps what was printed"], 280)
    bytes_of = TokenBytes(words)
    encode = tokenizer.plain_encoder(words)
    assert b"".join(bytes_of(i) for i in encode(text)) == text.encode()


def test_special_tokens_and_ids_beyond_the_vocabulary_are_no_text():
    bytes_of = TokenBytes(tokenizer.train(["a"], 262))
    assert [bytes_of(0), bytes_of(4), bytes_of(10_000)] == [b"", b"", b""]


def test_a_tokenizer_that_is_not_byte_level_is_refused():
    other = Tokenizer(models.BPE())
    other.decoder = decoders.WordPiece()
    with pytest.raises(EngineError, match="byte-level"):
        TokenBytes(other)
