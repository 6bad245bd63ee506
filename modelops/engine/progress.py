"""What a released step changes: a sequence goes on by one chunk or one token, or comes to its end.

Pure of locks and leases: whoever calls `advance` has already made sure that it may.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows

from modelops.contract import Delta, Done, EndCause, FinishReason, ScoredToken
from modelops.engine.routing import RowUse
from modelops.engine.runner_step import Outcome
from modelops.engine.scheduler import StepPlan
from modelops.engine.sequence import Sequence
from modelops.engine.text import TokenBytes

News = tuple[Delta | None, Done | None]


class Progress:
    """Turns outcomes into messages; `end_ids` are the tokens that close an answer."""

    def __init__(self, bytes_of: TokenBytes, end_ids: frozenset[int]) -> None:
        self._bytes_of, self._end_ids = bytes_of, end_ids

    def advance(self, plan: StepPlan, outcome: Outcome, index: int, names: Rows[str]) -> News:
        """Take the plan's sequence at `index` past the step; `names` are the lanes' experts."""
        sequence = plan.sequences[index]
        count_use(sequence, outcome.uses[index], names)
        if plan.is_prefill:
            sequence.computed = plan.end
            self._keep_scores(sequence, plan, outcome.scores[index])
            if not sequence.is_prefilled:
                return None, None
        else:
            sequence.computed += 1
        scored, sequence.scored = tuple(sequence.scored), []
        if sequence.order.sampling.max_tokens == 0:
            return Delta(sequence.order_id, "", (), scored), sequence.done(FinishReason.LENGTH)
        self._keep_likelihood(sequence, outcome, index)
        if sequence.order.trace_routing:
            sequence.unsent_routing.append(routing_shares(outcome.uses[index], names))
        return self._take(sequence, outcome.token_ids[index], scored)

    def _take(
        self, sequence: Sequence, token_id: int | None, scored: tuple[ScoredToken, ...]
    ) -> News:
        if token_id is None:
            detail = "the model's output was not finite; an expert's weights may be damaged"
            return None, sequence.done(FinishReason.ERROR, EndCause.ENGINE_FAULT, detail=detail)
        sequence.output_ids.append(token_id)
        sequence.unsent_ids.append(token_id)
        if token_id in self._end_ids:
            text, is_stopped = sequence.text.finish(), True
        else:
            text, is_stopped = sequence.text.push(self._bytes_of(token_id))
        done: Done | None = None
        if is_stopped:
            done = sequence.done(FinishReason.STOP)
        elif len(sequence.output_ids) >= sequence.order.sampling.max_tokens:
            text += sequence.text.finish()
            done = sequence.done(FinishReason.LENGTH)
        if not (text or scored or done):
            return None, None
        ids, sequence.unsent_ids = tuple(sequence.unsent_ids), []
        chosen, sequence.unsent_chosen = tuple(sequence.unsent_chosen), []
        routing, sequence.unsent_routing = tuple(sequence.unsent_routing), []
        return Delta(sequence.order_id, text, ids, scored, chosen, routing=routing), done

    def _keep_scores(self, sequence: Sequence, plan: StepPlan, scores: Rows[float]) -> None:
        if not sequence.order.score_prompt:
            return
        first = [None] if plan.start == 0 else []
        ids = sequence.prompt_ids[plan.start + 1 - len(first) : plan.end + 1]
        for token_id, logprob in zip(ids, [*first, *scores], strict=True):
            sequence.scored.append(self._scored(token_id, logprob))

    def _keep_likelihood(self, sequence: Sequence, outcome: Outcome, index: int) -> None:
        token_id, likelihood = outcome.token_ids[index], outcome.likelihoods[index]
        if token_id is not None and likelihood is not None:
            top = tuple(self._scored(*pair) for pair in likelihood.top)
            sequence.unsent_chosen.append(self._scored(token_id, likelihood.logprob, top))

    def _scored(
        self, token_id: int, logprob: float | None, top: tuple[ScoredToken, ...] = ()
    ) -> ScoredToken:
        piece = self._bytes_of(token_id)
        return ScoredToken(
            token_id, piece.decode("utf-8", errors="replace"), len(piece), logprob, top
        )


def count_use(sequence: Sequence, use: RowUse, names: Rows[str]) -> None:
    """Add what the router counted in one step to the sequence's tally, by expert name."""
    for name, routed, mass in zip(names, use.routed, use.mass, strict=True):
        if routed:
            sequence.routed[name] = sequence.routed.get(name, 0) + routed
            sequence.mass[name] = sequence.mass.get(name, 0.0) + mass


def routing_shares(use: RowUse, names: Rows[str]) -> dict[str, float]:
    """What part each expert that had a place at a row's last token had in it; 1 in all."""
    total = sum(use.last)
    return {name: mass / total for name, mass in zip(names, use.last, strict=True) if mass}
