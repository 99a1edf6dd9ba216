import pytest

from suite.reporting.crossings import crossings, distinct
from suite.reporting.frame import tidy
from suite.reporting.groups import gather
from tests.suite.reporting.synthetic import record, run_of

LENGTHS = (128, 512, 2048, 8192)


def compared(linear, quadratic, lengths=LENGTHS):
    """The crossing of two lines given as functions of T."""
    rows = [record("linear_attention", "x", T, time_ms=linear(T)) for T in lengths]
    rows += [record("softmax_attention", "y", T, time_ms=quadratic(T)) for T in lengths]
    (group,) = gather(tidy([run_of(rows)]))
    (found,) = crossings(group)
    return found


@pytest.mark.parametrize("at", [200.0, 1000.0, 5000.0])
def test_lines_that_are_straight_in_log_log_cross_at_the_right_place(at):
    found = compared(lambda T: T / at, lambda T: (T / at) ** 2)
    assert pytest.approx(at) == found.T
    assert found.ms == pytest.approx(1.0)
    assert (found.linear, found.quadratic) == ("linear_attention/x", "softmax_attention/y")


def test_a_crossing_at_a_measured_length_is_that_length():
    assert pytest.approx(512) == compared(lambda T: T / 512, lambda T: (T / 512) ** 2).T


def test_never_and_always_are_said_with_their_range():
    never = compared(lambda T: T, lambda T: T / 2)
    always = compared(lambda T: T / 2, lambda T: T)
    assert (never.T, always.T) == (None, None)
    assert never.says == "not in range (measured from T = 128 to 8,192)"
    assert always.says == "at every length (measured from T = 128 to 8,192)"


def test_of_several_crossings_the_last_one_counts():
    linear = {128: 3.0, 512: 1.0, 2048: 3.0, 8192: 1.0}
    found = compared(linear.get, lambda T: 2.0)
    assert 2048 < found.T < 8192
    assert found.says.endswith("(measured from T = 128 to 8,192, the last of 3 crossings)")


def test_lines_of_different_runs_or_without_a_common_length_are_not_compared():
    runs = [
        run_of([record("linear_attention", "x", 128)], "one"),
        run_of([record("softmax_attention", "y", 128)], "two"),
    ]
    (group,) = gather(tidy(runs))
    assert crossings(group) == []
    apart = [record("linear_attention", "x", 128), record("softmax_attention", "y", 256)]
    (group,) = gather(tidy([run_of(apart)]))
    assert crossings(group) == []


def test_crossings_beside_each_other_are_ringed_once():
    rows = [record("linear_attention", "x", T, time_ms=T / 1000) for T in LENGTHS]
    for name, factor in (("y", 1.0), ("z", 1.02), ("far", 100.0)):
        rows += [record("softmax_attention", name, T, time_ms=factor * (T / 1000) ** 2) for T in (8, *LENGTHS)]
    rows.append(record("linear_attention", "x", 8, time_ms=0.008))
    (group,) = gather(tidy([run_of(rows)]))
    assert len([each for each in crossings(group) if each.T]) == 3
    assert len(distinct(crossings(group))) == 2
