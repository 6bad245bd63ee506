"""Intervals and the betting test, held to what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from modelops.audits import statistics


@given(st.integers(1, 400), st.data())
def test_clopper_pearson_agrees_with_scipys_exact_interval(trials, data):
    hits = data.draw(st.integers(0, trials))
    ours = statistics.clopper_pearson(hits, trials)
    theirs = stats.binomtest(hits, trials).proportion_ci(0.95, method="exact")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)


def test_zero_of_three_hundred_is_never_nought_percent():
    found = statistics.clopper_pearson(0, 300)
    assert found.estimate == 0
    assert 0.009 < found.high < 0.013


@pytest.mark.parametrize(("hits", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(hits, trials):
    with pytest.raises(ValueError, match="expected 0 ≤ hits"):
        statistics.clopper_pearson(hits, trials)


def test_capital_rises_only_against_rates_above_the_mean():
    values = np.full(500, 0.02)
    assert statistics.capital_against(values, 0.05) > 20
    assert statistics.capital_against(values, 0.01) < 1


def test_a_rate_at_the_threshold_passes_falsely_no_more_often_than_alpha():
    generator = np.random.default_rng(7)
    passes = sum(
        statistics.capital_against(generator.binomial(1, 0.05, 400).astype(float), 0.05) >= 20
        for _ in range(600)
    )
    assert passes / 600 <= 0.05


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_mean_interval_holds_its_estimate_and_stays_in_bounds(values):
    found = statistics.mean_interval(np.array(values))
    assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_mean_interval_covers_the_truth_at_least_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        found = statistics.mean_interval(generator.beta(1, 9, 80))
        covered += found.low <= 0.1 <= found.high
    assert covered / 200 >= 0.95


def test_mean_interval_narrows_with_more_values():
    generator = np.random.default_rng(5)
    values = generator.beta(2, 8, 2000)
    few, many = statistics.mean_interval(values[:50]), statistics.mean_interval(values)
    assert many.high - many.low < few.high - few.low


def test_values_outside_the_unit_interval_are_refused():
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        statistics.mean_interval(np.array([0.2, 1.2]))


def test_auc_is_one_for_separated_and_a_half_for_equal_scores():
    low, high = np.arange(10.0), np.arange(10.0) + 20
    assert statistics.auc(high, low).estimate == 1
    assert statistics.auc(low, low).estimate == 0.5
