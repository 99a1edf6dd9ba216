import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suite.reporting.charts.model import Annotation
from suite.reporting.charts.scales import figure, length, length_axis, log_axis, place, position, size

positive = st.floats(1e-9, 1e12)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (1.5, "1.50"), (12_345, "12,300"), (0, "0"), (math.nan, "–"), (999.6, "1,000")],
)
def test_figures_have_three_digits_and_no_exponent(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("T", "text"), [(500, "500"), (1000, "1,000"), (2048, "2k"), (131072, "128k"), (3000, "3,000")]
)
def test_only_whole_multiples_of_1024_are_written_with_k(T, text):
    assert length(T) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512 B"), (256 * 1024, "256 KiB"), (2 * 1024**3, "2 GiB")])
def test_sizes_have_the_largest_unit_they_fill(count, text):
    assert size(count) == text


@given(st.lists(positive, min_size=1, max_size=20))
def test_an_axis_holds_its_values_and_has_one_to_twelve_ticks_inside(values):
    axis = log_axis("x", values)
    assert all(axis.low < value < axis.high for value in values)
    assert all(axis.low <= tick <= axis.high for tick, _ in axis.ticks)
    assert 1 <= len(axis.ticks) <= 12


def test_length_ticks_are_measured_lengths_far_enough_apart():
    axis = length_axis("T", [128, 129, 130, 1000, 8192])
    assert [text for _, text in axis.ticks] == ["128", "1,000", "8k"]


def test_labels_of_one_place_are_put_apart_and_those_that_fit_nowhere_are_left_out():
    x, y = log_axis("x", [1, 100]), log_axis("y", [1, 100])
    placed = place([Annotation(10, 10, "T=128") for _ in range(30)], x, y, [])
    assert 2 <= len(placed) < 30
    assert len({note.anchor for note in placed}) == len(placed)


def test_a_label_keeps_clear_of_points_and_a_ring_stays_without_its_label():
    x, y = log_axis("x", [1, 100]), log_axis("y", [1, 100])
    right_of_it = [(10 * 1.02**i, 10.0) for i in range(1, 20)]
    (note,) = place([Annotation(10, 10, "T=128")], x, y, right_of_it)
    assert note.anchor != "right"
    crowd = place([Annotation(10, 10, "T ≈ 1,000", ring=True) for _ in range(30)], x, y, [])
    assert len(crowd) == 30
    assert any(not note.text for note in crowd)


def test_position_is_logarithmic():
    axis = log_axis("x", [1, 100], pad=0)
    assert position(axis, 10) == pytest.approx(0.5)
