"""What an API consumer asks: OpenAI's requests, read into frozen values.

`parse_*` turn a body into `Asked` or raise `GatewayError`. Fields we do not offer are refused by
name rather than silently ignored. `top_k` and `repetition_penalty` are not OpenAI's: they are named
and meant as by vLLM's server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from rest_framework import serializers

from web.gateway.errors import GatewayError, invalid
from web.gateway.fields import Biases, Number, Stops
from web.gateway.port import Sampling

MAX_TOKENS_LIMIT: Final = 4096
MOST_ANSWERS: Final = 8
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "min_p": (None, 0),
    "suffix": (None, ""),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
"""OpenAI fields we do not offer, with the values that ask for nothing."""


@dataclass(frozen=True)
class Asked:
    """One request, chat or completion, free of HTTP. `messages` are (role, content).

    `answers` of them are wanted, each sampled with a seed of its own: `seed` and those after it, or
    any where it is None. Experts: `prefer` narrows as far as they are permitted, `exclude` narrows,
    `require` insists.
    """

    is_chat: bool
    model: str
    messages: tuple[tuple[str, str], ...]
    prompt: str
    sampling: Sampling
    seed: int | None = None
    answers: int = 1
    wants_stream: bool = False
    wants_stream_usage: bool = False
    wants_scores: bool = False
    purpose: str | None = None
    exclude: frozenset[str] = frozenset()
    require: frozenset[str] = frozenset()
    prefer: frozenset[str] = frozenset()
    trace_routing: bool = False
    """What each expert had a part in, token by token: the playground's alone, no body asks it."""


class _Message(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=sorted(_ROLES))
    content = serializers.JSONField()

    def validate_content(self, value: Any) -> str:
        parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
        texts = [part.get("text") for part in parts if isinstance(part, dict)]
        if not all(isinstance(text, str) for text in texts) or len(texts) != len(parts):
            raise serializers.ValidationError("Expected text, or a list of text parts.")
        return "".join(str(text) for text in texts)


def _names() -> serializers.ListField:
    return serializers.ListField(child=serializers.SlugField(), default=list, max_length=64)


class _Experts(serializers.Serializer[Any]):
    prefer, exclude, require = _names(), _names(), _names()


class _Metadata(serializers.Serializer[Any]):
    purpose = serializers.CharField(required=False, max_length=64)


class _StreamOptions(serializers.Serializer[Any]):
    include_usage = serializers.BooleanField(default=False)


class _Request(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)
    n = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MOST_ANSWERS
    )
    max_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MAX_TOKENS_LIMIT
    )
    temperature = Number(0, 2, 1)
    top_p = Number(0.01, 1, 1)
    top_k = serializers.IntegerField(
        required=False, allow_null=True, min_value=-1, max_value=1_000_000
    )
    presence_penalty = Number(-2, 2, 0)
    frequency_penalty = Number(-2, 2, 0)
    repetition_penalty = Number(0.01, 10, 1)
    logit_bias = Biases(required=False, allow_null=True)
    seed = serializers.IntegerField(
        required=False, allow_null=True, min_value=-(2**63), max_value=2**63 - MOST_ANSWERS
    )
    stop = Stops(required=False, allow_null=True)
    stream = serializers.BooleanField(default=False)
    stream_options = _StreamOptions(required=False, allow_null=True)
    metadata = _Metadata(required=False, allow_null=True)
    experts = _Experts(required=False, allow_null=True)


class _ChatRequest(_Request):
    messages = serializers.ListField(child=_Message(), min_length=1, max_length=256)
    max_completion_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_TOKENS_LIMIT
    )
    logprobs = serializers.BooleanField(required=False, allow_null=True)
    top_logprobs = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=20
    )


class _CompletionRequest(_Request):
    prompt = serializers.JSONField()
    echo = serializers.BooleanField(default=False)
    logprobs = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=5)

    def validate_prompt(self, value: Any) -> str:
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not isinstance(one, str):
            raise serializers.ValidationError("Expected one prompt as a string.")
        return one


def parse_chat(body: bytes) -> Asked:
    """A body of `POST /v1/chat/completions`.

    Raises:
        GatewayError: 400, naming the field.
    """
    fields = _validated(_ChatRequest, body)
    messages = tuple((_ROLES[m["role"]], m["content"]) for m in fields["messages"])
    if not any(content.strip() for _, content in messages):
        raise invalid(
            "Expected at least one message with text, found only empty ones.",
            param="messages",
            code="empty_prompt",
        )
    top_logprobs = fields.get("top_logprobs")
    if fields.get("logprobs"):
        top_logprobs = top_logprobs or 0
    elif top_logprobs is not None:
        raise invalid("Expected `logprobs: true` beside `top_logprobs`.", param="top_logprobs")
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens") or 128
    sampling = _sampling(fields, max_tokens=limit, top_logprobs=top_logprobs)
    return _asked(fields, is_chat=True, messages=messages, sampling=sampling)


