"""The router rows an expert begins with, from the anchor's own hidden states.

The paper takes a domain embedding from an outside model (§3.3.2) and, as the variant without one,
mean hidden states (Table 3). Here it is the means' difference, owner's minus public's, seen through
the inverse covariance: without that, the few directions in which all text is large drown it.
"""

# B windows, T tokens of a window, N = B·T tokens of a sample, D hidden width

from __future__ import annotations

from typing import Any

import torch

_WINDOWS_AT_ONCE = 8


def hidden_states(model: Any, tokens_BT: torch.Tensor) -> list[torch.Tensor]:
    """What each layer's router sees for the sample: one [N, D] a layer."""
    seen: list[list[torch.Tensor]] = [[] for _ in model.model.layers]
    hooks = [
        layer.mlp.register_forward_pre_hook(
            lambda _, inputs, kept=kept: kept.append(inputs[0].flatten(0, 1))
        )
        for layer, kept in zip(model.model.layers, seen, strict=True)
    ]
    try:
        with torch.no_grad():
            for batch in tokens_BT[:, :-1].split(_WINDOWS_AT_ONCE):
                model.model(input_ids=batch, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [torch.cat(kept) for kept in seen]


def between(
    own_ND: torch.Tensor, public_ND: torch.Tensor, target: float, ridge: float
) -> torch.Tensor:
    """The direction [D] whose product is nearest to +target on own states, −target on public ones.

    Ridge regression in double precision; each side weighs half, whatever its size. With two
    targets its solution is (covariance + ridge)⁻¹ times the difference of the means, up to scale.
    """
    own, public = own_ND.double(), public_ND.double()
    moment = (own.T @ own / len(own) + public.T @ public / len(public)) / 2
    towards = target * (own.mean(0) - public.mean(0)) / 2
    softened = moment + ridge * moment.diagonal().mean() * torch.eye(len(moment)).double()
    return torch.linalg.solve(softened, towards).to(own_ND.dtype)
