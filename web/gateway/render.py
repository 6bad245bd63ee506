"""Answers in OpenAI's shapes, with our own object `reclaim` beside theirs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from web.gateway.orders import MODEL_ALIAS, Admitted
from web.gateway.port import Delta, Done, EndCause, FinishReason, ScoredToken

SSE_END = b"data: [DONE]\n\n"
_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.CANCELLED: "stop",
    FinishReason.ERROR: "content_filter",
}


@dataclass
class Answer:
    """One answer as it grows; renders itself whole or piece by piece."""

    admitted: Admitted
    is_chat: bool
    created_s: int = field(default_factory=lambda: int(time.time()))
    text: str = ""
    scored: tuple[ScoredToken, ...] = ()

    def add(self, delta: Delta) -> None:
        """Take up a piece of text."""
        self.text += delta.text
        self.scored += delta.scored

    def whole(self, done: Done) -> dict[str, Any]:
        """The object of a request that was not streamed."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": _FINISH[done.finish_reason]}
        if self.is_chat:
            choice["message"] = {"role": "assistant", "content": self.text, "refusal": None}
            choice["logprobs"] = None
        else:
            echoed = "".join(token.text for token in self.scored)
            choice["text"] = echoed + self.text
            choice["logprobs"] = _scores(self.scored) if self.scored else None
        kind = "chat.completion" if self.is_chat else "text_completion"
        return self._object(kind, [choice]) | {
            "usage": usage(done),
            "reclaim": self.admitted.reclaim() | ending(done),
        }

    def opening(self) -> bytes:
        """The first chunk of a stream: the role, and what policy said."""
        choice = self._choice({"role": "assistant", "content": ""}, "")
        return sse(self._chunk([choice]) | {"reclaim": self.admitted.reclaim()})

    def piece(self, delta: Delta) -> bytes:
        """A chunk of text."""
        return sse(self._chunk([self._choice({"content": delta.text}, delta.text)]))

    def closing(self, done: Done) -> bytes:
        """The chunk that says how it ended."""
        choice = self._choice({}, "") | {"finish_reason": _FINISH[done.finish_reason]}
        return sse(self._chunk([choice]) | {"reclaim": self.admitted.reclaim() | ending(done)})

    def usage_chunk(self, done: Done) -> bytes:
        """The chunk of `stream_options.include_usage`."""
        return sse(self._chunk([]) | {"usage": usage(done)})

    def _choice(self, delta: dict[str, Any], text: str) -> dict[str, Any]:
        said = {"delta": delta} if self.is_chat else {"text": text}
        return {"index": 0, "logprobs": None, "finish_reason": None} | said

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._object("chat.completion.chunk" if self.is_chat else "text_completion", choices)

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.admitted.order.order_id}",
            "object": kind,
            "created": self.created_s,
            "model": MODEL_ALIAS,
            "system_fingerprint": self.admitted.order.build_digest[:12],
            "choices": choices,
        }


def usage(done: Done) -> dict[str, int]:
    """Tokens, in OpenAI's names."""
    prompt, completion = done.tally.prompt_tokens, done.tally.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def ending(done: Done) -> dict[str, Any]:
    """What our object gains at the end: shares of routing mass, and a cause if policy cut in."""
    total = sum(done.tally.mass.values()) or 1.0
    more: dict[str, Any] = {
        "experts_used": {
            name: round(mass / total, 6) for name, mass in sorted(done.tally.mass.items())
        },
        "last_policy_epoch": done.policy_epoch,
    }
    if done.cause is not EndCause.NONE:
        more["ended_by"] = {
            "reason": done.cause.value,
            "expert": done.expert,
            "policy_epoch": done.policy_epoch,
            "detail": done.detail,
        }
    return more


def sse(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return (
        b"data: "
        + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        + (b"\n\n")
    )


def headers(admitted: Admitted) -> dict[str, str]:
    """What every answer's headers say about the decision behind it."""
    order = admitted.order
    return {
        "X-Request-Id": order.order_id,
        "X-Reclaim-Policy-Epoch": str(order.policy_epoch),
        "X-Reclaim-Decision-Id": order.decision_id,
        "X-Reclaim-Build": order.build_digest,
        "X-Reclaim-Experts": ",".join(expert.name for expert in order.allowed),
    }


def _scores(scored: Iterable[ScoredToken]) -> dict[str, Any]:
    tokens = list(scored)
    offsets, offset = [], 0
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "text_offset": offsets,
        "top_logprobs": None,
    }
