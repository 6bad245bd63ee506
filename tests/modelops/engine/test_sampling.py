"""Chance by seed and position, greedy, nucleus, and what is refused."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from modelops.contract import Sampling
from modelops.engine import sampling
from modelops.engine.sampling import Past

VOCABULARY = 5


def one(logits, settings, position=0):
    past = Past((), (0,) * position)
    return sampling.choose(torch.tensor([logits]), [settings], [past])[0]


def test_chance_depends_on_seed_and_position_only():
    assert sampling.chance(7, 3) == sampling.chance(7, 3)
    drawn = {sampling.chance(seed, place) for seed in range(20) for place in range(20)}
    assert len(drawn) == 400
    assert all(0 <= x < 1 for x in drawn)
    assert abs(sum(drawn) / 400 - 0.5) < 0.05


def test_temperature_zero_takes_the_most_likely():
    assert one([0.1, 2.0, 1.9], Sampling(temperature=0)) == 1


def test_shares_are_met_over_many_positions():
    logits = torch.log(torch.tensor([0.7, 0.2, 0.1])).tolist()
    n = 4000
    counts = [0, 0, 0]
    for place in range(n):
        counts[one(logits, Sampling(seed=5), place)] += 1
    for count, share in zip(counts, (0.7, 0.2, 0.1), strict=True):
        assert abs(count / n - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_a_nucleus_leaves_the_tail_out():
    logits = torch.log(torch.tensor([0.1, 0.6, 0.3])).tolist()
    chosen = {one(logits, Sampling(seed=1, top_p=0.85), place) for place in range(300)}
    assert chosen == {1, 2}
    assert {one(logits, Sampling(seed=1, top_p=0.5), p) for p in range(50)} == {1}


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=30), st.integers(), st.integers(0, 99))
def test_whatever_is_drawn_is_a_token(logits, seed, place):
    for top_p in (0.2, 1.0):
        for temperature in (1e-4, 1.0, 50.0):
            settings = Sampling(seed=seed, top_p=top_p, temperature=temperature)
            assert 0 <= one(logits, settings, place) < len(logits)


def test_a_token_without_any_share_is_never_drawn(monkeypatch):
    monkeypatch.setattr(sampling, "chance", lambda *_: 1 - 2**-53)
    assert one([0.0, 0.0, -1e9, -1e9], Sampling()) == 1
    monkeypatch.setattr(sampling, "chance", lambda *_: 0.0)
    assert one([-1e9, 0.0], Sampling()) == 1


def test_a_row_that_is_not_finite_gets_no_token_and_spares_the_others():
    logits = torch.tensor([[math.nan, 1.0], [0.0, 1.0], [math.inf, 0.0]])
    assert sampling.choose(logits, [Sampling(temperature=0)] * 3, [Past((), ())] * 3) == [
        None,
        1,
        None,
    ]


def test_log_shares_are_those_of_the_softmax():
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 5.0]])
    assert sampling.log_shares(logits, [1]) == pytest.approx([math.log(0.75)])
    assert sampling.log_shares(logits, [0, 0]) == pytest.approx([math.log(0.25), math.log(0.5)])


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (Sampling(max_tokens=-1), "max_tokens"),
        (Sampling(temperature=-0.1), "temperature"),
        (Sampling(temperature=math.nan), "temperature"),
        (Sampling(top_p=0), "top_p"),
        (Sampling(top_p=1.1), "top_p"),
        (Sampling(stop=("",)), "stop"),
        (Sampling(top_k=-1), "top_k"),
        (Sampling(presence_penalty=2.1), "presence_penalty"),
        (Sampling(frequency_penalty=math.nan), "frequency_penalty"),
        (Sampling(repetition_penalty=0), "repetition_penalty"),
        (Sampling(repetition_penalty=math.inf), "repetition_penalty"),
        (Sampling(top_logprobs=21), "top_logprobs"),
        (Sampling(logit_bias=((VOCABULARY, 1.0),)), "token ids below 5"),
        (Sampling(logit_bias=((0, 101.0),)), "from -100 to 100"),
        (Sampling(logit_bias=((0, math.nan),)), "from -100 to 100"),
        (Sampling(logit_bias=((0, 1.0), (0, 2.0))), "found one twice"),
        (Sampling(logit_bias=((0, 1.0),) * 1025), "at most 1024"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, word):
    assert word in sampling.why_not(settings, VOCABULARY)
    assert sampling.why_not(Sampling(), VOCABULARY) == ""


def test_the_most_likely_few_share_what_the_others_leave():
    logits = torch.log(torch.tensor([0.1, 0.4, 0.2, 0.3])).tolist()
    n = 4000
    settings = Sampling(seed=3, top_k=2)
    counts = Counter(one(logits, settings, place) for place in range(n))
    assert set(counts) == {1, 3}
    share = 0.4 / 0.7
    assert abs(counts[1] / n - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_a_nucleus_is_measured_within_the_most_likely_few():
    logits = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1])).tolist()
    # Of the two most likely, 0.4 / 0.7 = 0.57 falls to the first, which alone reaches 0.55.
    settings = Sampling(seed=3, top_k=2, top_p=0.55)
    assert {one(logits, settings, place) for place in range(100)} == {0}


def test_one_of_the_most_likely_few_takes_the_earlier_of_equals():
    assert {one([1.0, 2.0, 2.0], Sampling(seed=s, top_k=1)) for s in range(20)} == {1}


penalties = st.builds(
    Sampling,
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    repetition_penalty=st.floats(0.1, 10),
    logit_bias=st.lists(
        st.tuples(st.integers(0, 7), st.floats(-100, 100)), unique_by=lambda pair: pair[0]
    ).map(tuple),
)
ids = st.lists(st.integers(0, 7), max_size=12)


@given(st.lists(st.floats(-30, 30), min_size=8, max_size=8), penalties, ids, ids)
def test_penalties_are_those_of_the_formula(logits, settings, prompt, output):
    wanted = []
    for token, logit in enumerate(logits):
        if token in prompt or token in output:
            by = settings.repetition_penalty
            logit = logit / by if logit > 0 else logit * by
        if token in output:
            logit -= settings.presence_penalty + settings.frequency_penalty * output.count(token)
        wanted.append(logit + dict(settings.logit_bias).get(token, 0.0))
    found = sampling.adjusted(torch.tensor(logits), settings, Past(prompt, output))
    assert found.tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-4)


@given(st.lists(st.floats(-30, 30), min_size=8, max_size=8), st.floats(0.1, 5), ids)
def test_the_repetition_penalty_is_the_librarys(logits, by, prompt):
    if prompt:
        stock = RepetitionPenaltyLogitsProcessor(by)
        wanted = stock(torch.tensor([prompt]), torch.tensor([logits]))[0]
        settings = Sampling(repetition_penalty=by)
        found = sampling.adjusted(torch.tensor(logits), settings, Past(prompt, ()))
        assert torch.allclose(found, wanted)


def test_penalties_and_bias_count_for_greedy_too():
    logits = torch.tensor([[1.0, 1.5, 0.0]])
    greedy = Sampling(temperature=0)
    past = Past((), (1, 1))

    def chosen(settings):
        return sampling.choose(logits, [settings], [past])

    assert chosen(greedy) == [1]
    assert chosen(replace(greedy, frequency_penalty=0.3)) == [0]
    assert chosen(replace(greedy, logit_bias=((2, 5.0),))) == [2]
    assert logits.tolist() == [[1.0, 1.5, 0.0]]


def test_log_probabilities_are_the_models_own_whatever_is_asked():
    logits = torch.log(torch.tensor([[0.5, 0.2, 0.3]] * 3))
    settings = [
        Sampling(top_logprobs=2, temperature=0.1, logit_bias=((1, 100.0),)),
        Sampling(top_logprobs=0),
        Sampling(),
    ]
    biased, bare, none = sampling.likelihoods(logits, [1, 0, 0], settings)
    assert biased.logprob == pytest.approx(math.log(0.2))
    assert [token_id for token_id, _ in biased.top] == [0, 2]
    assert [logprob for _, logprob in biased.top] == pytest.approx([math.log(0.5), math.log(0.3)])
    assert bare.top == ()
    assert none is None
