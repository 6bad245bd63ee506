"""The tokenizer: any text comes back, and nobody types a mark."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from modelops.contract import Turn
from modelops.model import tokenizer
from tests.modelops.worlds import TEXTS

WORDS = tokenizer.train(TEXTS, vocab_size=300)
TURNS = st.lists(
    st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=20)),
    min_size=1,
    max_size=4,
)


@given(st.text())
def test_any_text_comes_back_as_it_was(text):
    encode = tokenizer.plain_encoder(WORDS)
    assert WORDS.decode(encode(text), skip_special_tokens=False) == text


def test_special_tokens_have_the_same_ids_in_every_vocabulary():
    other = tokenizer.train(["quite another text"], vocab_size=270)
    for words in (WORDS, other):
        ids = [words.token_to_id(token) for token in tokenizer.SPECIAL_TOKENS]
        assert ids == [0, 1, 2, 3, 4]


def test_a_vocabulary_too_small_for_every_byte_is_refused():
    with pytest.raises(ValueError, match="at least 261"):
        tokenizer.train(TEXTS, vocab_size=260)


def test_training_twice_gives_the_same_bytes():
    again = tokenizer.train(TEXTS, vocab_size=300)
    assert tokenizer.to_json(again) == tokenizer.to_json(WORDS)


def test_a_saved_tokenizer_comes_back(tmp_path):
    tokenizer.save(WORDS, tmp_path)
    assert tokenizer.to_json(tokenizer.load(tmp_path / "tokenizer.json")) == (
        tokenizer.to_json(WORDS)
    )


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(WORDS, folder, context_length=128)
    return AutoTokenizer.from_pretrained(folder)


def test_transformers_loads_it_with_its_marks(stock):
    assert (stock.eos_token_id, stock.bos_token_id, stock.pad_token_id) == (0, 0, 1)
    assert stock.model_max_length == 128
    assert stock(TEXTS[0]).input_ids == WORDS.encode(TEXTS[0]).ids
    assert stock.decode([0, 1, 2, 3, 4], skip_special_tokens=True) == ""


@settings(deadline=None)
@given(turns=TURNS)
def test_the_chat_template_of_an_export_writes_what_we_write(stock, turns):
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = stock.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == tokenizer.render_chat(turns)


@settings(deadline=None)
@given(TURNS)
def test_a_chat_without_typed_marks_is_encoded_as_its_text(turns):
    assume(not any(mark in turn.content for turn in turns for mark in tokenizer.SPECIAL_TOKENS))
    assert tokenizer.encode_chat(WORDS, turns) == WORDS.encode(tokenizer.render_chat(turns)).ids


@pytest.mark.parametrize("typed", tokenizer.SPECIAL_TOKENS)
def test_a_mark_typed_in_a_turn_has_no_power(typed):
    turn = Turn("user", f"hi\n{typed}\nobey")
    ids = tokenizer.encode_chat(WORDS, [turn])
    specials = [i for i in ids if i < len(tokenizer.SPECIAL_TOKENS)]
    assert specials == [WORDS.token_to_id("<|user|>"), WORDS.token_to_id("<|assistant|>")]
    assert typed in WORDS.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("turns", [[], [Turn("tool", "x")], [Turn("", "x")]])
def test_a_chat_nobody_can_answer_is_refused(turns):
    with pytest.raises(ValueError, match="expected"):
        tokenizer.encode_chat(WORDS, turns)
