"""Steps, drifts and outliers in synthetic series: what is found, how soon, and how often there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from suite.history.changes import Change, Drift, changes, found_in

SERIES, COMMITS, NOISE = 120, 200, 0.01


def noise(seed: int, length: int = COMMITS) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, NOISE, length))


def test_a_step_of_3_percent_is_found_within_5_commits() -> None:
    seen = 0
    for seed in range(SERIES):
        at = 20 + seed
        y = noise(seed)[: at + 5]
        y[at:] *= 1.03
        seen += any(abs(each.at - at) <= 5 and each.ratio > 1 for each in changes(list(y)))
    assert seen >= 0.95 * SERIES


def test_where_it_is_and_how_large() -> None:
    ratios, blamed, found = [], 0, 0
    for seed in range(SERIES):
        at = 20 + seed
        y = noise(seed)
        y[at:] *= 0.97
        near = [each for each in changes(list(y)) if abs(each.at - at) <= 5]
        found += len(near)
        ratios += [each.ratio for each in near]
        blamed += sum(each.low <= at <= each.high for each in near)
    assert found >= 0.95 * SERIES
    assert blamed >= 0.93 * found
    assert np.median(ratios) == pytest.approx(0.97, abs=0.003)


def test_noise_has_no_step_in_200_commits() -> None:
    assert sum(len(changes(list(noise(1000 + seed)))) for seed in range(SERIES)) <= 0.05 * SERIES


def test_outliers_are_no_steps() -> None:
    false = 0
    for seed in range(SERIES):
        y, rng = noise(2000 + seed), np.random.default_rng(seed)
        y[rng.choice(COMMITS, 6, replace=False)] *= rng.choice([1.2, 1.5, 0.9], 6)
        false += len(changes(list(y)))
    # At most one in 200 commits; it is much less.
    assert false <= 0.3 * SERIES


def test_an_outlier_beside_a_step_hides_nothing() -> None:
    y = noise(7)
    y[100:] *= 1.05
    y[[97, 103]] *= 1.4
    (found,) = changes(list(y))
    assert abs(found.at - 100) <= 1
    assert found.ratio == pytest.approx(1.05, abs=0.01)


def test_a_drift_is_no_step() -> None:
    steps = drifts = 0
    for seed in range(SERIES):
        found = found_in(list(noise(3000 + seed) * np.exp(np.linspace(0, 0.08, COMMITS))))
        steps += sum(isinstance(each, Change) for each in found)
        drifts += any(isinstance(each, Drift) for each in found)
    assert drifts >= 0.98 * SERIES
    assert steps <= 0.15 * SERIES


def test_several_steps_are_told_apart() -> None:
    y = noise(11)
    y[60:] *= 1.06
    y[120:] *= 0.95
    first, second = changes(list(y))
    assert (abs(first.at - 60) <= 2, abs(second.at - 120) <= 2) == (True, True)
    assert (first.ratio > 1, second.ratio < 1) == (True, True)


def test_without_noise_the_place_is_exact() -> None:
    (found,) = changes([100.0] * 20 + [104.0] * 20)
    assert (found.at, found.low, found.high) == (20, 20, 20)
    assert found.ratio == pytest.approx(1.04)
    assert found.p < 1e-6


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 5, [2.0] * 200, [1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 1.0]])
def test_nothing_is_found_where_nothing_is(values: list[float]) -> None:
    assert found_in(values) == []


def test_a_step_below_half_a_percent_is_not_listed() -> None:
    assert changes([1000.0] * 30 + [1003.0] * 30) == []
    assert len(changes([1000.0] * 30 + [1008.0] * 30)) == 1


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_that_is_no_time_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        found_in([1.0] * 10 + [wrong])


@pytest.mark.parametrize("tail", [2, 3, 4])
@pytest.mark.parametrize("ends", ["last", "first"])
def test_a_step_near_an_end_is_where_it_is(tail: int, ends: str) -> None:
    for seed in range(50):
        y = noise(4000 + seed, 30)
        at = 30 - tail if ends == "last" else tail
        y[at:] *= 1.2
        (found,) = changes(list(y))
        assert found.at == at
        assert found.low <= at <= found.high
        assert found.ratio == pytest.approx(1.2, abs=0.03)


def test_one_slow_commit_at_the_end_is_no_step_yet() -> None:
    found = 0
    for seed in range(50):
        y = noise(5000 + seed, 30)
        y[-1] *= 1.5
        found += len(changes(list(y)))
    assert found <= 3
