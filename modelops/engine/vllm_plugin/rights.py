"""Which experts each token of a step may be routed to, the router's choice, and what it chose.

Letters: T tokens of a step, E slots for experts, the public one in slot 0, K places of a token.

The buffers are taken once and keep their addresses, so that whatever was recorded of a forward
reads what was written before it runs again. Between steps, and for tokens nobody wrote, the public
expert alone is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from modelops.engine.routing import RowUse
from modelops.errors import EngineError, RoutingGuardError
from modelops.model.router import ranked, shares

PUBLIC_SLOT = 0


@dataclass(frozen=True)
class Span:
    """The tokens of one request in a step: positions `start` … `end` − 1 of its text."""

    request_id: str
    start: int
    end: int


class RightsTable:
    """The rows of all requests and the buffers of one step of at most `most_tokens`.

    Raises:
        EngineError: no place for the public expert, or more places than slots.
    """

    def __init__(
        self, slots: int, places: int, most_tokens: int, device: torch.device | str = "cpu"
    ) -> None:
        if not 1 <= places <= slots:
            raise EngineError(
                f"expected from 1 to {slots} places for {slots} slots, found {places}; set both "
                "when the engine is made"
            )
        self.slots, self.places = slots, places
        self._denied_TE = torch.ones(most_tokens, slots, dtype=torch.bool, device=device)
        self._open_TK = torch.zeros(most_tokens, places, dtype=torch.bool, device=device)
        self._routed_TE = torch.zeros(most_tokens, slots, dtype=torch.int32, device=device)
        self._mass_TE = torch.zeros(most_tokens, slots, dtype=torch.float32, device=device)
        self._rows: dict[str, tuple[frozenset[int], int]] = {}
        self.spans: Sequence[Span] = ()
        self.close()

    def admit(self, request_id: str, slots: Iterable[int], top_k: int) -> None:
        """Allow a request the public expert and `slots`, at most `top_k` for a token.

        Raises:
            EngineError: more places than this table has.
        """
        allowed = frozenset((PUBLIC_SLOT, *slots))
        places = min(top_k, len(allowed))
        if places > self.places:
            raise EngineError(
                f"expected at most {self.places} experts a token, found {places}; start the "
                "engine with more places"
            )
        self._rows[request_id] = allowed, places

    def release(self, request_id: str) -> None:
        """Forget a request; one that nobody admitted has the public expert alone."""
        self._rows.pop(request_id, None)

    def open(self, spans: Sequence[Span]) -> None:
        """Write the buffers for a step whose tokens are `spans`, one after another; tokens beyond
        them, which is padding, keep the public expert alone."""
        self.close()
        rows = [self._rows.get(span.request_id, (frozenset((PUBLIC_SLOT,)), 1)) for span in spans]
        denied = [[slot not in allowed for slot in range(self.slots)] for allowed, _ in rows]
        opened = [[place < places for place in range(self.places)] for _, places in rows]
        sizes = torch.tensor([span.end - span.start for span in spans])
        T = int(sizes.sum())
        self._denied_TE[:T].copy_(torch.tensor(denied).repeat_interleave(sizes, dim=0))
        self._open_TK[:T].copy_(torch.tensor(opened).repeat_interleave(sizes, dim=0))
        self.spans = tuple(spans)

    def close(self) -> None:
        """Allow every token the public expert alone, and forget what was counted."""
        self.spans = ()
        self._denied_TE.fill_(True)[:, PUBLIC_SLOT] = False
        self._open_TK.fill_(False)[:, 0] = True
        self._routed_TE.zero_()
        self._mass_TE.zero_()

    def route(self, logits_TE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and slots [T, K] of each token's places in one layer, the largest share first.

        A place that stays empty goes to the public expert with weight 0: no kernel that is given
        these numbers has a reason to read an expert that is denied.
        """
        T, K = len(logits_TE), self.places
        denied_TE, open_TK = self._denied_TE[:T], self._open_TK[:T]
        shares_TE = shares(logits_TE, denied_TE)
        chosen_TK = ranked(shares_TE, denied_TE)[:, :K]
        weights_TK = shares_TE.gather(1, chosen_TK).masked_fill_(~open_TK, 0.0)
        chosen_TK = chosen_TK.masked_fill(~open_TK, PUBLIC_SLOT)
        weights_TK = weights_TK.to(logits_TE.dtype)
        self._routed_TE[:T].scatter_add_(1, chosen_TK, open_TK.int())
        self._mass_TE[:T].scatter_add_(1, chosen_TK, weights_TK.float())
        return weights_TK, chosen_TK

    def uses(self, first: Sequence[int], layers: int) -> list[RowUse]:
        """What each span of the step used, from its position `first` on.

        Raises:
            RoutingGuardError: no step was opened, a slot that is not allowed was chosen, or a
                layer did not ask: the forward did not go through this table.
        """
        if not self.spans:
            raise RoutingGuardError(
                "expected a step that was opened, found none; this vLLM calls its model in "
                "another way than the one this was written for"
            )
        T = sum(span.end - span.start for span in self.spans)
        routed_TE, mass_TE = self._routed_TE[:T].cpu(), self._mass_TE[:T].cpu().double()
        found, at = [], 0
        for span, begin in zip(self.spans, first, strict=True):
            kept = slice(at + begin - span.start, at + span.end - span.start)
            at += span.end - span.start
            routed_E = routed_TE[kept].sum(dim=0).tolist()
            self._guard(span, routed_TE[kept], layers)
            mass_E = mass_TE[kept].sum(dim=0).tolist()
            last_E = mass_TE[at - 1].tolist()
            found.append(RowUse(tuple(routed_E), tuple(mass_E), tuple(last_E)))
        return found

    def _guard(self, span: Span, routed_SE: torch.Tensor, layers: int) -> None:
        allowed, places = self._rows.get(span.request_id, (frozenset((PUBLIC_SLOT,)), 1))
        stray = [slot for slot in range(self.slots) if slot not in allowed]
        if int(routed_SE[:, stray].sum()) or not bool((routed_SE.sum(1) == layers * places).all()):
            raise RoutingGuardError(
                f"expected {places} places at allowed experts in each of {layers} layers, found "
                "another number or an expert that is denied; stop this engine: its router is wrong"
            )
