"""Own statistics equal scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from suite.gating import independent, paired


@pytest.mark.parametrize(("n", "m", "noise"), [(8, 8, 0.01), (8, 12, 0.2), (2, 3, 1e-4), (32, 8, 0.05)])
def test_independent_launches_equal_scipys_welch_test(n, m, noise):
    draw = np.random.default_rng(n * m)
    before, after = (np.exp(draw.normal(0.3, noise, size)) for size in (n, m))
    ours = independent(before.tolist(), after.tolist())
    theirs = stats.ttest_ind(np.log(after), np.log(before), equal_var=False)
    assert ours.df == pytest.approx(theirs.df, rel=1e-9)
    assert ours.mean / ours.se == pytest.approx(theirs.statistic, rel=1e-9)
    interval = theirs.confidence_interval(0.99)
    assert ours.lower(0.995) == pytest.approx(interval.low, rel=1e-9)
    assert ours.upper(0.995) == pytest.approx(interval.high, rel=1e-9)
    assert ours.rounds == min(n, m)


@pytest.mark.parametrize("rounds", [2, 8, 32])
def test_paired_rounds_equal_scipys_t_test(rounds):
    ratios = np.random.default_rng(rounds).normal(0.02, 0.01, rounds)
    ours = paired(ratios.tolist())
    interval = stats.ttest_1samp(ratios, 0).confidence_interval(0.9)
    assert ours.lower(0.95) == pytest.approx(interval.low, rel=1e-9)
    assert ours.upper(0.95) == pytest.approx(interval.high, rel=1e-9)


@pytest.mark.parametrize("rounds", [2, 8, 32])
def test_noise_is_a_rounds_own_and_does_not_change_with_more_rounds(rounds):
    ratios = np.random.default_rng(rounds).normal(0.02, 0.01, 16)
    now = paired(ratios.tolist())
    assert now.noise == pytest.approx(np.std(ratios, ddof=1), rel=1e-9)
    later = now.after(rounds)
    assert (later.noise, later.df, later.rounds) == (pytest.approx(now.noise), rounds - 1, rounds)


def test_one_launch_says_nothing_about_noise():
    for estimate in (independent([1.0], [1.1, 1.2, 1.3]), independent([1.0, 1.1], [2.0]), paired([0.1])):
        assert math.isinf(estimate.se)
        assert estimate.lower(0.95) == -math.inf


def test_launches_that_all_agree_have_an_exact_ratio():
    estimate = independent([2.0] * 8, [3.0] * 8)
    assert estimate.lower(0.995) == estimate.upper(0.995) == pytest.approx(math.log(1.5))
