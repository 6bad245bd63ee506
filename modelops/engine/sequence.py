"""One request on its way through the engine, and how it may end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
    lost: frozenset[str] = frozenset()

    @property
    def is_lawful(self) -> bool:
        """Whether policy took an expert away; everything else is no reason to go on without it."""
        return self.cause in (EndCause.CONSENT_WITHDRAWN, EndCause.LICENCE_ENDED)


@dataclass(eq=False)
class Sequence:
    """The state of one request. Only the loop thread changes it, except `is_ended` (under lock).

    `computed` counts the tokens whose keys and values lie in the arena row `row`; a step writes
    beyond it, and only a released step advances it, so an abandoned step can simply be run again.
    `context_ids` is what is run before the first new token: the prompt, and after a withdrawal
    the words already sent as well. `generations` binds each allowed expert to the very loading it
    was admitted with; None until it was. `losing` is what it must give up before the next step.
    """

    order: GenerationOrder
    deliver: Deliver
    prompt_ids: tuple[int, ...]
    text: TextStream
    row: int = NO_ROW
    computed: int = 0
    context_ids: tuple[int, ...] = ()
    generations: tuple[int, ...] | None = None
    losing: Loss | None = None
    lanes: tuple[int, ...] = ()
    lanes_version: int = -1
    checked_epoch: int = -1
    checked_under: tuple[int, int] = (-1, -1)
    output_ids: list[int] = field(default_factory=list)
    unsent_ids: list[int] = field(default_factory=list)
    scored: list[ScoredToken] = field(default_factory=list)
    unsent_chosen: list[ScoredToken] = field(default_factory=list)
    unsent_routing: list[dict[str, float]] = field(default_factory=list)
    routed: dict[str, int] = field(default_factory=dict)
    mass: dict[str, float] = field(default_factory=dict)
    sent_text: str = ""
    is_ended: bool = False

    def __post_init__(self) -> None:
        self.context_ids = self.prompt_ids

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
        return self.computed >= len(self.context_ids)

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

    def sent_output(self) -> list[int]:
        """The tokens of the answer that were handed over."""
        return self.output_ids[: len(self.output_ids) - len(self.unsent_ids)]

    def restart(self, sent_ids: tuple[int, ...]) -> None:
        """Give up the experts it is losing: only what was sent stays, `sent_ids` being its tokens.

        Whoever calls this wipes the row first. Without lanes no step can run it before it is
        bound to its experts anew.
        """
        lost = self.losing.lost if self.losing else frozenset()
        kept = tuple(ref for ref in self.order.allowed if ref.name not in lost)
        is_scored = bool(self.order.score_prompt and self.output_ids)
        self.order = replace(
            self.order,
            allowed=kept,
            score_prompt=self.order.score_prompt and not is_scored,
        )
        self.output_ids = self.sent_output()
        self.unsent_ids, self.unsent_chosen, self.unsent_routing, self.scored = [], [], [], []
        self.text = TextStream(self.order.sampling.stop)
        self.context_ids = (*self.prompt_ids, *sent_ids)
        self.computed, self.generations, self.losing = 0, None, None
        self.lanes, self.lanes_version, self.checked_under = (), -1, (-1, -1)

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
