"""How well a model predicts text, in bits a byte: one scale for all tokenizers."""

# T tokens, N tokens of the whole stream, V vocabulary

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from modelops.corpus import packing
from modelops.corpus.jsonl import Document
from modelops.errors import CorpusError
from modelops.model import tokenizer as marks

_WINDOWS_AT_ONCE = 8


def bits_per_byte(
    model: Any, tokenizer: Tokenizer, documents: Sequence[Document], context: int = 256
) -> float:
    """Mean bits the model needs for one UTF-8 byte of the documents' text.

    Documents stand one after another, each behind an end-of-text token, in windows of `context`
    tokens; every token of text is predicted once, from what its window holds before it. End marks
    are read and not counted. `model` maps token ids to logits the way transformers' models do.

    Raises:
        CorpusError: no text to measure on.
    """
    encode = marks.plain_encoder(tokenizer)
    size_bytes = sum(len(document.text.encode()) for document in documents)
    if not size_bytes:
        raise CorpusError("expected text to measure on, found none; add held-out documents")
    packed = packing.pack((encode(document.text) for document in documents), marks.END_ID)
    stream_N = torch.from_numpy(np.concatenate([[marks.END_ID], packed.tokens_N]).astype(np.int64))
    nats = 0.0
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in _windows(stream_N, context):
            nats += _nats(model, batch)
    model.train(was_training)
    return nats / math.log(2) / size_bytes


def _windows(stream_N: torch.Tensor, context: int) -> list[torch.Tensor]:
    """Batches [B, T + 1] of whole windows, then the shorter rest by itself."""
    whole = (len(stream_N) - 1) // context
    batches: list[torch.Tensor] = []
    if whole:
        overlapping = stream_N[: whole * context + 1].unfold(0, context + 1, context)
        batches += overlapping.split(_WINDOWS_AT_ONCE)
    rest = stream_N[whole * context :]
    return [*batches, rest[None]] if len(rest) > 1 else batches


def _nats(model: Any, tokens_BT: torch.Tensor) -> float:
    targets = tokens_BT[:, 1:].flatten()
    logits = model(input_ids=tokens_BT[:, :-1], use_cache=False).logits.float().flatten(0, 1)
    losses = functional.cross_entropy(logits, targets, reduction="none")
    return float(losses[targets != marks.END_ID].double().sum())
