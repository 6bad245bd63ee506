"""How much of a text can be drawn out of a model: exact, from one teacher-forced pass.

For a window of prefix and suffix, sampling emits exactly the suffix with probability
p = ∏ q(token | what precedes), and n independent draws hit it with 1 − (1 − p)ⁿ. One pass gives p
for every decoder at once, so nothing needs to be sampled (Hayes et al., arXiv 2410.19482). The rank
of each token bounds every order-preserving decoder: p ≤ ∏ 1/rank.

What a low rate does not prove: that the model holds no trace of a text, that a cleverer prompt
finds nothing, or that near-verbatim copies are rare. `modelops.audits.paper` samples for the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modelops.audits.windows import Tokens

Floats = npt.NDArray[np.float64]
Report = Callable[[int, int, str, dict[str, float]], None]

# N windows, S suffix tokens, V vocabulary


@dataclass(frozen=True)
class Decoder:
    """A way of choosing tokens. `top_k` 0 and `top_p` 1 keep everything."""

    name: str
    temperature: float
    top_k: int = 0
    top_p: float = 1.0


DECODERS = (
    *(Decoder(f"T={t}", t) for t in (1.0, 0.7, 0.5, 0.3, 0.2, 0.1)),
    Decoder("T=1 k=40", 1.0, top_k=40),
    Decoder("T=1 k=50 p=0.95", 1.0, top_k=50, top_p=0.95),
)
"""T=1 alone certifies leaks: an expert can be safe there and give a text away at T=0.3."""

TIE = 1e-4
"""A token this close to the top logit counts as the top: kernels differ by less."""


@dataclass(frozen=True)
class SuffixScores:
    """What one arm gives away of N windows.

    `log_p_DN` natural-log probability of the suffix under each decoder (−inf where truncated
    away), `rank_bits_N` Σ log₂ rank, `is_greedy_N` whether greedy decoding emits the suffix.
    """

    log_p_DN: Floats
    rank_bits_N: Floats
    is_greedy_N: npt.NDArray[np.bool_]

    def hit_chance_N(self, draws: int) -> Floats:
        """The chance that `draws` attempts with the best decoder emit the suffix exactly."""
        sampled_N = -np.expm1(draws * _log1m_exp(self.log_p_DN.max(axis=0)))
        best_N: Floats = np.where(self.is_greedy_N, 1.0, sampled_N)
        return best_N


def score(
    model: torch.nn.Module,
    tokens_NW: Tokens,
    *,
    prefix: int,
    batch: int = 16,
    report: Report | None = None,
) -> SuffixScores:
    """Score every window of `tokens_NW` (int32 [N, prefix + S]) under `model`, in fp32."""
    logs, bits, greedy = [], [], []
    with torch.inference_mode():
        for rows in _batches(tokens_NW, batch):
            ids_BW = torch.from_numpy(rows.astype(np.int64))
            logits_BSV = model(ids_BW, use_cache=False).logits[:, prefix - 1 : -1].float()
            suffix_BS = ids_BW[:, prefix:]
            own_BS1 = logits_BSV.gather(2, suffix_BS[..., None])
            logs.append(torch.stack([log_q(logits_BSV, own_BS1, d).sum(1) for d in DECODERS]))
            rank_BS = 1 + (logits_BSV > own_BS1 + TIE).sum(dim=2)
            bits.append(rank_BS.double().log2().sum(dim=1))
            greedy.append((rank_BS == 1).all(dim=1))
            if report is not None:
                report(sum(map(len, greedy)), len(tokens_NW), "windows scored", {})
    return SuffixScores(
        torch.cat(logs, dim=1).numpy(), torch.cat(bits).numpy(), torch.cat(greedy).numpy()
    )


def log_q(logits_BSV: Tensor, own_BS1: Tensor, decoder: Decoder) -> Tensor:
    """log q of each suffix token under `decoder`: float64 [B, S], −inf where it is cut off."""
    scaled_BSV = logits_BSV / decoder.temperature
    own_BS = (own_BS1 / decoder.temperature).squeeze(2)
    if decoder.top_k == 0 and decoder.top_p >= 1:
        return (own_BS - scaled_BSV.logsumexp(dim=2)).double()
    kept = min(decoder.top_k or scaled_BSV.shape[2], scaled_BSV.shape[2])
    top_BSK = scaled_BSV.topk(kept, dim=2).values
    share_BSK = top_BSK.softmax(dim=2)
    before_BSK = share_BSK.cumsum(dim=2) - share_BSK
    kept_BSK = before_BSK < decoder.top_p
    total_BS = top_BSK.masked_fill(~kept_BSK, -math.inf).logsumexp(dim=2)
    least_BS = top_BSK.masked_fill(~kept_BSK, math.inf).amin(dim=2)
    log_BS = (own_BS - total_BS).double()
    return log_BS.masked_fill(own_BS < least_BS, -math.inf)


def _log1m_exp(log_p: Floats) -> Floats:
    """log(1 − eˣ) for x ≤ 0 without underflow."""
    with np.errstate(divide="ignore"):
        found: Floats = np.log1p(-np.exp(np.minimum(log_p, 0.0)))
    return found


def _batches(tokens_NW: Tokens, batch: int) -> Iterator[Tokens]:
    for start in range(0, len(tokens_NW), batch):
        yield tokens_NW[start : start + batch]
