"""Every number of a training run, in one frozen value that is published with the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from modelops.errors import TrainingError


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak learning rate, then a half cosine down to `floor` of it."""

    steps: int
    warmup_steps: int
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps < self.steps or not 0 <= self.floor <= 1:
            raise TrainingError(
                "expected 0 <= warmup_steps < steps and a floor in [0, 1], found "
                f"{self}; correct the recipe"
            )


@dataclass(frozen=True)
class AnchorRecipe:
    """How an anchor is made. Widths are of one layer, `context` and `max_positions` in tokens.

    A sample of `corpus_bytes` of the corpora is read, for the tokenizer and for the model.
    `z_loss` weighs the squared log-partition of the output softmax (1e-5 in the FlexOlmo paper,
    §A.2). Matrices decay by `weight_decay`; norms do not.
    """

    vocabulary: int
    width: int
    expert_width: int
    layers: int
    heads: int
    max_positions: int
    context: int
    batch_windows: int
    schedule: Schedule
    peak_lr: float
    rope_theta: float = 10_000.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    z_loss: float = 1e-5
    corpus_bytes: int = 5_000_000
    evaluation_bytes: int = 60_000
    checkpoint_steps: int = 50
    seed: int = 0


@dataclass(frozen=True)
class ExpertRecipe:
    """How an expert is trained beside the frozen anchor (paper §3.3). Nothing decays.

    `public_share` of each batch are public windows, out of `public_bytes` of text; own ones come
    out of at most `corpus_bytes`. The public ones teach the
    router row where the expert does not help; the anchor itself never learns from them here.
    `contrast` weighs the loss that makes a row's logit the log-odds of own text against public
    text, `own_prior` the odds it starts from. `z_loss` and `router_z_loss` are the paper's (§A.2).
    `row_*` set the first router row: `row_windows` windows of each side, logits of ± `row_target`,
    a ridge of `row_ridge` mean variances; `row_norm_cap` bounds its length for good.
    """

    context: int
    batch_windows: int
    schedule: Schedule
    peak_lr: float
    row_peak_lr: float
    public_share: float = 0.5
    corpus_bytes: int = 4_000_000
    public_bytes: int = 1_000_000
    own_prior: float = 0.5
    contrast: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    z_loss: float = 1e-5
    router_z_loss: float = 1e-3
    row_windows: int = 64
    row_target: float = 2.0
    row_ridge: float = 0.01
    row_norm_cap: float = 6.0
    evaluation_bytes: int = 60_000
    checkpoint_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.public_windows < self.batch_windows:
            raise TrainingError(
                "expected at least one own and one public window in each batch, found "
                f"public_share {self.public_share} of {self.batch_windows}; correct the recipe"
            )

    @property
    def public_windows(self) -> int:
        """How many windows of each batch are public."""
        return round(self.batch_windows * self.public_share)


def demo_anchor(seed: int = 0) -> AnchorRecipe:
    """A small anchor that two busy cores train in well under two minutes."""
    return AnchorRecipe(
        vocabulary=2048,
        width=192,
        expert_width=384,
        layers=2,
        heads=3,
        max_positions=512,
        context=256,
        batch_windows=4,
        schedule=Schedule(steps=620, warmup_steps=30),
        peak_lr=8e-3,
        seed=seed,
    )


def demo_expert(seed: int = 0) -> ExpertRecipe:
    """An expert beside `demo_anchor` that one busy core trains in under a minute."""
    return ExpertRecipe(
        context=256,
        batch_windows=4,
        schedule=Schedule(steps=320, warmup_steps=10),
        peak_lr=1e-2,
        row_peak_lr=2e-2,
        evaluation_bytes=30_000,
        seed=seed,
    )


def as_fields(recipe: AnchorRecipe | ExpertRecipe) -> dict[str, Any]:
    """The recipe as plain JSON values, as a manifest states it."""
    fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return fields


def identity(recipe: AnchorRecipe | ExpertRecipe, **inputs: str) -> str:
    """SHA-256 (hex) of a recipe and the digests of what it reads: the same run, or another."""
    fields = {"recipe": as_fields(recipe), "kind": type(recipe).__name__, "inputs": inputs}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
