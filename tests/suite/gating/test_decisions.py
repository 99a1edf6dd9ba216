"""Each branch of docs/gate.md's tree, by numbers alone."""

from __future__ import annotations

import math

import pytest

from suite.errors import Exit
from suite.gating import Estimate, Limits, judge_error, judge_memory, judge_status, judge_time
from suite.gating.decisions import rounds_to_see, smallest_detectable

OK = ("ok", "")
CRASHED = ("crashed", "signal 11")
LIMITS = Limits()


def estimate(percent: float, se: float = 0.002, rounds: int = 8) -> Estimate:
    """A change of so many per cent; t(14) reaches 2.98 and 1.76 standard errors."""
    return Estimate(math.log1p(percent / 100), se, 14.0, rounds)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([OK] * 8, [OK] * 8, None),
        ([OK, CRASHED], [OK] * 8, None),
        ([OK] * 8, [], "missing"),
        ([OK] * 8, [*[OK] * 7, CRASHED], "broken"),
        ([OK], [("incorrect", "o: error 1")], "broken"),
        ([OK], [("unsupported", "no bwd pass")], "broken"),
        ([OK, CRASHED], [OK, CRASHED], "inconclusive"),
        ([OK, CRASHED], [], "missing"),
        ([CRASHED], [OK], "new"),
        ([], [OK], "new"),
        ([], [CRASHED], "new"),
        ([CRASHED], [CRASHED], "unchanged"),
        ([CRASHED], [OK, CRASHED], "unchanged"),
        ([("unsupported", "")], [], "unchanged"),
    ],
)
def test_status(before, after, verdict):
    decision = judge_status(before, after)
    assert (decision.verdict if decision else None) == verdict
    assert decision is None or decision.reason


def test_the_reason_of_a_broken_case_tells_what_happened_and_how_often():
    decision = judge_status([OK] * 8, [*[OK] * 6, CRASHED, CRASHED])
    assert decision is not None
    assert decision.reason == "ok before, now crashed (2 of 8 launches): signal 11"
    assert decision.exit == Exit.REGRESSION


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (estimate(5.0), "slower"),
        (estimate(2.7), "slower"),
        (estimate(2.5), "inconclusive"),
        (estimate(1.7), "inconclusive"),
        (estimate(1.6), "same"),
        (estimate(0.0), "same"),
        (estimate(-2.2), "same"),
        (estimate(-2.4), "faster"),
        (estimate(-30.0), "faster"),
        (estimate(5.0, se=0.02), "inconclusive"),
        (estimate(0.0, se=0.02), "inconclusive"),
        (estimate(50.0, rounds=7), "inconclusive"),
        (estimate(0.0, rounds=1, se=math.inf), "inconclusive"),
        (estimate(5.0, se=0.0), "slower"),
    ],
)
def test_time(change, verdict):
    decision = judge_time(change, before_ms=10.0, limits=LIMITS)
    assert decision.verdict == verdict
    assert decision.ratio == pytest.approx(math.exp(change.mean))
    assert ("smallest change it could have seen" in decision.reason) == (verdict == "inconclusive")


@pytest.mark.parametrize(("before_ms", "verdict"), [(0.039, "same"), (0.041, "slower")])
def test_a_slowdown_within_the_floor_is_the_same(before_ms, verdict):
    assert judge_time(estimate(5.0), before_ms, LIMITS).verdict == verdict


@pytest.mark.parametrize(("before_ms", "verdict"), [(0.039, "same"), (0.041, "faster")])
def test_a_gain_within_the_floor_is_the_same(before_ms, verdict):
    assert judge_time(estimate(-5.0), before_ms, LIMITS).verdict == verdict


def test_noise_below_the_floor_is_the_same():
    noisy = estimate(0.0, se=0.02)
    assert judge_time(noisy, 0.05, LIMITS).verdict == "same"
    assert judge_time(noisy, 0.06, LIMITS).verdict == "inconclusive"


def test_slower_in_time_but_not_in_cycles_is_inconclusive():
    slower = judge_time(estimate(5.0), 10.0, LIMITS, cycles=estimate(0.1))
    assert slower.verdict == "inconclusive"
    assert "clock" in slower.reason
    assert judge_time(estimate(5.0), 10.0, LIMITS, cycles=estimate(5.0)).verdict == "slower"


