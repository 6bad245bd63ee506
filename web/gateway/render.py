"""Answers in OpenAI's shapes, with our own object `reclaim` beside theirs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from web.gateway.orders import MODEL_ALIAS, Admitted
from web.gateway.port import Delta, Done, EndCause, FinishReason, ScoredToken

SSE_END = b"data: [DONE]\n\n"
_TEXT = "\0"
"""Stands for the text of a chunk; nothing else in a chunk holds it."""

_as_json = json.JSONEncoder(ensure_ascii=False).encode
_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.CANCELLED: "stop",
    FinishReason.ERROR: "content_filter",
}


@dataclass
class Grown:
    """One of the answers, as far as it has come. `tokens` are those generated, `size` its text,
    `withdrawn` the experts without which it went on."""

    text: str = ""
    scored: tuple[ScoredToken, ...] = ()
    tokens: int = 0
    size: int = 0
    withdrawn: tuple[str, ...] = ()
    done: Done | None = None


@dataclass
class Answer:
    """What is said to one request: one answer or several, whole or piece by piece."""

    admitted: Admitted
    is_chat: bool
    wants_logprobs: bool = False
    created_s: int = field(default_factory=lambda: int(time.time()))
    grown: tuple[Grown, ...] = ()
    frames: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.grown = tuple(Grown() for _ in range(self.admitted.answers))

    @property
    def is_done(self) -> bool:
        """Whether every answer has ended."""
        return all(one.done for one in self.grown)

    @property
    def tokens(self) -> int:
        """The tokens of prompt and answers, as far as they are known."""
        ended = [one.done for one in self.grown if one.done]
        return _prompt_tokens(ended) + sum(
            max(one.tokens, one.done.tally.completion_tokens if one.done else 0)
            for one in self.grown
        )

    def whole(self, pieces: Iterable[tuple[int, Delta | Done]]) -> dict[str, Any]:
        """The object of a request that was not streamed, from all its pieces."""
        for index, piece in pieces:
            one = self.grown[index]
            self._count(one, piece)
            if isinstance(piece, Delta):
                one.text += "".join(token.text for token in piece.scored) + piece.text
                one.scored += piece.scored + piece.chosen
        ended = [one.done for one in self.grown if one.done]
        kind = "chat.completion" if self.is_chat else "text_completion"
        return self._object(kind, [self._choice(index) for index in range(len(self.grown))]) | {
            "usage": usage(ended),
            "reclaim": self.admitted.reclaim() | ending(self.grown),
        }

    def opening(self) -> bytes:
        """The first chunk of a stream: the role of every answer, and what policy said."""
        choices = [self._part(index, "", role="assistant") for index in range(len(self.grown))]
        return sse(self._chunk(choices) | {"reclaim": self.admitted.reclaim()})

    def piece(self, index: int, piece: Delta | Done) -> bytes:
        """A chunk of text, or the one that says how an answer ended."""
        one = self.grown[index]
        self._count(one, piece)
        if isinstance(piece, Done):
            said = self._part(index, None) | {"finish_reason": _FINISH[piece.finish_reason]}
            about = self.admitted.reclaim() | ending([one])
            return sse(self._chunk([said]) | {"reclaim": about})
        if not piece.scored and not piece.chosen and not piece.recomputed_without:
            one.size += len(piece.text)
            before, after = self._frame(index)
            return before + _as_json(piece.text).encode() + after
        text = "".join(token.text for token in piece.scored) + piece.text
        said = self._part(index, text)
        said["logprobs"] = self._logprobs(piece.scored + piece.chosen, one.size)
        one.size += len(text)
        chunk = self._chunk([said])
        if piece.recomputed_without:
            chunk["reclaim"] = self.admitted.reclaim() | withdrawn([one])
        return sse(chunk)

    def _frame(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after the text of a plain chunk; made once, as most are plain."""
        if index not in self.frames:
            chunk = sse(self._chunk([self._part(index, _TEXT)]))
            before, _, after = chunk.partition(_as_json(_TEXT).encode())
            self.frames[index] = before, after
        return self.frames[index]

    def usage_chunk(self) -> bytes:
        """The chunk of `stream_options.include_usage`."""
        ended = [one.done for one in self.grown if one.done]
        return sse(self._chunk([]) | {"usage": usage(ended)})

    def _count(self, one: Grown, piece: Delta | Done) -> None:
        if isinstance(piece, Done):
            one.done = piece
        else:
            one.tokens += len(piece.token_ids)
            one.withdrawn += piece.recomputed_without

    def _choice(self, index: int) -> dict[str, Any]:
        one = self.grown[index]
        assert one.done is not None
        message = {"role": "assistant", "content": one.text, "refusal": None}
        said: dict[str, Any] = {"message": message} if self.is_chat else {"text": one.text}
        if len(self.grown) > 1:
            said["reclaim"] = ending([one])
        return said | {
            "index": index,
            "finish_reason": _FINISH[one.done.finish_reason],
            "logprobs": self._logprobs(one.scored, 0),
        }

    def _part(self, index: int, text: str | None, **more: str) -> dict[str, Any]:
        content = {} if text is None else {"content": text}
        said = {"delta": more | content} if self.is_chat else {"text": text or ""}
        return {"index": index, "logprobs": None, "finish_reason": None} | said

    def _logprobs(self, tokens: Sequence[ScoredToken], offset: int) -> dict[str, Any] | None:
        if not tokens or not self.wants_logprobs:
            return None
        return _chat_logprobs(tokens) if self.is_chat else _text_logprobs(tokens, offset)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._object("chat.completion.chunk" if self.is_chat else "text_completion", choices)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.admitted.order.decision_id}",
            "object": kind,
            "created": self.created_s,
            "model": MODEL_ALIAS,
            "system_fingerprint": self.admitted.order.build_digest[:12],
            "choices": choices,
        }


