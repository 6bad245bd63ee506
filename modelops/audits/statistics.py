"""Intervals and tests for shares: what a finite sample may claim about a rate.

Nothing here ever says "0 %": a count of zero has an upper bound, and that is what is reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

BETS = np.array([0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95])
"""Stakes of the betting test; their average is a fair bet too, so no tuning to the data."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with a two-sided interval at `level`; all shares in [0, 1]."""

    estimate: float
    low: float
    high: float
    level: float
    method: str


def clopper_pearson(hits: int, trials: int, level: float = 0.95) -> Interval:
    """The exact binomial interval for `hits` out of `trials` independent windows.

    Raises:
        ValueError: no trials, or more hits than trials.
    """
    if not 0 <= hits <= trials or trials == 0:
        raise ValueError(f"expected 0 ≤ hits ≤ trials and trials ≥ 1, found {hits} of {trials}")
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(stats.beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(stats.beta.ppf(1 - tail, hits + 1, trials - hits))
    return Interval(hits / trials, low, high, level, "Clopper–Pearson")


def capital_against(values: Floats, rate: float) -> float:
    """Capital won betting that the mean of `values` in [0, 1] lies below `rate`.

    If the true mean is at least `rate`, the capital exceeds 1/α with probability at most α, at any
    stopping time (Ville's inequality; betting after Waudby-Smith & Ramdas, arXiv 2010.09686).
    """
    logs = np.log1p(BETS[:, None] * (rate - values[None, :])).sum(axis=1)
    return float(np.exp(_log_mean_exp(logs)))


def mean_interval(values: Floats, level: float = 0.95) -> Interval:
    """A betting interval for the mean of independent `values` in [0, 1], valid at any sample size.

    Raises:
        ValueError: no values, or some outside [0, 1].
    """
    if values.size == 0 or values.min() < 0 or values.max() > 1:
        raise ValueError("expected at least one value, all of them in [0, 1]")
    needed = math.log(2 / (1 - level))
    mean = float(values.mean())
    high = _boundary(lambda rate: _log_capital(rate - values) < needed, mean, 1.0)
    low = _boundary(lambda rate: _log_capital(values - rate) < needed, mean, 0.0)
    return Interval(mean, min(low, mean), max(high, mean), level, "betting")


def auc(positive: Floats, negative: Floats) -> Interval:
    """Area under the ROC curve with DeLong's interval: does `positive` score higher?

    Raises:
        ValueError: fewer than two of either.
    """
    if min(positive.size, negative.size) < 2:
        raise ValueError("expected at least two scores of each class")
    above = (positive[:, None] > negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    area = float(above.mean())
    spread = above.mean(axis=1).var(ddof=1) / positive.size
    spread += above.mean(axis=0).var(ddof=1) / negative.size
    reach = float(stats.norm.ppf(0.975)) * math.sqrt(spread)
    return Interval(area, max(0.0, area - reach), min(1.0, area + reach), 0.95, "DeLong")


def _log_capital(edges: Floats) -> float:
    return _log_mean_exp(np.log1p(BETS[:, None] * edges[None, :]).sum(axis=1))


def _log_mean_exp(logs: Floats) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _boundary(holds: Callable[[float], bool], inside: float, outside: float) -> float:
    """The last rate between `inside` (where `holds`) and `outside`, to 1e-6, never too narrow."""
    if holds(outside):
        return outside
    for _ in range(24):
        middle = (inside + outside) / 2
        if holds(middle):
            inside = middle
        else:
            outside = middle
    return outside
