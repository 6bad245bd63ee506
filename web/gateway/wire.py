"""What travels between an API consumer and the gateway: OpenAI's requests and answers.

`parse_*` turn a body into frozen values or raise `GatewayError`; `render_*` turn a finished answer
into the objects OpenAI's clients read, with our own object `reclaim` beside theirs. Fields we do
not offer are refused by name rather than silently ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework import serializers

from web.gateway.errors import GatewayError, invalid

MAX_TOKENS_LIMIT = 4096
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0, 0.0),
    "frequency_penalty": (None, 0, 0.0),
    "suffix": (None, ""),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
"""OpenAI fields we do not offer, with the values that ask for nothing."""


@dataclass(frozen=True)
class Choice:
    """How the answer is to be chosen: sampling, length, stops."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """One request, chat or completion, free of HTTP. `messages` are (role, content)."""

    is_chat: bool
    model: str
    messages: tuple[tuple[str, str], ...]
    prompt: str
    choice: Choice
    wants_stream: bool
    wants_stream_usage: bool
    wants_scores: bool
    purpose: str | None
    exclude: frozenset[str]
    require: frozenset[str]
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


class _Experts(serializers.Serializer[Any]):
    exclude = serializers.ListField(child=serializers.SlugField(), default=list, max_length=64)
    require = serializers.ListField(child=serializers.SlugField(), default=list, max_length=64)


class _Metadata(serializers.Serializer[Any]):
    purpose = serializers.CharField(required=False, max_length=64)


class _StreamOptions(serializers.Serializer[Any]):
    include_usage = serializers.BooleanField(default=False)


class _Stop(serializers.Field[Any, Any, Any, Any]):
    def to_internal_value(self, value: Any) -> tuple[str, ...]:
        stops = [value] if isinstance(value, str) else value
        if not isinstance(stops, list) or not 0 < len(stops) <= 4:
            raise serializers.ValidationError("Expected a string or a list of one to four.")
        if not all(isinstance(stop, str) and stop for stop in stops):
            raise serializers.ValidationError("Expected stop strings that are not empty.")
        return tuple(stops)


class _Request(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=200)
    max_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=0, max_value=MAX_TOKENS_LIMIT
    )
    temperature = serializers.FloatField(default=1.0, min_value=0, max_value=2)
    top_p = serializers.FloatField(default=1.0, min_value=0.01, max_value=1)
    seed = serializers.IntegerField(
        required=False, allow_null=True, min_value=-(2**63), max_value=2**63 - 1
    )
    stop = _Stop(required=False, allow_null=True)
    stream = serializers.BooleanField(default=False)
    stream_options = _StreamOptions(required=False, allow_null=True)
    metadata = _Metadata(required=False, allow_null=True)
    experts = _Experts(required=False, allow_null=True)


class _ChatRequest(_Request):
    messages = serializers.ListField(child=_Message(), min_length=1, max_length=256)
    max_completion_tokens = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=MAX_TOKENS_LIMIT
    )


class _CompletionRequest(_Request):
    prompt = serializers.JSONField()
    echo = serializers.BooleanField(default=False)
    logprobs = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=0,
        error_messages={
            "max_value": "Expected 0: only the chosen token's log-probability is offered."
        },
    )

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
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens") or 128
    return _asked(fields, messages=messages, prompt="", max_tokens=limit, wants_scores=False)


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
    wants_scores = fields["echo"] and fields.get("logprobs") is not None
    if fields["echo"] and not wants_scores:
        raise invalid(
            "Expected `logprobs: 0` beside `echo`: echo is offered for scoring a prompt.",
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
    return _asked(fields, messages=(), prompt=prompt, max_tokens=limit, wants_scores=wants_scores)


def _validated(serializer_class: type[_Request], body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"Expected a JSON object as body: {error}.", code="invalid_json") from error
    if not isinstance(given, dict):
        raise invalid("Expected a JSON object as body.", code="invalid_json")
    for name, neutral in _NEUTRAL.items():
        if name in given and given[name] not in neutral:
            raise invalid(
                f"`{name}` is not offered here; leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    serializer = serializer_class(data=given)
    if not serializer.is_valid():
        raise _first_error(serializer.errors)
    return dict(serializer.validated_data)


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


def _asked(
    fields: Mapping[str, Any],
    *,
    messages: tuple[tuple[str, str], ...],
    prompt: str,
    max_tokens: int,
    wants_scores: bool,
) -> Asked:
    experts = fields.get("experts") or {}
    return Asked(
        is_chat=bool(messages),
        model=fields["model"],
        messages=messages,
        prompt=prompt,
        choice=Choice(
            max_tokens=max_tokens,
            temperature=fields["temperature"],
            top_p=fields["top_p"],
            seed=fields.get("seed"),
            stop=fields.get("stop") or (),
        ),
        wants_stream=fields["stream"],
        wants_stream_usage=(fields.get("stream_options") or {}).get("include_usage", False),
        wants_scores=wants_scores,
        purpose=(fields.get("metadata") or {}).get("purpose"),
        exclude=frozenset(experts.get("exclude", ())),
        require=frozenset(experts.get("require", ())),
    )
