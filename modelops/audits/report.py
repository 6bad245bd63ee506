"""The audit as a whole: arms, controls, a gate, and a result that states its own limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelops.artefacts.store import Store
from modelops.audits import extraction, paper, windows
from modelops.audits.extraction import Floats, Report, SuffixScores
from modelops.audits.statistics import (
    Interval,
    auc,
    capital_against,
    clopper_pearson,
    mean_interval,
)
from modelops.audits.windows import Windows
from modelops.corpus import jsonl
from modelops.errors import AuditError
from modelops.model import flexolmo, tokenizer

ANCHOR, EXPERT = "anchor", "expert"
LIMITS = (
    "exact suffixes only; near-verbatim copies are sampled on a few windows, not bounded",
    "one window a document; other places of the same document are not covered",
    "decoders with repetition penalties or logit bias are not covered",
    "a low rate does not mean that the model holds no trace of a text",
)


@dataclass(frozen=True)
class Spec:
    """What an audit does. `draws` is how often an attacker may try each passage."""

    prefix: int = 32
    suffix: int = 32
    windows: int = 300
    draws: int = 1000
    paper_windows: int = 16
    alpha: float = 0.05
    fewest_windows: int = 50
    fewest_controls: int = 10


@dataclass(frozen=True)
class ExtractionReport:
    """A verdict with everything behind it. Rates are shares in [0, 1] with 95 % intervals.

    `rate` is the mean chance that `spec.draws` tries extract a member's passage from the expert
    arm; `verdict` is `pass`, `review`, `fail` or `invalid`.
    """

    verdict: str
    rate: float
    rate_low: float
    rate_high: float
    threshold: float
    seed: int
    capital: float
    excess: float
    spec: Spec
    arms: Mapping[str, Mapping[str, Any]]
    reference_auc: Mapping[str, float]
    paper: Mapping[str, Any]
    sizes: Mapping[str, int]
    limits: tuple[str, ...] = LIMITS

    def to_json(self) -> dict[str, Any]:
        """The whole result as plain JSON values."""
        return dataclasses.asdict(self)


def audit_expert(
    store: Store,
    anchor_digest: str,
    expert_name: str,
    expert_digest: str,
    *,
    members_path: Path,
    controls_path: Path,
    seed: int,
    threshold: float,
    spec: Spec | None = None,
    report: Report | None = None,
) -> ExtractionReport:
    """Audit one expert beside its anchor on what it was trained on and on what it never saw.

    `members_path` holds documents of its training set, `controls_path` held-out documents of the
    same source. The anchor alone is the baseline: what it gives away was public already.

    Raises:
        AuditError: too few windows to say anything.
        CorpusError: a path that cannot be read as documents.
    """
    spec = spec or Spec()
    tokens = tokenizer.load(store.path(store.anchor(anchor_digest).tokenizer_digest))
    encode = tokenizer.plain_encoder(tokens)
    key = windows.sample_key(anchor_digest, expert_digest, str(seed))

    def drawn(path: Path) -> Windows:
        return windows.draw(
            jsonl.read(path),
            encode,
            width=spec.prefix + spec.suffix,
            count=spec.windows,
            key=key,
        )

    members, controls = drawn(members_path), drawn(controls_path)
    arms = {
        ANCHOR: flexolmo.assemble(store, anchor_digest, {}),
        EXPERT: flexolmo.assemble(store, anchor_digest, {expert_name: expert_digest}),
    }
    return audit(
        arms,
        members,
        controls,
        lambda ids: str(tokens.decode(ids)),
        seed=seed,
        threshold=threshold,
        spec=spec,
        report=report,
    )


def audit(
    arms: Mapping[str, torch.nn.Module],
    members: Windows,
    controls: Windows,
    decode: paper.Decode,
    *,
    seed: int,
    threshold: float,
    spec: Spec,
    report: Report | None = None,
) -> ExtractionReport:
    """Score members and controls on both arms, and judge the expert against `threshold`.

    Raises:
        AuditError: fewer members than `spec.fewest_windows`, which the gate judges, or fewer
            controls than `spec.fewest_controls`, which only the excess and the AUC need.
    """
    _check_sizes(members, controls, spec)
    sets = {"members": members, "controls": controls}
    scores = {
        name: {what: _scored(model, found, spec, report) for what, found in sets.items()}
        for name, model in arms.items()
    }
    chance = {
        name: {what: found.hit_chance_N(spec.draws) for what, found in scored.items()}
        for name, scored in scores.items()
    }
    members_N = chance[EXPERT]["members"]
    rate = mean_interval(members_N)
    capital = capital_against(members_N, threshold)
    excess = _excess(chance)
    rates = paper.sample(
        arms[EXPERT],
        decode,
        members.tokens_NW[: spec.paper_windows],
        prefix=spec.prefix,
        seed=seed,
    )
    return ExtractionReport(
        verdict=_verdict(capital, rate, excess, threshold, spec),
        rate=rate.estimate,
        rate_low=rate.low,
        rate_high=rate.high,
        threshold=threshold,
        seed=seed,
        capital=capital,
        excess=excess,
        spec=spec,
        arms={
            name: {what: _described(found, spec) for what, found in scored.items()}
            for name, scored in scores.items()
        },
        reference_auc=_reference(scores),
        paper=dataclasses.asdict(rates),
        sizes={what: len(found.tokens_NW) for what, found in sets.items()}
        | {f"{what}_too_short": found.too_short for what, found in sets.items()},
    )


def _check_sizes(members: Windows, controls: Windows, spec: Spec) -> None:
    for what, found, fewest in (
        ("members", members, spec.fewest_windows),
        ("controls", controls, spec.fewest_controls),
    ):
        if len(found.tokens_NW) < fewest:
            raise AuditError(
                f"expected at least {fewest} windows of {what}, found "
                f"{len(found.tokens_NW)} ({found.too_short} documents were too short); an audit "
                "this small would mean nothing"
            )


def _scored(
    model: torch.nn.Module, found: Windows, spec: Spec, report: Report | None
) -> SuffixScores:
    model.eval()
    return extraction.score(model, found.tokens_NW, prefix=spec.prefix, report=report)


def _verdict(capital: float, rate: Interval, excess: float, threshold: float, spec: Spec) -> str:
    if capital >= 1 / spec.alpha:
        return "pass"
    if rate.low > threshold:
        return "fail"
    return "review" if excess < threshold else "fail"


def _excess(chance: Mapping[str, Mapping[str, Floats]]) -> float:
    """What only the expert explains: its gain over the anchor on members, less that on controls."""
    gain = {
        what: float((chance[EXPERT][what] - chance[ANCHOR][what]).mean())
        for what in ("members", "controls")
    }
    return gain["members"] - gain["controls"]


def _reference(scores: Mapping[str, Mapping[str, SuffixScores]]) -> dict[str, float]:
    """Does the expert's gain over the anchor tell members from controls? A validity check."""
    gain = {
        what: scores[EXPERT][what].log_p_DN[0] - scores[ANCHOR][what].log_p_DN[0]
        for what in ("members", "controls")
    }
    found = auc(gain["members"], gain["controls"])
    return {"estimate": found.estimate, "low": found.low, "high": found.high}


def _described(found: SuffixScores, spec: Spec) -> dict[str, Any]:
    chances = {f"rate_{n}": float(found.hit_chance_N(n).mean()) for n in (1, 10, spec.draws)}
    greedy = clopper_pearson(int(found.is_greedy_N.sum()), len(found.is_greedy_N))
    return {
        **chances,
        "rate_interval": dataclasses.asdict(mean_interval(found.hit_chance_N(spec.draws))),
        "greedy": dataclasses.asdict(greedy),
        "rank_bits_below_20": float((found.rank_bits_N <= 20).mean()),
        "median_bits": float(np.median(-found.log_p_DN[0]) / np.log(2)),
    }
