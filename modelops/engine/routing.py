"""Who may be routed where in one step, and the layer part that obeys it.

Letters: B rows of a step, S tokens of each, T = B·S tokens, E lanes in use, P places of all
tokens together, K most places of one token, N places of one lane, D hidden width, L layers.

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
from torch.nn import functional

from modelops.engine.bank import PUBLIC_LANE, ExpertBank
from modelops.errors import RoutingGuardError
from modelops.model.router import shares


class StepAbandoned(Exception):  # not an error: the step is run again with what is still allowed
    """Something was withdrawn while the step ran."""


@dataclass(frozen=True)
class RowUse:
    """What one row used in one step, by lane, over all layers; `last` is the mass of its last
    token alone."""

    routed: tuple[int, ...]
    mass: tuple[float, ...]
    last: tuple[float, ...]


class Places:
    """Which token is computed by which lane, in one layer: the places sorted by lane.

    `lanes_T` names for each token the lanes it goes to, rising.
    """

    def __init__(self, lanes_T: Sequence[Sequence[int]], E: int) -> None:
        tokens_of: list[list[int]] = [[] for _ in range(E)]
        for token, lanes in enumerate(lanes_T):
            for lane in lanes:
                tokens_of[lane].append(token)
        self.groups = [(lane, len(tokens)) for lane, tokens in enumerate(tokens_of) if tokens]
        self.sizes = [n for _, n in self.groups]
        self.K, P = max(map(len, lanes_T)), sum(self.sizes)
        tokens = [token for found in tokens_of for token in found]
        cells = [token * E + lane for lane, found in enumerate(tokens_of) for token in found]
        places_of: list[list[int]] = [[] for _ in lanes_T]
        for place, token in enumerate(tokens):
            places_of[token].append(place)
        # Behind the last place comes a row of zeros, for tokens with fewer places than others.
        back = [place for found in places_of for place in (*found, *[P] * (self.K - len(found)))]
        self.is_even = len(back) == P
        self.tokens_P, self.cells_P, self.back = torch.tensor(tokens + cells + back).split(
            [P, P, len(back)]
        )

    def gather(self, x_TD: torch.Tensor) -> list[torch.Tensor]:
        """For each group, the rows of its tokens."""
        return list(x_TD.index_select(0, self.tokens_P).split(self.sizes))

    def combine(self, answers: Sequence[torch.Tensor], weights_P: torch.Tensor) -> torch.Tensor:
        """The weighted answers of each token's lanes [T, D], added up in the order of lanes."""
        answers_PD = torch.cat(list(answers)).mul_(weights_P.unsqueeze(1))
        if not self.is_even:
            answers_PD = functional.pad(answers_PD, (0, 0, 0, 1))
        answers_TKD = answers_PD.index_select(0, self.back).view(-1, self.K, answers_PD.shape[1])
        total_TD, *others = answers_TKD.unbind(dim=1)
        for other_TD in others:
            total_TD = total_TD + other_TD
        return total_TD


class StepRouting:
    """The allowed lanes of each row of one step of B rows and S tokens each.

    Where every row has as many places as lanes, the places are known before the step and the same
    in all layers; else each layer's router ranks the lanes.

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
        denied_BE = [[lane not in row for lane in range(lanes_in_use)] for row in lanes]
        self._denied_TE = torch.tensor(denied_BE).repeat_interleave(self.S, dim=0)
        self._lanes_T = [row for row in lanes for _ in range(self.S)]
        self._places_T = [k for k in top_k for _ in range(self.S)]
        self._known = self._known_places(top_k)
        self._choices: list[tuple[Places, torch.Tensor]] = []

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

    def choose(self, logits_TE: torch.Tensor) -> tuple[Places, torch.Tensor]:
        """The places of one layer and their weights [P]."""
        shares_TE = shares(logits_TE, self._denied_TE)
        places = self._known or Places(self._best(shares_TE), self.E)
        weights_P = shares_TE.flatten().index_select(0, places.cells_P).to(logits_TE.dtype)
        self._choices.append((places, weights_P))
        return places, weights_P

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
        cells = torch.cat([places.cells_P for places, _ in self._choices])
        weights = torch.cat([weights_P for _, weights_P in self._choices]).double()
        routed_BSE = self._by_row(torch.bincount(cells, minlength=self.B * self.S * self.E))
        mass_BSE = self._by_row(torch.bincount(cells, weights, minlength=self.B * self.S * self.E))
        routed_BE, mass_BE = routed_BSE.sum(dim=1).tolist(), mass_BSE.sum(dim=1).tolist()
        last_BE = mass_BE if self.S == 1 else mass_BSE[:, -1].tolist()
        for allowed, routed in zip(self._lanes, routed_BE, strict=True):
            if any(n and lane not in allowed for lane, n in enumerate(routed)):
                raise RoutingGuardError(
                    "expected no token at an expert its request is not allowed, found one; "
                    "stop this engine: its router is wrong"
                )
        rows = zip(routed_BE, mass_BE, last_BE, strict=True)
        return [RowUse(*map(tuple, row)) for row in rows]

    def _known_places(self, top_k: Sequence[int]) -> Places | None:
        if any(k < len(row) for k, row in zip(top_k, self._lanes, strict=True)):
            return None
        return Places(self._lanes_T, self.E)

    def _best(self, shares_TE: torch.Tensor) -> list[list[int]]:
        """For each token its allowed lanes of the largest shares, an earlier lane before its
        equal: the choice of `route`, in plain numbers, which for a step's few tokens is faster."""
        chosen = []
        for lanes, k, row in zip(self._lanes_T, self._places_T, shares_TE.tolist(), strict=True):
            best = sorted(lanes, key=row.__getitem__, reverse=True) if k < len(lanes) else lanes
            chosen.append(sorted(best[:k]))
        return chosen

    def _by_row(self, counts: torch.Tensor) -> torch.Tensor:
        return counts.view(self.B, self.S, self.E)


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
        places, weights_P = step.choose(self._bank.router_logits(self._layer, x_TD))
        answers = [
            self._bank.run(self._layer, lane, x_ND)
            for (lane, _), x_ND in zip(places.groups, places.gather(x_TD), strict=True)
        ]
        return places.combine(answers, weights_P).view_as(hidden_BSD)
