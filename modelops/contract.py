"""The words of the port between whoever decides and whoever generates; standard library only.

A gateway turns a permitted request into a `GenerationOrder` and sends it to a runner; the runner
answers with `Delta`s and closes with exactly one `Done` or `Refused`. All of them travel as one
JSON object a line (`to_wire`, `from_wire`). Fields are only ever added at the end, with defaults,
so that an older peer still reads a newer message.

The port knows experts by name and digest, and nothing of owners, licences or consent.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

PUBLIC = "public"
"""Name of the public expert (the anchor's own feed-forward). Always allowed, never listed."""


@dataclass(frozen=True, order=True)
class ExpertRef:
    """One licensed expert: its name and the SHA-256 (hex) of its manifest."""

    name: str
    digest: str


@dataclass(frozen=True)
class Turn:
    """One message of a chat. `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature` 0 is greedy; `seed` makes sampling repeatable.

    The model's logits are changed in this order: `repetition_penalty` divides positive logits of
    tokens already in prompt or answer and multiplies negative ones; `presence_penalty` is taken
    off every token already in the answer, `frequency_penalty` once for each time it is there;
    `logit_bias` adds to the token ids it names. Then come `temperature`, the `top_k` most likely
    tokens (0: all) and the nucleus `top_p`. With `top_logprobs` n, each token of the answer comes
    with the model's own log-probability, before any of these, and those of the n most likely.

    Several answers to one prompt are several orders, each with its own seed.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True)
class GenerationOrder:
    """A permitted request, as the gateway hands it to a runner.

    Exactly one of `turns` (chat) and `prompt` (completion) is given. `allowed` lists the licensed
    experts the request may route to; the public expert is implied. `top_k` is the build's experts
    per token, clamped per request to the number allowed. `ask` is opaque here: what the runner
    needs to decide again on its own policy snapshot. With `score_prompt` the prompt's own
    log-probabilities come back, and `max_tokens` may be 0.

    `recompute_without` names those of `allowed` that the answer may lose and go on: what it
    remembers is wiped and computed again from the prompt and the words already handed over. Those
    words stay, and the expert had a part in them. Losing any other ends the answer.

    With `trace_routing` each token of the answer comes with what each expert had a part in it.
    """

    order_id: str
    decision_id: str
    policy_epoch: int
    build_digest: str
    anchor_digest: str
    allowed: tuple[ExpertRef, ...]
    top_k: int
    turns: tuple[Turn, ...] = ()
    prompt: str = ""
    sampling: Sampling = Sampling()
    score_prompt: bool = False
    ask: Mapping[str, Any] = field(default_factory=dict)
    recompute_without: tuple[str, ...] = ()
    trace_routing: bool = False


@dataclass(frozen=True)
class ScoredToken:
    """A token with the natural-log probability the model gave it.

    `logprob` is None for the first token of a prompt, which nothing precedes. `top` are the most
    likely tokens in its place, the likeliest first, where an answer was asked for them.
    """

    token_id: int
    text: str
    size_bytes: int
    logprob: float | None
    top: tuple[ScoredToken, ...] = ()


@dataclass(frozen=True)
class Delta:
    """A piece of an answer: the next text and the token ids behind it.

    `scored` are the prompt's tokens, once, where the order asked for them; `chosen` those behind
    `token_ids`, where it asked for `top_logprobs`. `recomputed_without` names the experts that
    were withdrawn and have no part in anything that follows. `routing` says, where the order asked
    for it, for each of `token_ids` the share of each expert by name, `public` included, in the
    routing mass of the one position that token was computed at: over all layers, 1 in all. Who had
    no place there is not named.
    """

    order_id: str
    text: str
    token_ids: tuple[int, ...] = ()
    scored: tuple[ScoredToken, ...] = ()
    chosen: tuple[ScoredToken, ...] = ()
    recomputed_without: tuple[str, ...] = ()
    routing: tuple[Mapping[str, float], ...] = ()


class FinishReason(StrEnum):
    """Why an answer ended; the values OpenAI clients know."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    CANCELLED = "cancelled"
    ERROR = "error"


class EndCause(StrEnum):
    """What lies behind a finish reason that policy or a fault brought about."""

    NONE = ""
    CONSENT_WITHDRAWN = "consent_withdrawn"
    LICENCE_ENDED = "licence_ended"
    LEASE_LOST = "lease_lost"
    ENGINE_FAULT = "engine_fault"


@dataclass(frozen=True)
class Tally:
    """What an answer used, counted by the router itself.

    `routed` counts (token, layer) places each expert computed, `mass` sums the router weights of
    those places; both are keyed by expert name and include `public`.
    """

    prompt_tokens: int
    completion_tokens: int
    routed: Mapping[str, int] = field(default_factory=dict)
    mass: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The end of an answer. `policy_epoch` is the one the last token was released under."""

    order_id: str
    finish_reason: FinishReason
    tally: Tally
    policy_epoch: int
    cause: EndCause = EndCause.NONE
    expert: str = ""
    detail: str = ""


class RefusalReason(StrEnum):
    """Why a runner would not begin an order."""

    CONTEXT_LENGTH = "context_length_exceeded"
    EMPTY_PROMPT = "empty_prompt"
    NO_LEASE = "no_lease"
    STALE_EPOCH = "stale_policy_epoch"
    NOT_PERMITTED = "not_permitted"
    EXPERT_UNAVAILABLE = "expert_unavailable"
    UNKNOWN_BUILD = "unknown_build"
    OVERLOADED = "overloaded"
    USAGE_UNRECORDED = "usage_unrecorded"
    BAD_ORDER = "bad_order"
    ENDING = "runner_ending"
    BAD_SAMPLING = "invalid_sampling"
    QUOTA = "quota_used_up"


@dataclass(frozen=True)
class Refused:
    """An order that was not begun: no token was computed. `retry` says a new decision may help.

    `experts` names those the refusal is about, where it is about some.
    """

    order_id: str
    reason: RefusalReason
    detail: str
    retry: bool = False
    experts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warrant:
    """The authority of one moment: a policy epoch held until `deadline_ns` of CLOCK_BOOTTIME.

    `live` names the licensed experts that policy lets anyone use at all in this epoch.
    """

    policy_epoch: int
    deadline_ns: int
    live: frozenset[ExpertRef]


class Authority(Protocol):
    """What the engine asks about permission; the runner implements it over its lease."""

    def warrant(self) -> Warrant | None:
        """The warrant now, by one reference read, or None without a valid lease (D1)."""

    def holds(self, warrant: Warrant) -> bool:
        """Whether `warrant` still stands: same policy epoch, deadline not reached (D4)."""

    def permits(self, order: GenerationOrder, warrant: Warrant) -> frozenset[ExpertRef]:
        """The licensed experts of `order.allowed` that this epoch still permits it (D2)."""

    def may_outlive(self, order: GenerationOrder, lost: frozenset[str]) -> bool:
        """Whether an answer whose order lets it lose `lost` may go on by policy as it is now."""


@dataclass(frozen=True)
class WithdrawalAck:
    """What an engine did about a withdrawal; evidence, not a promise.

    `done_at` is when the weights were gone and the rows wiped, in seconds of Unix time by this
    machine's clock, `took_s` how long that took. Streams recomputed went on without the expert.
    """

    expert: str
    policy_epoch: int
    was_loaded: bool
    streams_ended: tuple[str, ...]
    freed_bytes: int
    streams_recomputed: tuple[str, ...] = ()
    done_at: float = 0.0
    took_s: float = 0.0


class EngineClient(Protocol):
    """An engine as its runner sees it: the seam at which another engine can take our own's place.

    What `withdraw` acknowledges must be true then: no token of a stream that used the expert is
    delivered any more. `unload` drops what no open stream may use, and else nothing; `retire`
    closes an engine without open streams, and says whether it did. `deliver` gets an order's
    Deltas and exactly one Done or Refused.
    """

    def start(self) -> None: ...
    def close(self) -> None: ...
    def retire(self) -> bool: ...
    def load(self, ref: ExpertRef) -> None: ...
    def unload(self, name: str, digest: str = "") -> int: ...
    def loaded(self) -> frozenset[ExpertRef]: ...
    def submit(
        self, order: GenerationOrder, deliver: Callable[[Delta | Done | Refused], None]
    ) -> None: ...
    def cancel(self, order_id: str) -> None: ...
    def withdraw(self, name: str, policy_epoch: int) -> WithdrawalAck: ...
    def stats(self) -> Any: ...


Message = GenerationOrder | Delta | Done | Refused
_KINDS: dict[str, type[Any]] = {
    "order": GenerationOrder,
    "delta": Delta,
    "done": Done,
    "refused": Refused,
}
_KIND_OF = {cls: kind for kind, cls in _KINDS.items()}
# Made once: this runs for every token of every answer. `vars` for the dataclasses inside.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=vars).encode


def to_wire(message: Message) -> bytes:
    """`message` as one line of JSON, newline included."""
    return _encode({"kind": _KIND_OF[type(message)], **vars(message)}).encode() + b"\n"


def from_wire(line: bytes) -> Message:
    """The message a line of JSON stands for; unknown fields are ignored.

    Raises:
        ValueError: the line is not JSON, names no known kind, or lacks a field.
    """
    try:
        fields = json.loads(line)
        kind = fields.pop("kind")
        message: Message = _build(_KINDS[kind], fields)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"expected one message as a JSON object, found {line[:80]!r}") from error
    return message


def _build(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    known = _READERS[cls]
    return cls(**{name: known[name](value) for name, value in fields.items() if name in known})


def _rows_of(cls: type[Any]) -> Callable[[Any], Any]:
    return lambda rows: tuple([_build(cls, row) for row in rows]) if rows else ()


def _as_it_is(value: Any) -> Any:
    return value


_READ: dict[str, Callable[[Any], Any]] = {
    "sampling": lambda value: _build(Sampling, value),
    "tally": lambda value: _build(Tally, value),
    "allowed": _rows_of(ExpertRef),
    "turns": _rows_of(Turn),
    **dict.fromkeys(("scored", "chosen", "top"), _rows_of(ScoredToken)),
    "finish_reason": FinishReason,
    "cause": EndCause,
    "reason": RefusalReason,
    **dict.fromkeys(
        ("token_ids", "stop", "experts", "recompute_without", "recomputed_without", "routing"),
        tuple,
    ),
    "logit_bias": lambda value: tuple((token_id, bias) for token_id, bias in value),
}
"""How the fields are read that are not what JSON makes of them."""

_READERS = {
    cls: {one.name: _READ.get(one.name, _as_it_is) for one in dataclasses.fields(cls)}
    for cls in (*_KINDS.values(), Sampling, Tally, ExpertRef, Turn, ScoredToken)
}