def parse_completion(body: bytes) -> Asked:
    """A body of `POST /v1/completions`; `echo` with `logprobs: 0` scores the prompt itself.

    Raises:
        GatewayError: 400, naming the field.
    """
    fields = _validated(_CompletionRequest, body)
    prompt = fields["prompt"]
    if not prompt:
        raise invalid(
            "Expected a prompt with text, found an empty one.", param="prompt", code="empty_prompt"
        )
    top_logprobs = fields.get("logprobs")
    wants_scores = fields["echo"]
    if wants_scores and top_logprobs != 0:
        raise invalid(
            "Expected `logprobs: 0` beside `echo`: echo is offered for scoring a prompt, and a "
            "prompt's tokens come without likelier ones in their place.",
            param="echo",
            code="unsupported_value",
        )
    limit = fields.get("max_tokens")
    limit = 16 if limit is None else limit
    if limit == 0 and not wants_scores:
        raise invalid(
            "Expected max_tokens of at least 1; 0 is for scoring a prompt with echo.",
            param="max_tokens",
        )
    sampling = _sampling(fields, max_tokens=limit, top_logprobs=top_logprobs)
    return _asked(fields, prompt=prompt, sampling=sampling, wants_scores=wants_scores)


def _validated(serializer_class: type[_Request], body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Expected a JSON object as body: {error}.", code="invalid_json") from error
    if not isinstance(given, dict):
        raise invalid("Expected a JSON object as body.", code="invalid_json")
    if (b"\\u" in body or b"\xed" in body) and not _is_text(given):
        raise invalid("Expected text, found half of a surrogate pair.", code="invalid_json")
    for name, neutral in _NEUTRAL.items():
        if name in given and given[name] not in neutral:
            raise invalid(
                f"`{name}` is not offered here; leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    try:
        return dict(_serializer(serializer_class).run_validation(given))
    except serializers.ValidationError as error:
        raise _first_error(error.detail) from error


@cache
def _serializer(serializer_class: type[_Request]) -> _Request:
    """One a class: it keeps nothing of what it reads, and its fields take long to copy."""
    return serializer_class()


def _is_text(given: Any) -> bool:
    """Whether no string holds half of a surrogate pair, which JSON can spell and no text can."""
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_error(errors: Any) -> GatewayError:
    path: list[str] = []
    found = errors
    while True:
        if isinstance(found, Mapping):
            key = next(iter(found))
            if key != "non_field_errors":
                path.append(str(key))
            found = found[key]
        elif isinstance(found, list):
            index = next(i for i, item in enumerate(found) if item)
            if isinstance(found[index], Mapping):
                path.append(str(index))
            found = found[index]
        else:
            param = ".".join(path) or None
            return invalid(f"{param or 'body'}: {found}", param=param)


def _sampling(fields: Mapping[str, Any], *, max_tokens: int, top_logprobs: int | None) -> Sampling:
    return Sampling(
        max_tokens=max_tokens,
        temperature=fields["temperature"],
        top_p=fields["top_p"],
        stop=fields.get("stop") or (),
        top_k=max(fields.get("top_k") or 0, 0),
        presence_penalty=fields["presence_penalty"],
        frequency_penalty=fields["frequency_penalty"],
        repetition_penalty=fields["repetition_penalty"],
        logit_bias=fields.get("logit_bias") or (),
        top_logprobs=top_logprobs,
    )


def _asked(
    fields: Mapping[str, Any],
    *,
    is_chat: bool = False,
    messages: tuple[tuple[str, str], ...] = (),
    prompt: str = "",
    sampling: Sampling,
    wants_scores: bool = False,
) -> Asked:
    experts = fields.get("experts") or {}
    return Asked(
        is_chat=is_chat,
        model=fields["model"],
        messages=messages,
        prompt=prompt,
        sampling=sampling,
        seed=fields.get("seed"),
        answers=fields.get("n") or 1,
        wants_stream=fields["stream"],
        wants_stream_usage=(fields.get("stream_options") or {}).get("include_usage", False),
        wants_scores=wants_scores,
        purpose=(fields.get("metadata") or {}).get("purpose"),
        exclude=frozenset(experts.get("exclude", ())),
        require=frozenset(experts.get("require", ())),
        prefer=frozenset(experts.get("prefer", ())),
    )