def usage(ended: Iterable[Done]) -> dict[str, int]:
    """Tokens, in OpenAI's names: the prompt once, however many answers it had."""
    rows = list(ended)
    prompt = _prompt_tokens(rows)
    completion = sum(one.tally.completion_tokens for one in rows)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def shares(masses: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Each expert's share of the routing mass of some answers together."""
    summed: dict[str, float] = {}
    for mass in masses:
        for name, one in mass.items():
            summed[name] = summed.get(name, 0.0) + one
    total = sum(summed.values()) or 1.0
    return {name: round(one / total, 6) for name, one in sorted(summed.items())}


def withdrawn(answers: Iterable[Grown]) -> dict[str, Any]:
    """What our object says of experts that were withdrawn from an answer, and it went on."""
    names = sorted({name for one in answers for name in one.withdrawn})
    return {"experts_withdrawn": names} if names else {}


def ending(answers: Sequence[Grown]) -> dict[str, Any]:
    """What our object gains at the end: shares of routing mass, and a cause if policy cut in."""
    rows = [one.done for one in answers if one.done]
    more: dict[str, Any] = withdrawn(answers) | {
        "experts_used": shares(one.tally.mass for one in rows),
        "last_policy_epoch": max(one.policy_epoch for one in rows),
    }
    cut = [one for one in rows if one.cause is not EndCause.NONE]
    if cut:
        more["ended_by"] = {
            "reason": cut[0].cause.value,
            "expert": cut[0].expert,
            "policy_epoch": cut[0].policy_epoch,
            "detail": cut[0].detail,
        }
    return more


def sse(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    said = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return b"data: " + said + b"\n\n"


def headers(admitted: Admitted) -> dict[str, str]:
    """What every answer's headers say about the decision behind it."""
    order = admitted.order
    return {
        "X-Reclaim-Policy-Epoch": str(order.policy_epoch),
        "X-Reclaim-Decision-Id": order.decision_id,
        "X-Reclaim-Build": order.build_digest,
        "X-Reclaim-Experts": ",".join(expert.name for expert in order.allowed),
    }


def _prompt_tokens(ended: Iterable[Done]) -> int:
    return max((one.tally.prompt_tokens for one in ended), default=0)


def _chat_logprobs(tokens: Iterable[ScoredToken]) -> dict[str, Any]:
    return {
        "content": [
            _likely(token) | {"top_logprobs": [_likely(top) for top in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def _likely(token: ScoredToken) -> dict[str, Any]:
    spelled = token.text.encode()
    # A token may end inside a character; then its bytes are not told by its text.
    is_whole = "\ufffd" not in token.text and len(spelled) == token.size_bytes
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(spelled) if is_whole else None,
    }


def _text_logprobs(tokens: Sequence[ScoredToken], offset: int) -> dict[str, Any]:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    tops = [{top.text: top.logprob for top in token.top} for token in tokens]
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "text_offset": offsets,
        "top_logprobs": tops if any(tops) else None,
    }
