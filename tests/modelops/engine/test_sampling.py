"""Chance by seed and position, greedy, nucleus, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelops.contract import Sampling
from modelops.engine import sampling


def one(logits, settings, position=0):
    return sampling.choose(torch.tensor([logits]), [settings], [position])[0]


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
    assert sampling.choose(logits, [Sampling(temperature=0)] * 3, [0] * 3) == [None, 1, None]


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
    ],
)
def test_settings_that_make_no_sense_are_named(settings, word):
    assert word in sampling.why_not(settings)
    assert sampling.why_not(Sampling()) == ""
