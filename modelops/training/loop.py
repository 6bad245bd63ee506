"""The training loop: AdamW, warm-up and cosine, checkpoints that resume to the same bits.

A step depends on nothing but its number, the parameters and the optimiser's two moments, all of
which are in the checkpoint; there is no other state and no chance. A run killed at any moment and
begun again therefore ends in the same weights, on the same machine with the same thread count.
Checkpoints are one safetensors file, replaced atomically: nothing here is ever unpickled.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from modelops.errors import TrainingError
from modelops.training.recipe import Schedule

Report = Callable[[int, int, str, dict[str, float]], None]
"""Called with steps done, steps in all, a note, and metrics by name."""
Stopping = Callable[[], bool]
Loss = Callable[[int], tuple[torch.Tensor, dict[str, float]]]
"""The loss of a step and what to report of it."""

STATE = "state.safetensors"
_SMOOTHING = 0.95
_REPORT_STEPS = 10


@dataclass(frozen=True)
class Group:
    """Parameters by name that share a peak learning rate and a weight decay."""

    parameters: Mapping[str, nn.Parameter]
    peak_lr: float
    weight_decay: float = 0.0


@dataclass(frozen=True)
class Plan:
    """One run: what is trained, for how long, and where its state is kept.

    `identity` is that of recipe and inputs: a checkpoint of another run is refused, not resumed.
    `settle` is called after each step, to keep parameters within bounds.
    """

    identity: str
    folder: Path
    groups: tuple[Group, ...]
    schedule: Schedule
    loss: Loss
    betas: tuple[float, float]
    clip_norm: float
    checkpoint_steps: int
    settle: Callable[[], None] = field(default=lambda: None)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All trained parameters by name."""
        return {name: p for group in self.groups for name, p in group.parameters.items()}


@dataclass(frozen=True)
class Stopped:
    """A run that was asked to stop; its checkpoint is written and the same call goes on."""

    step: int
    steps: int


def lr_factor(step: int, schedule: Schedule) -> float:
    """The share of the peak learning rate at `step` (from 0)."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    way = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * way))


def run(plan: Plan, report: Report, stopping: Stopping) -> dict[str, float] | Stopped:
    """Train to the end, from the checkpoint if there is one; returns the last smoothed metrics.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint is of another run.
    """
    optimiser = _optimiser(plan)
    step, metrics = _restore(plan, optimiser)
    steps = plan.schedule.steps
    while step < steps:
        if stopping():
            _save(plan, optimiser, step, metrics)
            return Stopped(step, steps)
        metrics = _smooth(metrics, _step(plan, optimiser, step))
        step += 1
        if step % plan.checkpoint_steps == 0 or step == steps:
            _save(plan, optimiser, step, metrics)
        if step % _REPORT_STEPS == 0 or step == steps:
            report(step, steps, "training", metrics)
    return metrics


def _step(plan: Plan, optimiser: torch.optim.Optimizer, step: int) -> dict[str, float]:
    factor = lr_factor(step, plan.schedule)
    for group, settings in zip(plan.groups, optimiser.param_groups, strict=True):
        settings["lr"] = group.peak_lr * factor
    loss, metrics = plan.loss(step)
    if not math.isfinite(float(loss.detach())):
        raise TrainingError(
            f"expected a finite loss at step {step}, found {float(loss.detach())}; "
            "lower peak_lr in the recipe and train again in an empty folder"
        )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(plan.parameters.values(), plan.clip_norm)
    optimiser.step()
    plan.settle()
    return metrics


def _smooth(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    return {
        name: _SMOOTHING * before.get(name, value) + (1 - _SMOOTHING) * value
        for name, value in now.items()
    }


def _optimiser(plan: Plan) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": list(group.parameters.values()), "weight_decay": group.weight_decay}
            for group in plan.groups
        ],
        betas=plan.betas,
        fused=True,
    )


def _save(
    plan: Plan, optimiser: torch.optim.Optimizer, step: int, metrics: dict[str, float]
) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in plan.parameters.items():
        tensors[f"value/{name}"] = parameter.detach().contiguous()
        state = optimiser.state.get(parameter)
        if state:
            tensors[f"first/{name}"] = state["exp_avg"]
            tensors[f"second/{name}"] = state["exp_avg_sq"]
    words = {"identity": plan.identity, "step": str(step)}
    words |= {f"metric/{name}": repr(value) for name, value in metrics.items()}
    part = plan.folder / f"{STATE}.part"
    save_file(tensors, part, metadata=words)
    with part.open("rb") as written:
        os.fsync(written.fileno())
    part.replace(plan.folder / STATE)


def _restore(plan: Plan, optimiser: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
    path = plan.folder / STATE
    if not path.exists():
        return 0, {}
    try:
        with safe_open(path, framework="pt") as state:
            words: dict[str, str] = state.metadata() or {}
            if words.get("identity") != plan.identity:
                raise TrainingError(
                    f"expected a checkpoint of this recipe and corpus in {plan.folder.name}, found "
                    "another run's; finish that run, or choose an empty folder"
                )
            _load(plan, optimiser, state, int(words["step"]))
    except SafetensorError as error:
        raise TrainingError(
            f"expected a readable checkpoint in {plan.folder.name}, found damage ({error}); "
            "delete the folder and train again"
        ) from error
    metrics = {
        name.removeprefix("metric/"): float(value)
        for name, value in words.items()
        if name.startswith("metric/")
    }
    return int(words["step"]), metrics


def _load(plan: Plan, optimiser: torch.optim.Optimizer, state: Any, step: int) -> None:
    with torch.no_grad():
        for name, parameter in plan.parameters.items():
            parameter.copy_(state.get_tensor(f"value/{name}"))
            if step:
                optimiser.state[parameter] = {
                    "step": torch.tensor(float(step)),
                    "exp_avg": state.get_tensor(f"first/{name}").clone(),
                    "exp_avg_sq": state.get_tensor(f"second/{name}").clone(),
                }
