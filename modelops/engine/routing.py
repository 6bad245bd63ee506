"""Who may be routed where in one step, and the layer part that obeys it.

Letters: B rows of a step, S tokens of each, T = B·S tokens, E lanes in use, K places of a token,
D hidden width, L layers.

`StepRouting` is made for one step and says which experts each row may use. `GovernedMoE` takes
the place of the stock feed-forward block and refuses to compute without a step, with a step made
for other tokens, or out of turn: a stray call fails instead of leaking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from modelops.engine.bank import PUBLIC_LANE, ExpertBank
from modelops.errors import RoutingGuardError
from modelops.model.router import NO_EXPERT, route


class StepAbandoned(Exception):  # not an error: the step is run again with what is still allowed
    """Something was withdrawn while the step ran."""


@dataclass(frozen=True)
class RowUse:
    """What one row used in one step, by lane, over all layers."""

    routed: tuple[int, ...]
    mass: tuple[float, ...]


class StepRouting:
    """The allowed lanes of each row of one step of B rows and S tokens each.

    `is_interrupted` is asked at every layer; when it says yes the step is abandoned.

    Raises:
        RoutingGuardError: a row is not allowed the public expert, or the numbers do not match.
    """

    def __init__(
        self,
        lanes: Sequence[tuple[int, ...]],
        top_k: Sequence[int],
        tokens_per_row: int,
        lanes_in_use: int,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        if not lanes or len(lanes) != len(top_k) or min(top_k) < 1:
            raise RoutingGuardError(
                f"expected one allowed set and one top_k of at least 1 a row, found {len(lanes)} "
                f"sets and top_k {list(top_k)}; give every row both"
            )
        if any(PUBLIC_LANE not in row for row in lanes):
            raise RoutingGuardError(
                "expected every row to be allowed the public expert, found one that is not; "
                "refuse that request"
            )
        self.B, self.S, self.E = len(lanes), tokens_per_row, lanes_in_use
        self._is_interrupted = is_interrupted
        self._lanes = tuple(lanes)
        self._allowed_TE = _mask(lanes, lanes_in_use).repeat_interleave(self.S, dim=0)
        self._top_k = max(top_k)
        self._top_k_T1: torch.Tensor | None = None
        if min(top_k) != self._top_k:
            self._top_k_T1 = torch.tensor(top_k).repeat_interleave(self.S).unsqueeze(1)
        self._choices: list[tuple[torch.Tensor, torch.Tensor]] = []

    def enter(self, layer: int, shape: Sequence[int]) -> None:
        """Check that `layer` is the next one and that it holds exactly this step's tokens.

        Raises:
            RoutingGuardError: other tokens, or a layer out of turn.
            StepAbandoned: the step was interrupted.
        """
        if self._is_interrupted():
            raise StepAbandoned
        if tuple(shape[:-1]) != (self.B, self.S) or layer != len(self._choices):
            raise RoutingGuardError(
                f"expected layer {len(self._choices)} of {self.B} rows with {self.S} tokens each, "
                f"found layer {layer} of {tuple(shape[:-1])}; make one step for each forward"
            )

    def choose(self, logits_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and lanes [T, K] for one layer; a place without an expert is `NO_EXPERT`."""
        weights_TK, lanes_TK = route(logits_TE, self._allowed_TE, self._top_k)
        if self._top_k_T1 is not None:
            beyond_TK = torch.arange(lanes_TK.shape[1]) >= self._top_k_T1
            weights_TK = weights_TK.masked_fill(beyond_TK, 0.0)
            lanes_TK = lanes_TK.masked_fill(beyond_TK, NO_EXPERT)
        self._choices.append((weights_TK, lanes_TK))
        return weights_TK, lanes_TK

    def use(self, layers: int) -> list[RowUse]:
        """What each row used, after all `layers` have run.

        Raises:
            RoutingGuardError: a layer did not run, or a lane that is not allowed was routed to.
        """
        if len(self._choices) != layers:
            raise RoutingGuardError(
                f"expected {layers} governed layers in the step, found {len(self._choices)}; "
                "the model was built with other feed-forward blocks"
            )
        routed_BE = [[0] * self.E for _ in range(self.B)]
        mass_BE = [[0.0] * self.E for _ in range(self.B)]
        for weights_TK, lanes_TK in self._choices:
            # Plain numbers: for the few places of a step this is faster than counting in tensors.
            pairs = zip(lanes_TK.tolist(), weights_TK.tolist(), strict=True)
            for token, (lanes, weights) in enumerate(pairs):
                row = token // self.S
                for lane, weight in zip(lanes, weights, strict=True):
                    if lane != NO_EXPERT:
                        routed_BE[row][lane] += 1
                        mass_BE[row][lane] += weight
        for allowed, routed in zip(self._lanes, routed_BE, strict=True):
            if any(n and lane not in allowed for lane, n in enumerate(routed)):
                raise RoutingGuardError(
                    "expected no token at an expert its request is not allowed, found one; "
                    "stop this engine: its router is wrong"
                )
        rows = zip(routed_BE, mass_BE, strict=True)
        return [RowUse(tuple(routed), tuple(mass)) for routed, mass in rows]


