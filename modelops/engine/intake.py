"""From an order to a sequence, or to the reason why it cannot be one."""

from __future__ import annotations

import re

from tokenizers import Tokenizer

from modelops.contract import PUBLIC, GenerationOrder, RefusalReason, Refused
from modelops.engine import sampling
from modelops.engine.sequence import Deliver, Sequence
from modelops.engine.text import TextStream, TokenBytes
from modelops.model import tokenizer as chat


class Intake:
    """Checks and tokenises orders, in the thread of whoever submits them.

    `max_length` is in tokens, prompt and answer together; `vocab_size` counts the model's logits;
    `most_places` is the most experts a token can have here, None if only the build limits it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        anchor_digest: str,
        max_length: int,
        vocab_size: int,
        most_places: int | None = None,
    ) -> None:
        # What a consumer types is text: a special token's name in it must not become that token.
        self.encode_plain = chat.plain_encoder(tokenizer)
        self._anchor_digest, self._max_length = anchor_digest, max_length
        self._vocab_size, self._most_places = vocab_size, most_places
        pieces = tokenizer.get_vocab(with_added_tokens=True)
        self._longest_piece = max(map(len, pieces))
        self.bytes_of = TokenBytes(tokenizer)

    def examine(self, order: GenerationOrder, deliver: Deliver) -> Sequence | Refused:
        """The order as a sequence, or its refusal."""
        if malformed := _why_malformed(order):
            return Refused(order.order_id, RefusalReason.BAD_ORDER, malformed)
        if wrong := sampling.why_not(order.sampling, self._vocab_size):
            return Refused(order.order_id, RefusalReason.BAD_SAMPLING, wrong)
        if order.anchor_digest != self._anchor_digest:
            return Refused(
                order.order_id,
                RefusalReason.UNKNOWN_BUILD,
                f"expected a build on anchor {self._anchor_digest}, found {order.anchor_digest}; "
                "send it to a runner of that anchor",
                retry=True,
            )
        places = min(order.top_k, len(order.allowed) + 1)
        if self._most_places is not None and places > self._most_places:
            return Refused(
                order.order_id,
                RefusalReason.UNKNOWN_BUILD,
                f"expected at most {self._most_places} experts a token here, found {places}; "
                "start this runner's engine with more places",
                retry=True,
            )
        try:
            prompt_ids = () if self._is_hopeless(order) else self._encode(order)
        except ValueError as wrong_turn:
            return Refused(order.order_id, RefusalReason.BAD_ORDER, str(wrong_turn))
        too_long = self._why_too_long(order, prompt_ids)
        if too_long:
            return Refused(order.order_id, RefusalReason.CONTEXT_LENGTH, too_long)
        if not prompt_ids:
            detail = "expected a prompt of at least one token, found an empty one; send some text"
            return Refused(order.order_id, RefusalReason.EMPTY_PROMPT, detail)
        return Sequence(order, deliver, prompt_ids, TextStream(order.sampling.stop))

    def _encode(self, order: GenerationOrder) -> tuple[int, ...]:
        if order.turns:
            return tuple(chat.encode_chat_with(self.encode_plain, order.turns))
        return tuple(self.encode_plain(order.prompt))

    def _is_hopeless(self, order: GenerationOrder) -> bool:
        """Whether it is too long whatever its tokens are; spares tokenising a flood of text."""
        size = len(order.prompt) + sum(len(turn.content) for turn in order.turns)
        return size > self._longest_piece * self._max_length

    def _why_too_long(self, order: GenerationOrder, prompt_ids: tuple[int, ...]) -> str:
        asked = order.sampling.max_tokens
        if self._is_hopeless(order):
            found = f"a prompt certainly above {self._max_length}"
        elif len(prompt_ids) + asked > self._max_length:
            total = len(prompt_ids) + asked
            found = f"{total} ({len(prompt_ids)} in the prompt, {asked} for the answer)"
        else:
            return ""
        return (
            f"expected at most {self._max_length} tokens in all, found {found}; "
            "shorten the prompt or lower max_tokens"
        )


def _why_malformed(order: GenerationOrder) -> str:
    names = [ref.name for ref in order.allowed]
    if order.turns and order.prompt:
        return "expected turns or a prompt, found both; send one of them"
    if PUBLIC in names or len(set(names)) != len(names):
        return (
            f"expected each licensed expert once and no {PUBLIC!r}, found {names}; "
            "list each once, the public expert is implied"
        )
    if not all(map(_is_text, (order.prompt, *(turn.content for turn in order.turns)))):
        return "expected text, found half of a surrogate pair; send well-formed Unicode"
    if order.top_k < 1:
        return f"expected top_k of at least 1, found {order.top_k}; take it from the build"
    if order.sampling.max_tokens == 0 and not order.score_prompt:
        return "expected max_tokens of at least 1, found 0; 0 is for scoring a prompt"
    return ""


def _is_text(text: str) -> bool:
    # JSON can spell a lone surrogate; no encoding of text can.
    return re.search("[\ud800-\udfff]", text) is None
