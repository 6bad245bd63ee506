"""What the gateway accepts, and how it says no."""

import json

import pytest

from web.gateway import wire
from web.gateway.errors import GatewayError


def _chat(**fields):
    body = {"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}]} | fields
    return wire.parse_chat(json.dumps(body).encode())


def _completion(**fields):
    return wire.parse_completion(
        json.dumps({"model": "reclaim", "prompt": "Hello"} | fields).encode()
    )


def test_a_plain_chat_has_openais_defaults():
    asked = _chat()
    assert asked.is_chat
    assert asked.messages == (("user", "Hello"),)
    assert (asked.choice.temperature, asked.choice.top_p, asked.choice.seed) == (1, 1, None)
    assert not asked.wants_stream


def test_text_parts_are_joined_and_developer_speaks_as_system():
    asked = _chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
        ]
    )
    assert asked.messages == (("system", "Be brief."), ("user", "ab"))


def test_our_own_fields_narrow_and_require():
    asked = _chat(
        metadata={"purpose": "research"}, experts={"exclude": ["code"], "require": ["math"]}
    )
    assert asked.purpose == "research"
    assert asked.exclude == {"code"}
    assert asked.require == {"math"}


def test_scoring_a_prompt_needs_echo_and_logprobs_and_no_tokens():
    asked = _completion(echo=True, logprobs=0, max_tokens=0)
    assert asked.wants_scores
    assert asked.choice.max_tokens == 0


@pytest.mark.parametrize(("fields", "param", "code"), [
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": "  "}]}, "messages", "empty_prompt"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "invalid_value"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
     "messages.0.content", "invalid_value"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"top_p": 0}, "top_p", "invalid_value"),
    ({"max_tokens": -1}, "max_tokens", "invalid_value"),
    ({"max_tokens": 10**9}, "max_tokens", "invalid_value"),
    ({"stop": ["a"] * 5}, "stop", "invalid_value"),
    ({"stop": [""]}, "stop", "invalid_value"),
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"experts": {"exclude": "code"}}, "experts.exclude", "invalid_value"),
    ({"model": ""}, "model", "invalid_value"),
])  # fmt: skip
def test_a_field_that_does_not_fit_is_named(fields, param, code):
    with pytest.raises(GatewayError) as refused:
        _chat(**fields)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert refused.value.code == code


@pytest.mark.parametrize(("fields", "code"), [
    ({"prompt": ""}, "empty_prompt"),
    ({"prompt": ["a", "b"]}, "invalid_value"),
    ({"prompt": [1, 2]}, "invalid_value"),
    ({"echo": True}, "unsupported_value"),
    ({"logprobs": 5}, "invalid_value"),
    ({"max_tokens": 0}, "invalid_value"),
])  # fmt: skip
def test_completions_say_what_they_do_not_offer(fields, code):
    with pytest.raises(GatewayError) as refused:
        _completion(**fields)
    assert refused.value.code == code


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b"nul", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(GatewayError) as refused:
        wire.parse_chat(body)
    assert refused.value.code == "invalid_json"


def test_neutral_values_of_what_is_not_offered_are_fine():
    assert _chat(n=1, tools=[], presence_penalty=0, user="someone", store=False).is_chat