def test_the_margin_is_a_parameter():
    assert judge_time(estimate(5.0), 10.0, Limits(margin=0.06)).verdict == "same"
    assert judge_time(estimate(1.0), 10.0, Limits(margin=0.0)).verdict == "slower"


@pytest.mark.parametrize("noise", [0.005, 0.01, 0.03, 0.1])
def test_the_rounds_that_would_do_are_the_fewest_that_would(noise):
    now = Estimate(0.0, noise / math.sqrt(8), 7.0, 8)
    enough = rounds_to_see(now, LIMITS.margin, 0.04)
    assert enough is not None
    assert (smallest_detectable(now.after(enough), LIMITS.margin) or 1) <= 0.04
    assert (smallest_detectable(now.after(enough - 1), LIMITS.margin) or 0) > 0.04 or enough == 2


def test_rounds_that_nobody_waits_for_are_not_named():
    assert rounds_to_see(Estimate(0.0, 1.0, 7.0, 8), LIMITS.margin, 0.04) is None
    assert rounds_to_see(Estimate(0.0, math.inf, 1.0, 1), LIMITS.margin, 0.04) is None
    assert rounds_to_see(Estimate(0.0, 0.001, 7.0, 8), LIMITS.margin, LIMITS.margin) is None


def test_an_inconclusive_reason_says_how_many_rounds_would_do():
    reason = judge_time(estimate(0.0, se=0.02), 10.0, LIMITS).reason
    assert "smallest change it could have seen: +12.1%; " in reason
    assert reason.endswith(f"{rounds_to_see(estimate(0.0, se=0.02), 0.02, 0.04)} rounds would see +4.0%")
    assert judge_time(estimate(0.0, se=0.001, rounds=4), 10.0, LIMITS).reason.endswith("could have seen: +2.5%")


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (100.0, 102.0, "slower"),
        (100.0, 100.9, "same"),
        (10.0, 10.9, "same"),
        (10.0, 11.5, "slower"),
        (1000.0, 1009.0, "same"),
        (100.0, 98.0, "faster"),
        (0.0, 0.5, "same"),
        (0.0, 5.0, "slower"),
        (100.0, None, "inconclusive"),
        (None, 100.0, "new"),
    ],
)
def test_memory(before, after, verdict):
    decision = judge_memory(before, after, LIMITS)
    assert decision.verdict == verdict
    assert decision.ratio == (after / before if before and after is not None else None)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (6e-3, 6.5e-3, "same"),
        (6e-3, 7e-3, "slower"),
        (3e-3, 3.9e-3, "same"),
        (3e-3, 4.1e-3, "slower"),
        (1e-3, 1.9e-3, "same"),
        (1e-3, 2.1e-3, "slower"),
        (1e-5, 7e-4, "same"),
        (0.0, 1e-3, "slower"),
        (7e-3, 6e-3, "faster"),
    ],
)
def test_error(before, after, verdict):
    assert judge_error({"o": before}, {"o": after}, limit=8e-3).verdict == verdict


def test_the_worst_output_decides_and_is_named():
    before = {"o": 1e-3, "dq": 1e-3, "dk": 4e-3, "dv": 1e-3}
    decision = judge_error(before, {"o": 1e-3, "dq": 3e-3, "dk": 1e-3, "dv": 5e-3}, limit=8e-3)
    assert decision.verdict == "slower"
    assert "error of dv" in decision.reason
    assert decision.ratio == pytest.approx(5.0)


def test_an_output_that_is_no_longer_checked_is_missing():
    decision = judge_error({"o": 1e-3, "dq": 1e-3}, {"o": 1e-3}, limit=8e-3)
    assert (decision.verdict, decision.exit) == ("missing", Exit.REGRESSION)
    assert "dq" in decision.reason
    assert judge_error({"o": 1e-3}, {"o": 1e-3}, limit=None).verdict == "inconclusive"
    assert judge_error({}, {"o": 1e-3}, limit=None).verdict == "new"
