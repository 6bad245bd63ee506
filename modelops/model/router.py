"""The router's choice, as if the experts that are not allowed had never been there.

Letters: T tokens, D hidden width, E experts of the build, K places a token has.

Kept-rows semantics: only the allowed experts' logits enter the softmax, the sum and the choice.
The result is bit for bit that of a router whose other rows were removed, because
- a removed lane contributes an exact 0 to a sum taken in the order of experts,
- the sort is stable, so equal weights go to the earlier expert and removal keeps the order,
- `logits` computes in blocks of one fixed width, so a row's own logit never sees how many others
  stand beside it.
A place without an expert has weight 0 and index −1: whoever runs experts must skip it, so that a
denied expert's weights are not even read.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from modelops.errors import RoutingGuardError

NO_EXPERT = -1
BLOCK_ROWS = 16


def logits(hidden_TD: torch.Tensor, rows_ED: torch.Tensor) -> torch.Tensor:
    """Router logits [T, E] of the un-normed residual stream, in blocks of `BLOCK_ROWS` rows.

    A matrix product may sum in another order for another width; a constant width keeps a row's
    logit the same whether its neighbours are there, removed or replaced by zeros.
    """
    E = rows_ED.shape[0]
    padded_BD = functional.pad(rows_ED, (0, 0, 0, -E % BLOCK_ROWS))
    blocks = [functional.linear(hidden_TD, block) for block in padded_BD.split(BLOCK_ROWS)]
    return torch.cat(blocks, dim=-1)[:, :E]


def route(
    logits_TE: torch.Tensor, allowed_TE: torch.Tensor, top_k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose for each token at most `top_k` of the experts its row allows.

    Returns `(weights_TK, experts_TK)` with K = min(top_k, E): the weights are raw entries of the
    softmax over the allowed experts (fp32 inside, cast to the logits' dtype), in falling order,
    not renormalised; experts are indices, or `NO_EXPERT` with weight 0 where a row allows fewer
    than K. Logits that are not allowed may be anything, NaN included.

    Raises:
        RoutingGuardError: shapes differ, the mask is not boolean, `top_k` is below 1, or a row
            allows no expert at all.
    """
    _guard(logits_TE, allowed_TE, top_k)
    shares_TE = shares(logits_TE, ~allowed_TE)
    K = min(top_k, logits_TE.shape[-1])
    experts_TK = ranked(shares_TE, ~allowed_TE)[:, :K]
    filled_TK = allowed_TE.gather(1, experts_TK)
    weights_TK = shares_TE.gather(1, experts_TK).to(logits_TE.dtype)
    return weights_TK, torch.where(filled_TK, experts_TK, NO_EXPERT)


def shares(logits_TE: torch.Tensor, denied_TE: torch.Tensor) -> torch.Tensor:
    """The softmax over the experts that are not denied, in fp32; a denied one's share is 0.

    The parts of `route`, for whoever has already made sure that every row keeps an expert.
    """
    kept_TE = torch.where(denied_TE, -torch.inf, logits_TE.float())
    raised_TE = kept_TE.sub_(kept_TE.amax(dim=-1, keepdim=True)).exp_()
    total_T, *others = raised_TE.unbind(dim=-1)
    for lane_T in others:
        total_T = total_T + lane_T
    return raised_TE.div_(total_T.unsqueeze(-1)).masked_fill_(denied_TE, 0.0)


def ranked(shares_TE: torch.Tensor, denied_TE: torch.Tensor) -> torch.Tensor:
    """The experts of each row, the largest share first, the denied ones last."""
    known_TE = shares_TE.masked_fill(denied_TE, -torch.inf)
    return known_TE.sort(dim=-1, descending=True, stable=True).indices


def _guard(logits_TE: torch.Tensor, allowed_TE: torch.Tensor, top_k: int) -> None:
    if allowed_TE.dtype != torch.bool or allowed_TE.shape != logits_TE.shape:
        raise RoutingGuardError(
            f"expected a boolean mask of shape {tuple(logits_TE.shape)}, found "
            f"{allowed_TE.dtype} of {tuple(allowed_TE.shape)}; give each token its own row"
        )
    if top_k < 1:
        raise RoutingGuardError(f"expected top_k of at least 1, found {top_k}")
    if not bool(allowed_TE.any(dim=-1).all()):
        raise RoutingGuardError(
            "expected every token to be allowed at least the public expert, found a row without "
            "any; refuse the request before it reaches the router"
        )
