"""Own statistics equal scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from suite.gating import independent, paired
from suite.gating.estimates import LARGEST_RHO, Shift, autocorrelation, effective_rounds, serial


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


def ar1(rho: float, length: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    made = draw.standard_normal(length)
    for i in range(1, length):
        made[i] = rho * made[i - 1] + math.sqrt(1 - rho**2) * made[i]
    return made


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9, 0.97])
@pytest.mark.parametrize("n", [2, 8, 64])
def test_effective_rounds_are_those_of_the_whole_correlation_matrix(rho, n):
    """The variance of a mean is the sum of all covariances over n squared."""
    matrix = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    assert effective_rounds(n, rho) == pytest.approx(n**2 / matrix.sum(), rel=1e-9)


def test_effective_rounds_of_long_series_are_bayleys_and_hammersleys():
    assert effective_rounds(10**6, 0.5) == pytest.approx(10**6 / 3, rel=1e-5)
    assert effective_rounds(10**6, 0.25) == pytest.approx(10**6 * 0.6, rel=1e-5)


@pytest.mark.parametrize("n", [8, 16, 64])
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_serial_correlation_has_no_bias_left(n, rho):
    found = [autocorrelation((0.01 * ar1(rho, n, seed)).tolist()) for seed in range(4000)]
    raw = [np.corrcoef(each[:-1], each[1:])[0, 1] for each in (ar1(rho, n, seed) for seed in range(500))]
    # The corrected values cannot exceed 1, which costs short series a little.
    assert float(np.mean(found)) == pytest.approx(rho, abs=0.03 if n > 8 else 0.08)
    assert float(np.mean(raw)) < rho


def test_the_serial_correlation_is_that_of_the_textbooks():
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    about = np.array(values) - np.mean(values)
    r = float(np.sum(about[1:] * about[:-1]) / np.sum(about**2))
    assert autocorrelation(values) == pytest.approx((8 * r + 1) / 4, rel=1e-9)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_serial_interval_covers_the_mean(rho):
    """One-sided 95 % bounds of 32 rounds: near 95 %, where Student's cover 74 % at rho 0.8."""
    series = [(0.01 * ar1(rho, 32, seed)).tolist() for seed in range(3000)]
    covered = float(np.mean([serial(each).upper(0.95) >= 0 for each in series]))
    assert 0.925 <= covered <= 0.985
    if rho == 0.8:
        assert np.mean([paired(each).upper(0.95) >= 0 for each in series]) < 0.8


def test_independent_rounds_that_alternate_have_students_interval():
    values = [0.01, -0.02, 0.015, -0.01, 0.02, -0.005, 0.01, -0.02]
    ours, student = serial(values), paired(values)
    for name in ("mean", "se", "df"):
        assert getattr(ours, name) == pytest.approx(getattr(student, name), rel=1e-9)


def test_the_serial_interval_is_never_narrower_than_students():
    for seed in range(300):
        values = (0.01 * ar1(-0.5 if seed % 2 else 0.5, 8, seed)).tolist()
        ours, student = serial(values), paired(values)
        assert ours.reach(0.995) >= student.reach(0.995) * (1 - 1e-12)


def test_earlier_rounds_tell_the_noise_and_not_the_mean():
    values, earlier = (0.01 * ar1(0.0, 16, 1)).tolist(), (0.01 * ar1(0.0, 16, 2)).tolist()
    found = serial(values, earlier)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.rounds == 16
    assert found.df > serial(values).df


@pytest.mark.parametrize("values", [[0.0] * 8, [0.05] * 64, [0.1], [0.1, 0.2], [0.0] * 7 + [5.0], list(range(64))])
def test_odd_series_have_finite_or_unknown_intervals(values):
    found = serial(values, (), LARGEST_RHO)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.df >= 1
    assert not math.isnan(found.lower(0.9999))
    assert math.isinf(found.se) == (len(values) < 2)


def test_a_shift_between_runs_counts_once_for_each_run():
    before, after = [1.0, 1.01, 0.99, 1.0], [1.1, 1.11, 1.09, 1.1]
    alone, shifted = independent(before, after), independent(before, after, Shift(0.03, 5.0))
    assert shifted.se**2 == pytest.approx(alone.se**2 + 2 * 0.03**2, rel=1e-9)
    # Nearly all of the noise is the shift's, so that nearly all of the freedom is its too.
    assert 5.0 < shifted.df < 5.5
