"""What OpenAI's official client can ask for, and what it shows of the answer."""

from collections import Counter

from modelops.contract import Delta, Done, FinishReason, Sampling, ScoredToken, Tally

ASK = {"model": "reclaim", "messages": [{"role": "user", "content": "Hello"}]}


def likely_answer(order):
    """`caf` and then an `é` in two tokens, each with what else was likely."""
    other = ScoredToken(9, "tea", 3, -1.5)
    first = ScoredToken(1, "caf", 3, -0.25, (ScoredToken(1, "caf", 3, -0.25), other))
    halves = [ScoredToken(2, "\ufffd", 1, -0.5), ScoredToken(3, "\ufffd", 1, -0.125)]
    yield Delta(order.order_id, "caf", (1,), chosen=(first,))
    yield Delta(order.order_id, "é", (2, 3), chosen=tuple(halves))
    yield Done(order.order_id, FinishReason.LENGTH, Tally(4, 3), order.policy_epoch)


def numbered_answer(order):
    """Says its seed as often as the seed says."""
    for _ in range(order.sampling.seed):
        yield Delta(order.order_id, str(order.sampling.seed), (7,))
    tally = Tally(5, order.sampling.seed, {}, {"public": 1.0, "code": float(order.sampling.seed)})
    yield Done(order.order_id, FinishReason.STOP, tally, order.policy_epoch)


def test_sampling_reaches_the_runner_as_the_client_asked_for_it(dara, runner):
    dara.chat.completions.create(
        **ASK, temperature=2, presence_penalty=-1, frequency_penalty=0.5, logit_bias={"50": -100},
        seed=3, extra_body={"top_k": 40, "repetition_penalty": 1.2},
    )  # fmt: skip
    assert runner.orders[0].sampling == Sampling(
        temperature=2, presence_penalty=-1, frequency_penalty=0.5, logit_bias=((50, -100),),
        seed=3, top_k=40, repetition_penalty=1.2,
    )  # fmt: skip


def test_log_probabilities_of_a_chat_whole_and_streamed(dara, runner):
    runner.script = likely_answer
    asked = {**ASK, "logprobs": True, "top_logprobs": 2}
    tokens = dara.chat.completions.create(**asked).choices[0].logprobs.content
    assert runner.orders[0].sampling.top_logprobs == 2
    assert [token.logprob for token in tokens] == [-0.25, -0.5, -0.125]
    assert [token.bytes for token in tokens] == [list(b"caf"), None, None]
    assert [top.token for top in tokens[0].top_logprobs] == ["caf", "tea"]
    chunks = dara.chat.completions.create(**asked, stream=True)
    found = [c.choices[0].logprobs for c in chunks]
    assert [len(one.content) for one in found if one] == [1, 2]


def test_log_probabilities_of_a_completion_have_openais_old_shape(dara, runner):
    runner.script = likely_answer
    asked = {"model": "reclaim", "prompt": "Hello", "logprobs": 2}
    found = dara.completions.create(**asked).choices[0].logprobs
    assert found.tokens == ["caf", "\ufffd", "\ufffd"]
    assert found.text_offset == [0, 3, 4]
    assert found.top_logprobs[0] == {"caf": -0.25, "tea": -1.5}
    streamed = [c.choices[0].logprobs for c in dara.completions.create(**asked, stream=True)]
    assert [one.text_offset for one in streamed if one] == [[0], [3, 4]]


def test_several_answers_share_a_decision_and_a_prompt(dara, runner):
    runner.script = numbered_answer
    answer = dara.chat.completions.create(**ASK, n=3, seed=2)
    assert [c.message.content for c in answer.choices] == ["22", "333", "4444"]
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 9)
    assert answer.model_extra["reclaim"]["experts_used"] == {"code": 0.75, "public": 0.25}
    assert {order.decision_id for order in runner.orders} == {answer.id.removeprefix("chatcmpl-")}
    assert len({order.order_id for order in runner.orders}) == 3


def test_several_answers_stream_beside_each_other(dara, runner):
    runner.script = numbered_answer
    asked = {**ASK, "n": 3, "seed": 1, "stream": True}
    chunks = list(dara.chat.completions.create(**asked, stream_options={"include_usage": True}))
    said, ended = Counter(), []
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        said[choice.index] += len(choice.delta.content or "")
        assert choice.index not in ended
        ended += [choice.index] if choice.finish_reason else []
    assert said == {0: 1, 1: 2, 2: 3}
    assert sorted(ended) == [0, 1, 2]
    assert chunks[-1].usage.total_tokens == 11


def test_a_preferred_expert_answers_alone_and_a_denied_one_is_named(ember, runner):
    def asked(*names):
        preferring = {"experts": {"prefer": list(names)}}
        answer = ember.chat.completions.create(**ASK, extra_body=preferring)
        return answer.choices[0].message.content, answer.model_extra["reclaim"]

    said, about = asked("code", "news")
    assert said == "with math."
    denied = about["experts_preferred_denied"]
    assert {name: whys[0]["code"] for name, whys in denied.items()} == {
        "code": "CONSUMER",
        "news": "UNKNOWN_EXPERT",
    }
    said, about = asked("public")
    assert said == "with nobody."
    assert about["experts_denied"]["math"][0]["code"] == "EXCLUDED_BY_REQUEST"
    assert runner.orders[-1].ask["exclude"] == ["code", "math"]
