"""The promises of the time gate, simulated with fixed seeds: false alarms, power, the change it could have seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from suite.gating import Estimate, Limits, independent, judge_time
from suite.gating.decisions import smallest_detectable
from tests.suite.gating.noise import KINDS, noise

LIMITS = Limits()
CASES = 200
ROUNDS = 8


def launches(kind, draw, level, cases, change=0.0, drift=0.0, rounds=ROUNDS):
    """Logarithms of launch medians before and after, [cases, rounds]; the machine drifts over the launches of a run."""
    warming = np.linspace(0, drift, rounds)
    before, after = (level * noise(kind, draw, (cases, rounds)) + warming for _ in range(2))
    return np.exp(before), np.exp(after + math.log1p(change))


def verdicts(before, after):
    pairs = zip(before.tolist(), after.tolist(), strict=True)
    return [judge_time(independent(x, y), 10.0, LIMITS).verdict for x, y in pairs]


def alarms(kind, level, suites, drift=0.0):
    """How many of the suites, each gated against itself, would exit with 1."""
    found = verdicts(*launches(kind, np.random.default_rng(1), level, suites * CASES, drift=drift))
    return sum("slower" in found[start : start + CASES] for start in range(0, len(found), CASES))


@pytest.mark.parametrize("kind", KINDS)
def test_suites_gated_against_themselves_pass(kind):
    assert alarms(kind, 0.02, suites=15) == 0


@pytest.mark.long
@pytest.mark.parametrize("drift", [0.0, 0.03])
@pytest.mark.parametrize("level", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_gated_against_itself_fails_in_at_most_one_of_a_hundred(kind, level, drift):
    assert alarms(kind, level, suites=300, drift=drift) <= 3


@pytest.mark.parametrize(
    ("change", "level", "rounds", "power"),
    [(0.05, 0.01, 8, 0.95), (0.10, 0.02, 8, 0.99), (0.03, 0.005, 12, 0.90)],
)
def test_a_real_slowdown_is_seen(change, level, rounds, power):
    draw = np.random.default_rng(2)
    found = verdicts(*launches("normal", draw, level, 4000, change, rounds=rounds))
    assert found.count("slower") / len(found) >= power


@pytest.mark.parametrize("level", [0.005, 0.01])
def test_quiet_suites_are_mostly_called_the_same(level):
    found = verdicts(*launches("normal", np.random.default_rng(3), level, 4000))
    assert found.count("same") / len(found) >= 0.97


def test_same_is_wrong_by_the_margin_in_at_most_one_of_twenty():
    found = verdicts(*launches("normal", np.random.default_rng(4), 0.01, 8000, change=LIMITS.margin))
    assert 0.03 <= found.count("same") / len(found) <= 0.06
    assert found.count("slower") / len(found) <= 0.008


@pytest.mark.parametrize("level", [0.01, 0.03])
def test_the_smallest_change_it_could_have_seen_is_seen(level):
    draw = np.random.default_rng(5)
    exact = Estimate(0.0, math.sqrt(2 * level**2 / ROUNDS), 2 * (ROUNDS - 1.0), ROUNDS)
    change = smallest_detectable(exact, LIMITS.margin)
    assert change is not None
    found = verdicts(*launches("normal", draw, level, 4000, change))
    assert 0.92 <= found.count("slower") / len(found) <= 0.99
