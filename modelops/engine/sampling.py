"""Choosing tokens. Chance is a function of (seed, position), so a repeated step repeats it.

Letters: B rows, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from modelops.contract import Sampling

MOST_TOP_LOGPROBS = 20
MOST_BIASES = 1024


@dataclass(frozen=True)
class Past:
    """The tokens before the one to be chosen."""

    prompt_ids: Sequence[int]
    output_ids: Sequence[int]


@dataclass(frozen=True)
class Likelihood:
    """The log-probability of the chosen token, and (id, log-probability) of the likeliest."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def why_not(sampling: Sampling, vocab_size: int) -> str:
    """What is wrong with these settings: expected and found, or nothing if they are fine."""
    if sampling.max_tokens < 0:
        return f"expected max_tokens of at least 0, found {sampling.max_tokens}"
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        return f"expected a temperature of at least 0, found {sampling.temperature}"
    if not 0 < sampling.top_p <= 1:
        return f"expected top_p above 0 and at most 1, found {sampling.top_p}"
    if not all(sampling.stop):
        return "expected stop strings with at least one character, found an empty one"
    if sampling.top_k < 0:
        return f"expected top_k of at least 0 (0 keeps all tokens), found {sampling.top_k}"
    for name in ("presence_penalty", "frequency_penalty"):
        if not -2 <= getattr(sampling, name) <= 2:
            return f"expected {name} from -2 to 2, found {getattr(sampling, name)}"
    if not 0 < sampling.repetition_penalty <= 10:
        return (
            "expected repetition_penalty above 0 and at most 10 (1 changes nothing), found "
            f"{sampling.repetition_penalty}"
        )
    if sampling.top_logprobs is not None and not 0 <= sampling.top_logprobs <= MOST_TOP_LOGPROBS:
        return f"expected top_logprobs from 0 to {MOST_TOP_LOGPROBS}, found {sampling.top_logprobs}"
    return _why_not_biased(sampling.logit_bias, vocab_size)


def _why_not_biased(biases: Sequence[tuple[int, float]], vocab_size: int) -> str:
    if len(biases) > MOST_BIASES:
        return f"expected at most {MOST_BIASES} tokens in logit_bias, found {len(biases)}"
    if len({token_id for token_id, _ in biases}) != len(biases):
        return "expected each token once in logit_bias, found one twice"
    for token_id, bias in biases:
        if not 0 <= token_id < vocab_size:
            return f"expected token ids below {vocab_size} in logit_bias, found {token_id}"
        if not -100 <= bias <= 100:
            return f"expected a logit_bias from -100 to 100, found {bias} for token {token_id}"
    return ""


def chance(seed: int, position: int) -> float:
    """A number in [0, 1), the same for the same seed and position, on any machine."""
    drawn = hashlib.sha256(f"{seed}:{position}".encode()).digest()
    return (int.from_bytes(drawn[:7], "big") >> 3) / 2**53


def choose(
    logits_BV: torch.Tensor, settings: Sequence[Sampling], pasts: Sequence[Past]
) -> list[int | None]:
    """One token id for each row, or None where the logits are not finite."""
    # numpy's argmax goes over a row in vectors, torch's one by one; both take the first of equals.
    greedy: list[int] = logits_BV.numpy().argmax(axis=-1).tolist()
    finite: list[bool] = torch.isfinite(logits_BV.sum(dim=-1)).tolist()
    chosen: list[int | None] = []
    for b, (sampling, past) in enumerate(zip(settings, pasts, strict=True)):
        row_V = logits_BV[b] if _is_plain(sampling) else adjusted(logits_BV[b], sampling, past)
        if not finite[b]:
            chosen.append(None)
        elif sampling.temperature > 0:
            drawn = chance(sampling.seed, len(past.output_ids))
            chosen.append(_sample(row_V, sampling, drawn))
        else:
            chosen.append(greedy[b] if _is_plain(sampling) else int(row_V.numpy().argmax()))
    return chosen


def adjusted(logits_V: torch.Tensor, sampling: Sampling, past: Past) -> torch.Tensor:
    """A copy of the logits with penalties and bias (repetition: Keskar et al. 2019, over prompt
    and answer; presence and frequency: as OpenAI's API has them, over the answer)."""
    changed_V = logits_V.clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor([*past.prompt_ids, *past.output_ids], dtype=torch.long).unique()
        found = changed_V[seen]
        weaker = found / sampling.repetition_penalty, found * sampling.repetition_penalty
        changed_V[seen] = torch.where(found > 0, *weaker)
    if past.output_ids and (sampling.presence_penalty or sampling.frequency_penalty):
        ids, counts = torch.tensor(past.output_ids).unique(return_counts=True)
        changed_V[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    if sampling.logit_bias:
        biased, by = zip(*sampling.logit_bias, strict=True)
        changed_V[list(biased)] += torch.tensor(by, dtype=changed_V.dtype)
    return changed_V


def likelihoods(
    logits_BV: torch.Tensor, chosen: Sequence[int | None], settings: Sequence[Sampling]
) -> list[Likelihood | None]:
    """For the rows that ask for it, how likely the model itself held the chosen token."""
    found: list[Likelihood | None] = []
    for logits_V, token_id, sampling in zip(logits_BV, chosen, settings, strict=True):
        if token_id is None or sampling.top_logprobs is None:
            found.append(None)
            continue
        logs_V = torch.log_softmax(logits_V.double(), dim=-1)
        n = min(sampling.top_logprobs, len(logs_V))
        logs, ids = logs_V.sort(descending=True, stable=True)
        top = tuple(zip(ids[:n].tolist(), logs[:n].tolist(), strict=True))
        found.append(Likelihood(float(logs_V[token_id]), top))
    return found


def _is_plain(sampling: Sampling) -> bool:
    is_unpenalised = not (sampling.presence_penalty or sampling.frequency_penalty)
    return is_unpenalised and sampling.repetition_penalty == 1 and not sampling.logit_bias


def _sample(logits_V: torch.Tensor, sampling: Sampling, drawn: float) -> int:
    """The token at the point `drawn` of the cumulated distribution (nucleus: Holtzman 2020)."""
    # Shifted before the division, so that a temperature near 0 cannot overflow to infinity.
    scaled_V = (logits_V.double() - logits_V.max()) / sampling.temperature
    if sampling.top_p == 1 and sampling.top_k == 0:
        return _at(torch.softmax(scaled_V, dim=-1).cumsum(dim=-1), drawn)
    sorted_V, ids_V = scaled_V.sort(descending=True, stable=True)
    sorted_V = torch.softmax(sorted_V[: sampling.top_k or None], dim=-1)
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
