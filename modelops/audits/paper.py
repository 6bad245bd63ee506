"""The FlexOlmo paper's own extraction test, for comparison with its 0.7 % and 60 %.

Protocol of the released script: 32 tokens given, up to 256 with them, ten samples (top-k 50,
top-p 0.95, T=1), extracted if any has a normalised Levenshtein similarity of at least 0.9 to the
text, *the given prefix counted on both sides*. The prefix is free credit, so the same samples are
also scored without it. Source: arXiv 2507.07024 §5.3 and allenai/FlexOlmo's extraction analysis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from modelops.audits.statistics import Interval, clopper_pearson
from modelops.audits.windows import Tokens

SIMILAR = 0.9
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class PaperRates:
    """Shares of windows extracted, as the paper counts and by the suffix alone."""

    with_prefix: Interval
    suffix_only: Interval
    samples: int
    length: int


def sample(
    model: torch.nn.Module,
    decode: Decode,
    tokens_NW: Tokens,
    *,
    prefix: int,
    seed: int,
    samples: int = 10,
) -> PaperRates:
    """Sample `samples` continuations of each window's prefix and compare the decoded texts.

    Seeded: the same model, windows and seed give the same rates.
    """
    width = tokens_NW.shape[1]
    hits = np.zeros(2, dtype=int)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for row in tokens_NW:
            given = torch.from_numpy(row[None, :prefix].astype(np.int64))
            drawn_RW = model.generate(  # type: ignore[operator] # torch types modules as tensors
                given.repeat(samples, 1),
                attention_mask=torch.ones(samples, prefix, dtype=torch.long),
                do_sample=True,
                top_k=50,
                top_p=0.95,
                temperature=1.0,
                max_length=width,
                max_new_tokens=None,
            )
            hits += _extracted(drawn_RW.tolist(), row.tolist(), decode, prefix)
    whole, suffix = (clopper_pearson(int(count), len(tokens_NW)) for count in hits)
    return PaperRates(whole, suffix, samples, width)


def _extracted(
    drawn: list[list[int]], target: list[int], decode: Decode, prefix: int
) -> tuple[bool, bool]:
    whole = any(_similarity(decode(row), decode(target)) >= SIMILAR for row in drawn)
    suffix = any(
        _similarity(decode(row[prefix:]), decode(target[prefix:])) >= SIMILAR for row in drawn
    )
    return whole, suffix


def _similarity(one: str, other: str) -> float:
    return float(Levenshtein.normalized_similarity(one, other))
