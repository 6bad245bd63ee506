"""What training minimises on a batch of windows."""

# B windows, T tokens, V vocabulary, L layers

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional


def language_loss(model: Any, tokens_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean next-token loss in nats, and the mean squared log-partition (z-loss)."""
    hidden = model.model(input_ids=tokens_BT[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden).flatten(0, 1)
    partition = logits.logsumexp(-1)
    chosen = logits.gather(1, tokens_BT[:, 1:].flatten()[:, None]).squeeze(1)
    return (partition - chosen).mean(), partition.square().mean()


def router_z_loss(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean squared log-partition of the routers of all layers."""
    return torch.stack([layer.logsumexp(-1).square().mean() for layer in logits]).mean()


def contrast_loss(
    logits: Sequence[torch.Tensor], own_windows: int, own_prior: float
) -> torch.Tensor:
    """How badly the rows tell own text from public text, in nats a token.

    The first `own_windows` of the batch are the owner's, the rest public. Logistic loss of the
    logit difference (own minus public), averaged over each side and weighed by `own_prior` and its
    rest. At its minimum the difference is the log-odds of own against public text. Rows trained
    so, each against the same public text and none against another owner's, can stand in one
    softmax, which is then the posterior over all owners and the public (Bayes' rule).
    """
    margins = torch.stack([layer[..., 1] - layer[..., 0] for layer in logits])
    own = functional.softplus(-margins[:, :own_windows]).mean()
    public = functional.softplus(margins[:, own_windows:]).mean()
    return own_prior * own + (1 - own_prior) * public
