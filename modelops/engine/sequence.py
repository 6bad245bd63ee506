"""One request on its way through the engine, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from modelops.contract import (
    Delta,
    Done,
    EndCause,
    FinishReason,
    GenerationOrder,
    RefusalReason,
    Refused,
    ScoredToken,
    Tally,
)
from modelops.engine.text import TextStream

Deliver = Callable[[Delta | Done | Refused], None]
NO_ROW = -1


@dataclass(frozen=True)
class Loss:
    """Why a sequence must not go on: what to say if it was begun, and what if it was not."""

    cause: EndCause
    refusal: RefusalReason
    detail: str
    expert: str = ""
    reason: FinishReason = FinishReason.CONTENT_FILTER


@dataclass(eq=False)
class Sequence:
    """The state of one request. Only the loop thread changes it, except `is_ended` (under lock).

    `computed` counts the tokens whose keys and values lie in the arena row `row`; a step writes
    beyond it, and only a released step advances it, so an abandoned step can simply be run again.
    `generations` binds each allowed expert to the very loading it was admitted with.
    """

    order: GenerationOrder
    deliver: Deliver
    prompt_ids: tuple[int, ...]
    text: TextStream
    row: int = NO_ROW
    computed: int = 0
    generations: tuple[int, ...] = ()
    lanes: tuple[int, ...] = ()
    lanes_version: int = -1
    checked_epoch: int = -1
    checked_under: tuple[int, int] = (-1, -1)
    output_ids: list[int] = field(default_factory=list)
    unsent_ids: list[int] = field(default_factory=list)
    scored: list[ScoredToken] = field(default_factory=list)
    unsent_chosen: list[ScoredToken] = field(default_factory=list)
    routed: dict[str, int] = field(default_factory=dict)
    mass: dict[str, float] = field(default_factory=dict)
    is_ended: bool = False

    @property
    def order_id(self) -> str:
        return self.order.order_id

    @property
    def is_licensed(self) -> bool:
        """Whether anything but the public expert may serve it, so that a lease is needed."""
        return bool(self.order.allowed)

    @property
    def is_begun(self) -> bool:
        """Whether it holds a row; before that nothing was computed for it."""
        return self.row != NO_ROW

    @property
    def is_prefilled(self) -> bool:
        return self.computed >= len(self.prompt_ids)

    @property
    def next_input(self) -> int:
        """The token whose successor the next decode step computes."""
        return self.output_ids[-1]

    def top_k(self) -> int:
        """Experts per token, clamped to the allowed ones and the public expert."""
        return min(self.order.top_k, len(self.order.allowed) + 1)

    def may_use(self, name: str, digest: str = "") -> bool:
        """Whether expert `name` (that revision, if `digest` is given) is among its allowed."""
        return any(r.name == name and digest in ("", r.digest) for r in self.order.allowed)

    def tally(self) -> Tally:
        return Tally(
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=len(self.output_ids),
            routed=dict(self.routed),
            mass=dict(self.mass),
        )

    def done(
        self,
        reason: FinishReason,
        cause: EndCause = EndCause.NONE,
        expert: str = "",
        detail: str = "",
    ) -> Done:
        """The closing message, under the policy epoch last checked."""
        epoch = max(self.checked_epoch, self.order.policy_epoch)
        return Done(self.order_id, reason, self.tally(), epoch, cause, expert, detail)

    def closing(self, loss: Loss) -> Done | Refused:
        """The closing message that fits `loss`: an end if it was begun, else a refusal."""
        if self.is_begun:
            return self.done(loss.reason, loss.cause, loss.expert, loss.detail)
        return Refused(self.order_id, loss.refusal, loss.detail, retry=True)
