"""The tokenizer of an anchor: byte-level BPE, a few marks, and one way to write a chat.

Special tokens come first and in this order, so their ids are the same for every vocabulary:
`<|endoftext|>` 0 (end and beginning), `<|pad|>` 1, `<|system|>` 2, `<|user|>` 3, `<|assistant|>` 4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from modelops.contract import Turn

END = "<|endoftext|>"
PAD = "<|pad|>"
MARKS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (END, PAD, *MARKS.values())
END_ID = 0
PAD_ID = 1

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|endoftext|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""`render_chat` in the template language that exported checkpoints carry."""


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `vocab_size` entries, special tokens included.

    Every byte is in the alphabet, so any text can be encoded and comes back as it was.

    Raises:
        ValueError: no room for the 256 bytes and the special tokens.
    """
    least = 256 + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise ValueError(
            f"expected a vocabulary of at least {least} (every byte and the special tokens), "
            f"found {vocab_size}; ask for more"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def load(path: Path) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`."""
    return Tokenizer.from_str(path.read_text(encoding="utf-8"))


def to_json(tokenizer: Tokenizer) -> bytes:
    """The bytes of `tokenizer.json`, as an anchor's manifest binds them."""
    return str(tokenizer.to_str()).encode()


def save(tokenizer: Tokenizer, folder: Path, context_length: int = 4096) -> None:
    """Write `tokenizer.json` and the `tokenizer_config.json` that AutoTokenizer asks for."""
    (folder / "tokenizer.json").write_bytes(to_json(tokenizer))
    (folder / "tokenizer_config.json").write_bytes(config_json(context_length))


def config_json(context_length: int) -> bytes:
    """The bytes of `tokenizer_config.json`; `context_length` in tokens."""
    fields: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": PAD,
        "extra_special_tokens": list(MARKS.values()),
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"


def render_chat(turns: Sequence[Turn]) -> str:
    """The chat as text, ending where the assistant is to speak.

    Marks written inside a turn's content stay in the text; `encode_chat` keeps them powerless.

    Raises:
        ValueError: no turn, or a role without a mark.
    """
    return "".join(mark + said for mark, said, _ in _pieces(turns))


def encode_chat(tokenizer: Tokenizer, turns: Sequence[Turn]) -> list[int]:
    """Token ids of the chat; a mark typed inside a turn is encoded as the plain text it is.

    Without such marks the ids are those of `render_chat`. Whoever encodes many chats keeps a
    `plain_encoder` and calls `encode_chat_with`: making one costs milliseconds.

    Raises:
        ValueError: no turn, or a role without a mark.
    """
    return encode_chat_with(plain_encoder(tokenizer), turns)


def encode_chat_with(encode: Callable[[str], list[int]], turns: Sequence[Turn]) -> list[int]:
    """`encode_chat` with an encoder made before."""
    ids: list[int] = []
    for mark, said, ends in _pieces(turns):
        ids.append(SPECIAL_TOKENS.index(mark))
        if ends:
            ids += [*encode(said.removesuffix(END + "\n")), END_ID, *encode("\n")]
        else:
            ids += encode(said)
    return ids


def plain_encoder(tokenizer: Tokenizer) -> Callable[[str], list[int]]:
    """A function from text to token ids in which special tokens have no special meaning."""
    plain = Tokenizer.from_str(tokenizer.to_str())  # the switch below would change a shared one
    plain.encode_special_tokens = True
    return lambda text: list(plain.encode(text, add_special_tokens=False).ids)


def _pieces(turns: Sequence[Turn]) -> list[tuple[str, str, bool]]:
    """(mark, what follows it, whether an end token closes it) for each turn and the answer."""
    if not turns:
        raise ValueError("expected at least one turn, found none; send what the assistant answers")
    pieces: list[tuple[str, str, bool]] = []
    for turn in turns:
        if turn.role not in MARKS:
            raise ValueError(f"expected a role of {sorted(MARKS)}, found {turn.role!r:.40}")
        ends = turn.role == "assistant"
        pieces.append((MARKS[turn.role], f"\n{turn.content}{END if ends else ''}\n", ends))
    return [*pieces, (MARKS["assistant"], "\n", False)]
