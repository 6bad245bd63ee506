"""What the gateway accepts, and how it says no."""

import json

import pytest

from web.gateway import wire
from web.gateway.errors import GatewayError
from web.gateway.port import Sampling


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
    assert asked.sampling == Sampling(max_tokens=128)
    assert (asked.seed, asked.answers, asked.wants_stream) == (None, 1, False)


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


def test_everything_about_sampling_reaches_the_order_as_it_was_asked():
    asked = _chat(
        temperature=0.5, top_p=0.9, top_k=-1, presence_penalty=-2, frequency_penalty=2,
        repetition_penalty=1.5, logit_bias={"7": -100, "0": 0.5}, logprobs=True, top_logprobs=3,
        stop="end", max_completion_tokens=5, n=3, seed=-4,
    )  # fmt: skip
    assert asked.sampling == Sampling(
        max_tokens=5, temperature=0.5, top_p=0.9, stop=("end",), presence_penalty=-2,
        frequency_penalty=2, repetition_penalty=1.5, logit_bias=((7, -100), (0, 0.5)),
        top_logprobs=3,
    )  # fmt: skip
    assert (asked.answers, asked.seed) == (3, -4)
    assert _chat(logprobs=True).sampling.top_logprobs == 0
    assert _completion(logprobs=5, top_k=7).sampling.top_logprobs == 5


def test_null_asks_for_nothing():
    nothing = dict.fromkeys(
        ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "logit_bias",
         "repetition_penalty", "n", "seed", "stop", "logprobs", "top_logprobs", "experts")
    )  # fmt: skip
    assert _chat(**nothing) == _chat()


def test_our_own_fields_narrow_and_require():
    experts = {"prefer": ["news"], "exclude": ["code"], "require": ["math"]}
    asked = _chat(metadata={"purpose": "research"}, experts=experts)
    assert asked.prefer == {"news"}
    assert asked.purpose == "research"
    assert asked.exclude == {"code"}
    assert asked.require == {"math"}


def test_scoring_a_prompt_needs_echo_and_logprobs_and_no_tokens():
    asked = _completion(echo=True, logprobs=0, max_tokens=0)
    assert asked.wants_scores
    assert (asked.sampling.max_tokens, asked.sampling.top_logprobs) == (0, 0)


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
    ({"n": 9}, "n", "invalid_value"),
    ({"best_of": 2}, "best_of", "unsupported_parameter"),
    ({"temperature": "1"}, "temperature", "invalid_value"),
    ({"temperature": float("nan")}, "temperature", "invalid_value"),
    ({"presence_penalty": 2.1}, "presence_penalty", "invalid_value"),
    ({"frequency_penalty": True}, "frequency_penalty", "invalid_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ({"top_k": -2}, "top_k", "invalid_value"),
    ({"logit_bias": {"07": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"7": 101}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias", "invalid_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"seed": 2**63 - 1}, "seed", "invalid_value"),
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
    ({"logprobs": 6}, "invalid_value"),
    ({"echo": True, "logprobs": 1}, "unsupported_value"),
    ({"max_tokens": 0}, "invalid_value"),
])  # fmt: skip
def test_completions_say_what_they_do_not_offer(fields, code):
    with pytest.raises(GatewayError) as refused:
        _completion(**fields)
    assert refused.value.code == code


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff\xfe", b"nul", b"[" * 100_000,
    b'{"model": "reclaim", "messages": [{"role": "user", "content": "\\ud800"}]}',
])  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(GatewayError) as refused:
        wire.parse_chat(body)
    assert refused.value.code == "invalid_json"


def test_neutral_values_of_what_is_not_offered_are_fine():
    assert _chat(n=1, tools=[], user="someone", store=False).is_chat
