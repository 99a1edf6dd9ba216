import pytest

from suite.reporting.against_length import QUANTITIES, against_length, baseline_of, speedup
from suite.reporting.charts import DASHES
from suite.reporting.frame import tidy
from suite.reporting.groups import gather
from suite.reporting.palette import assign
from suite.reporting.rendering import charts_of
from tests.suite.reporting.synthetic import failed, record, records, run_of

TIME = next(quantity for quantity in QUANTITIES if quantity.kind == "time")
MEMORY = next(quantity for quantity in QUANTITIES if quantity.kind == "memory")


def prepared(*rows):
    rows = tidy([run_of(list(rows))])
    return gather(rows), assign((row["name"] for row in rows), (row["variant"] for row in rows))


def test_linear_and_quadratic_lines_share_the_chart_and_their_crossing_is_ringed():
    rows = [record("linear_attention", "x", T, time_ms=T / 1000) for T in (500, 2000)]
    rows += [record("softmax_attention", "y", T, time_ms=(T / 1000) ** 2) for T in (500, 2000)]
    (group,), styles = prepared(*rows)
    chart = against_length(group, TIME, styles)
    assert {series.name for series in chart.series} == {"linear_attention/x", "softmax_attention/y"}
    (ring,) = chart.annotations
    assert ring.ring
    assert (ring.x, ring.y) == (pytest.approx(1000), pytest.approx(1.0))
    assert "1,000" in ring.text


def test_time_has_its_band_and_what_failed_is_in_the_caption():
    rows = [failed("a", "y", T, "oom", "no memory") for T in (256, 512)] + [failed("a", "z", 128, "unsupported", "no")]
    (group,), styles = prepared(record("a", "x", 128, time_ms=2.0), *rows)
    chart = against_length(group, TIME, styles)
    (series,) = chart.series
    assert (series.low, series.y, series.high) == ((1.96,), (2.0,), (2.1,))
    assert chart.caption.endswith("Without a time: a/y at T = 256 to 512 (oom).")
    assert "2.00 ms at T = 128" in chart.alt


def test_a_rise_of_zero_is_left_out_of_the_logarithmic_memory_chart():
    (group,), styles = prepared(record("a", "x", 128, memory_mib=0.0), record("a", "x", 256, memory_mib=3.0))
    assert against_length(group, MEMORY, styles).series[0].x == (256.0,)
    (group,), styles = prepared(record("a", "x", 128, memory_mib=0.0))
    assert against_length(group, MEMORY, styles) is None


def test_decode_has_bandwidth_and_sequence_passes_have_throughput():
    groups, styles = prepared(*records())
    kinds = {}
    for group in groups:
        charts = charts_of(group, [run_of([])], styles, None)
        kinds.setdefault(group.setting.pass_, [chart.kind for chart in charts])
        assert charts[0].kind == "time"
    assert "gbs" in kinds["decode"]
    assert "tflops" not in kinds["decode"]
    assert "tflops" in kinds["fwd"]
    assert "gbs" not in kinds["fwd"]


def test_speedup_is_the_baselines_time_over_the_others():
    rows = [record("a", "x", T, time_ms=1.0) for T in (128, 256)] + [record("a", "y", 256, time_ms=4.0)]
    (group,), styles = prepared(*rows)
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
        record(quadratic, "short", 128, time_ms=0.3), record(quadratic, "slow", 128, time_ms=9.0),
        record(quadratic, "slow", 256, time_ms=9.0), record(quadratic, "good", 128, time_ms=1.0),
        record(quadratic, "good", 256, time_ms=2.0),
    ]  # fmt: skip
    (group,), styles = prepared(*rows)
    assert baseline_of(group, None) == "softmax_attention/good"
    assert "softmax_attention/good (chosen from the data" in speedup(group, None, styles).caption
    assert baseline_of(group, "a/unknown") is None


def test_colour_and_marker_belong_to_the_implementation_in_every_chart():
    groups, styles = prepared(*records())
    looks = {}
    for group in groups:
        for chart in charts_of(group, [run_of([])], styles, None):
            for series in chart.series:
                looks.setdefault(series.name, set()).add((series.style.colour, series.style.marker))
    assert len(looks) == 5
    assert all(len(found) == 1 for found in looks.values())
    assert len(set.union(*looks.values())) == 5


def test_a_hundred_implementations_have_a_hundred_looks_and_runs_differ_in_dash():
    styles = assign((f"op/{i:03}" for i in range(100)), ("one", "two"))
    assert len({(style.colour, style.marker) for style in styles.values()}) == 100
    assert {styles["op/007", variant].dash for variant in ("one", "two")} == set(DASHES[:2])
    assert styles["op/007", "one"].colour == styles["op/007", "two"].colour


def test_a_line_without_tags_is_drawn_and_not_compared():
    (group,), styles = prepared(record("a", "x", 128) | {"tags": []})
    chart = against_length(group, TIME, styles)
    assert len(chart.series) == 1
    assert chart.annotations == ()
