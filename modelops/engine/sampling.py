"""Choosing tokens. Chance is a function of (seed, position), so a repeated step repeats it.

Letters: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch

from modelops.contract import Sampling


def why_not(sampling: Sampling) -> str:
    """What is wrong with these settings: expected and found, or nothing if they are fine."""
    if sampling.max_tokens < 0:
        return f"expected max_tokens of at least 0, found {sampling.max_tokens}"
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        return f"expected a temperature of at least 0, found {sampling.temperature}"
    if not 0 < sampling.top_p <= 1:
        return f"expected top_p above 0 and at most 1, found {sampling.top_p}"
    if not all(sampling.stop):
        return "expected stop strings with at least one character, found an empty one"
    return ""


def chance(seed: int, position: int) -> float:
    """A number in [0, 1), the same for the same seed and position, on any machine."""
    drawn = hashlib.sha256(f"{seed}:{position}".encode()).digest()
    return (int.from_bytes(drawn[:7], "big") >> 3) / 2**53


def choose(
    logits_BV: torch.Tensor, settings: Sequence[Sampling], positions: Sequence[int]
) -> list[int | None]:
    """One token id for each row, or None where the logits are not finite.

    `positions[b]` is the place of the new token in row b's answer, counted from 0.
    """
    # numpy's argmax goes over a row in vectors, torch's one by one; both take the first of equals.
    greedy: list[int] = logits_BV.numpy().argmax(axis=-1).tolist()
    finite: list[bool] = torch.isfinite(logits_BV.sum(dim=-1)).tolist()
    chosen: list[int | None] = []
    for b, (sampling, position) in enumerate(zip(settings, positions, strict=True)):
        if not finite[b]:
            chosen.append(None)
        elif sampling.temperature == 0:
            chosen.append(greedy[b])
        else:
            chosen.append(_sample(logits_BV[b], sampling, chance(sampling.seed, position)))
    return chosen


def _sample(logits_V: torch.Tensor, sampling: Sampling, drawn: float) -> int:
    """The token at the point `drawn` of the cumulated distribution (nucleus: Holtzman 2020)."""
    # Shifted before the division, so that a temperature near 0 cannot overflow to infinity.
    shares_V = torch.softmax((logits_V.double() - logits_V.max()) / sampling.temperature, dim=-1)
    if sampling.top_p == 1:
        return _at(shares_V.cumsum(dim=-1), drawn)
    sorted_V, ids_V = shares_V.sort(descending=True, stable=True)
    total_V = sorted_V.cumsum(dim=-1)
    kept = int((total_V - sorted_V < sampling.top_p).sum())
    return int(ids_V[_at(total_V[:kept], drawn)])


def _at(total_V: torch.Tensor, drawn: float) -> int:
    at = int(torch.searchsorted(total_V, drawn * float(total_V[-1]), right=True))
    # Rounding may put the point at the very end; the last token with any share is meant.
    return min(at, int(torch.searchsorted(total_V, total_V[-1])))


def log_shares(logits_TV: torch.Tensor, next_ids: Sequence[int]) -> list[float]:
    """Natural log-probability of `next_ids[t]` after position t, for as many as are given."""
    T = len(next_ids)
    logs_TV = torch.log_softmax(logits_TV[:T].float(), dim=-1)
    wanted_T1 = torch.tensor(next_ids, dtype=torch.long).reshape(T, 1)
    return [float(x) for x in logs_TV.gather(1, wanted_T1).reshape(T).tolist()]
