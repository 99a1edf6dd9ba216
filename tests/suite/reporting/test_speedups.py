import math

import pytest

from suite.reporting.charts.speedups import baseline_of, heatmap, speedup
from tests.suite.reporting.synthetic import prepared, record, run_of


def test_speedup_is_the_baselines_time_over_the_others():
    rows = [record("a", "x", T, time_ms=1.0) for T in (128, 256)] + [record("a", "y", 256, time_ms=4.0)]
    (group,), styles = prepared(run_of(rows))
    chart = speedup(group, "a/y", styles)
    (series,) = chart.series
    assert (series.name, series.x, series.y) == ("a/x", (256.0,), (4.0,))
    assert "a/y" in chart.caption
    assert "chosen from the data" not in chart.caption


def test_the_default_baseline_is_quadratic_then_not_ours_then_complete_then_fast():
    quadratic = "softmax_attention"
    rows = [
        record("linear_attention", "fast", 128, time_ms=0.1),
        record(quadratic, "ours", 128, time_ms=0.2, origin="ours"),
        record(quadratic, "ours", 256, time_ms=0.4, origin="ours"),
        record(quadratic, "short", 128, time_ms=0.3),
        record(quadratic, "slow", 128, time_ms=9.0),
        record(quadratic, "slow", 256, time_ms=9.0),
        record(quadratic, "good", 128, time_ms=1.0),
        record(quadratic, "good", 256, time_ms=2.0),
    ]
    (group,), styles = prepared(run_of(rows))
    assert baseline_of(group, None) == "softmax_attention/good"
    assert "softmax_attention/good (chosen from the data" in speedup(group, None, styles).caption
    assert baseline_of(group, "a/unknown") is None


def test_the_heat_map_has_the_same_ratios_a_row_an_implementation_and_gaps_where_nothing_was_measured():
    rows = [record("a", "base", T, time_ms=T / 128) for T in (128, 256, 512)]
    rows += [record("a", "fast", T, time_ms=T / 512) for T in (256, 512)] + [record("a", "slow", 512, time_ms=8.0)]
    (group,), styles = prepared(run_of(rows))
    chart = heatmap(group, "a/base")
    assert chart.heat.columns == ("256", "512")
    fast, slow = chart.heat.rows
    assert (fast.owner.label, fast.values) == ("a/fast", (4.0, 4.0))
    assert math.isnan(slow.values[0])
    assert slow.values[1] == pytest.approx(0.5)
    assert [text for _, text in chart.y.ticks] == ["a/fast", "a/slow"]
    assert "a/fast: at most 4.00 times" in chart.alt
    lines = {series.name: series.y for series in speedup(group, "a/base", styles).series}
    assert lines["a/fast"] == fast.values
    (alone,), _ = prepared(run_of(rows[:3]))
    assert heatmap(alone, None) is None
