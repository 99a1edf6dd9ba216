"""Crossings of a report: which pairs are compared, and what is said of time, memory and prediction."""

import pytest

from suite.reporting.data.crossings import crossings, distinct
from suite.reporting.data.frame import normalise
from suite.reporting.data.groups import gather
from tests.suite.reporting.synthetic import record, run_of, static

LENGTHS = (128, 512, 2048, 8192)
NAMES = (("linear_attention", "x"), ("softmax_attention", "y"))


def compared(linear, quadratic, lengths=LENGTHS, **more):
    """The crossing of two lines given as functions of T."""
    rows = [record("linear_attention", "x", T, time_ms=linear(T), **more) for T in lengths]
    rows += [record("softmax_attention", "y", T, time_ms=quadratic(T)) for T in lengths]
    run = run_of(rows)
    (group,) = gather(normalise([run]))
    (found,) = crossings(group, [run])
    return found


@pytest.mark.parametrize("at", [200.0, 1000.0, 5000.0])
def test_lines_that_are_straight_in_log_log_cross_at_the_right_place(at):
    found = compared(lambda T: T / at, lambda T: (T / at) ** 2)
    assert found.meeting is not None
    assert pytest.approx(at) == found.meeting.T
    assert found.meeting.value == pytest.approx(1.0)
    assert (found.linear, found.quadratic) == ("linear_attention/x", "softmax_attention/y")


def test_the_prediction_is_made_of_cost_and_ceilings_alone():
    slow, fast = (compared(lambda T, by=by: by * T, lambda T: T * T) for by in (1e-3, 1e3))
    assert slow.predicted is not None
    assert slow.predicted == fast.predicted
    assert slow.time != fast.time


def test_predicted_times_of_machine_code_take_the_place_of_the_roofline():
    """With a profile of each case on the run's device; one that is missing leaves the roofline."""

    def found(lengths):
        rows = [record(*names, T) for names in NAMES for T in LENGTHS]
        for names, power in zip(NAMES, (1, 2), strict=True):
            for T in lengths:
                words = {"static.predicted_ms": (T / 700) ** power, "static.floor_ms": 1e-9}
                rows.append(static(*names, T, device="sm_90") | words)
        run = run_of(rows, device={"arch": "sm_90"})
        (group, *_) = gather(normalise([run]))
        (crossing,) = crossings(group, [run])
        return crossing

    crossing = found(LENGTHS)
    assert (crossing.from_code, crossing.predicted_how) == (True, "from machine code")
    assert pytest.approx(700) == crossing.predicted.last.T
    assert found(LENGTHS[1:]).predicted_how == "at the roofline"


def test_memory_is_judged_by_itself():
    found = compared(lambda T: 1e-3, lambda T: 1.0, memory_mib=2.0)
    assert found.memory is not None
    assert found.memory.says.startswith("not in range")
    assert found.time.says.startswith("at every length")


def test_an_interval_in_the_records_reaches_the_verdict():
    noisy = compared(lambda T: T / 512, lambda T: (T / 512) ** 2, ci_low_ms=1e-3, ci_high_ms=1e3)
    assert noisy.time.says.startswith("no difference can be told")


def test_lines_of_different_runs_or_without_a_common_length_are_not_compared():
    runs = [
        run_of([record("linear_attention", "x", 128)], "one"),
        run_of([record("softmax_attention", "y", 128)], "two"),
    ]
    (group,) = gather(normalise(runs))
    assert crossings(group) == []
    apart = [record("linear_attention", "x", 128), record("softmax_attention", "y", 256)]
    (group,) = gather(normalise([run_of(apart)]))
    assert crossings(group) == []


def test_crossings_beside_each_other_are_ringed_once():
    rows = [record("linear_attention", "x", T, time_ms=T / 1000) for T in LENGTHS]
    for name, factor in (("y", 1.0), ("z", 1.02), ("far", 100.0)):
        rows += [record("softmax_attention", name, T, time_ms=factor * (T / 1000) ** 2) for T in (8, *LENGTHS)]
    rows.append(record("linear_attention", "x", 8, time_ms=0.008))
    (group,) = gather(normalise([run_of(rows)]))
    assert len([each for each in crossings(group) if each.meeting]) == 3
    kept = distinct(crossings(group))
    assert [labels[1] for labels, _ in kept] == ["softmax_attention/y", "softmax_attention/far"]
