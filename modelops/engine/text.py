"""Tokens to text while they arrive: never half a character, never a stop string.

Byte-level vocabularies spell each byte as one character of an alphabet of 256 (Radford et al.
2019, the GPT-2 release). Undoing it gives every token's own bytes, and a UTF-8 decoder that keeps
its state gives text that is never cut inside a character.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from modelops.errors import EngineError


class TokenBytes:
    """The bytes behind each token id; special tokens stand for no text and have none.

    Raises:
        EngineError: the tokenizer is not byte-level.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        decoder = json.loads(tokenizer.to_str()).get("decoder")
        if "ByteLevel" not in _decoder_types(decoder):
            raise EngineError(
                f"expected a byte-level tokenizer, found the decoder {decoder}; "
                "use an anchor whose tokenizer is byte-level BPE"
            )
        self._tokenizer = tokenizer
        self._byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}
        added = tokenizer.get_added_tokens_decoder()
        self._known = {i: b"" if t.special else t.content.encode() for i, t in added.items()}

    def __call__(self, token_id: int) -> bytes:
        """The token's bytes; ids beyond the vocabulary (padding of the head) have none."""
        if token_id not in self._known:
            piece = self._tokenizer.id_to_token(token_id) or ""
            self._known[token_id] = bytes(self._byte_of[letter] for letter in piece)
        return self._known[token_id]


def byte_letters() -> str:
    """The 256 letters of byte-level vocabularies, in the order of the bytes they stand for.

    A byte that prints stands for itself; the others take the code points from 256 on, in turn.
    """
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printing)
    moved = {byte: 256 + turn for turn, byte in enumerate(others)}
    return "".join(chr(moved.get(byte, byte)) for byte in range(256))


class TextStream:
    """The text of one answer. What could still become a stop string is held back."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stop = tuple(stop)
        self._pending = ""

    def push(self, piece: bytes) -> tuple[str, bool]:
        """Add a token's bytes; returns the text free to go, and whether a stop string was met.

        The stop string itself and what follows it are dropped.
        """
        self._pending += self._decoder.decode(piece)
        found = [at for at in (self._pending.find(stop) for stop in self._stop) if at >= 0]
        if found:
            text, self._pending = self._pending[: min(found)], ""
            return text, True
        free = len(self._pending) - self._held()
        text, self._pending = self._pending[:free], self._pending[free:]
        return text, False

    def finish(self) -> str:
        """What was held back; a character that never became whole shows as U+FFFD."""
        text, self._pending = self._pending + self._decoder.decode(b"", final=True), ""
        return text

    def _held(self) -> int:
        longest = min(len(self._pending), max(map(len, self._stop), default=1) - 1)
        for size in range(longest, 0, -1):
            if any(stop.startswith(self._pending[-size:]) for stop in self._stop):
                return size
        return 0


def _decoder_types(decoder: Any) -> set[str]:
    if not isinstance(decoder, dict):
        return set()
    inner = [_decoder_types(part) for part in decoder.get("decoders", [])]
    return {str(decoder.get("type"))}.union(*inner)