class StepDesk:
    """Where the one running step lies for the layers to find; empty between steps."""

    def __init__(self) -> None:
        self._step: StepRouting | None = None

    @contextmanager
    def open(self, step: StepRouting) -> Iterator[None]:
        """Lay `step` down for the length of one forward.

        Raises:
            RoutingGuardError: another step is running.
        """
        if self._step is not None:
            raise RoutingGuardError("expected no running step, found one; run one at a time")
        self._step = step
        try:
            yield
        finally:
            self._step = None

    def step(self) -> StepRouting:
        """The running step.

        Raises:
            RoutingGuardError: the model was called outside of a step.
        """
        if self._step is None:
            raise RoutingGuardError(
                "expected a step that says which experts are allowed, found none; "
                "call the model through the engine"
            )
        return self._step


class GovernedMoE(nn.Module):
    """The feed-forward block of one layer: runs for each token the experts chosen among those its
    row allows, in the order of lanes, and nothing else."""

    def __init__(self, layer: int, bank: ExpertBank, desk: StepDesk) -> None:
        super().__init__()
        self._layer, self._bank, self._desk = layer, bank, desk

    def forward(self, hidden_BSD: torch.Tensor) -> torch.Tensor:
        step = self._desk.step()
        step.enter(self._layer, hidden_BSD.shape)
        x_TD = hidden_BSD.reshape(-1, hidden_BSD.shape[-1])
        weights_TK, lanes_TK = step.choose(self._bank.router_logits(self._layer, x_TD))
        out_TD = torch.zeros_like(x_TD)
        for lane, tokens, places in places_by_lane(lanes_TK):
            if len(tokens) == 1:  # slices: cheaper than gathering, and most of a small batch
                (t,), (k,) = tokens, places
                answer_ND = self._bank.run(self._layer, lane, x_TD[t : t + 1])
                out_TD[t : t + 1] += answer_ND * weights_TK[t : t + 1, k : k + 1]
                continue
            at_N = torch.tensor(tokens)
            answer_ND = self._bank.run(self._layer, lane, x_TD[at_N])
            weights_N1 = weights_TK[at_N, torch.tensor(places)].unsqueeze(1)
            out_TD.index_add_(0, at_N, answer_ND * weights_N1)
        return out_TD.view_as(hidden_BSD)


def places_by_lane(lanes_TK: torch.Tensor) -> list[tuple[int, list[int], list[int]]]:
    """(lane, tokens, places) for every lane that got a token, lanes rising; empty places are
    nobody's."""
    groups: dict[int, tuple[list[int], list[int]]] = {}
    for token, row in enumerate(lanes_TK.tolist()):
        for place, lane in enumerate(row):
            if lane != NO_EXPERT:
                tokens, places = groups.setdefault(lane, ([], []))
                tokens.append(token)
                places.append(place)
    return [(lane, *groups[lane]) for lane in sorted(groups)]


def _mask(lanes: Sequence[tuple[int, ...]], width: int) -> torch.Tensor:
    return torch.tensor([[lane in row for lane in range(width)] for row in lanes])
