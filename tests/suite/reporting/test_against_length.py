import pytest

from suite.reporting.charts.against_length import QUANTITIES, against_length
from suite.reporting.charts.bounds import io_bounds
from suite.reporting.charts.model import DASHES
from suite.reporting.charts.palette import assign
from suite.reporting.data.crossings import crossings
from suite.reporting.rendering import ORDER, panel_of
from tests.suite.reporting.synthetic import failed, prepared, record, records, run_of, static

TIME = next(quantity for quantity in QUANTITIES if quantity.kind == "time")
MEMORY = next(quantity for quantity in QUANTITIES if quantity.kind == "memory")


ENERGY = next(quantity for quantity in QUANTITIES if quantity.kind == "energy")


def test_linear_and_quadratic_lines_share_the_chart_and_their_crossing_is_ringed():
    rows = [record("linear_attention", "x", T, time_ms=T / 1000) for T in (500, 2000)]
    rows += [record("softmax_attention", "y", T, time_ms=(T / 1000) ** 2) for T in (500, 2000)]
    (group,), styles = prepared(run_of(rows))
    chart = against_length(group, TIME, styles, crossings(group))
    assert {series.name for series in chart.series} == {"linear_attention/x", "softmax_attention/y"}
    (ring,) = chart.annotations
    assert ring.ring
    assert set(ring.of) == {"linear_attention/x", "softmax_attention/y"}
    assert (ring.x, ring.y) == (pytest.approx(1000), pytest.approx(1.0))
    assert "1,000" in ring.text


def test_time_has_its_band_and_what_failed_is_in_the_caption():
    rows = [failed("a", "y", T, "oom", "no memory") for T in (256, 512)] + [failed("a", "z", 128, "unsupported", "no")]
    (group,), styles = prepared(run_of([record("a", "x", 128, time_ms=2.0), *rows]))
    chart = against_length(group, TIME, styles)
    (series,) = chart.series
    assert (series.low, series.y, series.high) == ((1.96,), (2.0,), (2.1,))
    assert chart.caption.endswith("Without a time: a/y at T = 256 to 512 (oom).")
    assert "2.00 ms at T = 128" in chart.alt


@pytest.mark.parametrize("quantity", [TIME, MEMORY], ids=["time", "memory"])
def test_a_line_that_ends_in_want_of_memory_shows_the_frontier(quantity):
    rows = [record("a", "x", T, time_ms=T / 100) for T in (128, 256)]
    rows += [failed("a", "x", T, "oom", "no memory") for T in (512, 1024)]
    rows += [failed("a", "x", 64, "error", "broke")]
    rows += [record("a", "z", 128, time_ms=0.5), failed("a", "z", 256, "unsupported", "no")]
    (group,), styles = prepared(run_of(rows))
    chart = against_length(group, quantity, styles)
    (line,) = [series for series in chart.series if series.name == "a/x"]
    (end,) = [series for series in chart.series if not series.listed]
    assert (end.name, end.listed, end.last_only, end.owner) == ("OOM", False, True, line.owner)
    assert end.x == (256.0, 512.0)
    assert end.y == (line.y[-1], line.y[-1])
    assert "no time from T = 512: oom" in end.text[-1]
    assert [(note.text, note.x, note.of) for note in chart.annotations] == [("OOM", 512.0, ("a/x",))]
    assert chart.x.low < 128 < 512 < chart.x.high
    assert "a/x ends before T = 512: OOM" in chart.alt


def test_energy_is_drawn_where_it_was_measured():
    (group,), styles = prepared(run_of([record("a", "x", 128) | {"telemetry.energy_j_token": 2e-4}]))
    assert against_length(group, ENERGY, styles).series[0].y == (2e-4,)
    (group,), styles = prepared(run_of([record("a", "x", 128)]))
    assert against_length(group, ENERGY, styles) is None


def test_a_crowded_chart_draws_the_fastest_of_each_operator_until_one_is_chosen():
    rows = [record(f"op{i}", f"x{j}", 128, time_ms=1 + i + j / 10) for i in range(7) for j in range(3)]
    rows += [record("softmax_attention", "y", 128, time_ms=1000.0)]
    (group,), styles = prepared(run_of([row | {"tags": ["linear"]} for row in rows[:-1]] + rows[-1:]))
    chart = against_length(group, TIME, styles)
    shown = {series.name for series in chart.series if series.owner.shown}
    assert shown == {f"op{i}/x0" for i in range(7)} | {"softmax_attention/y"}
    assert len(chart.series) == 22


def test_a_rise_of_zero_is_left_out_of_the_logarithmic_memory_chart():
    (group,), styles = prepared(run_of([record("a", "x", 128, memory_mib=0.0), record("a", "x", 256, memory_mib=3.0)]))
    assert against_length(group, MEMORY, styles).series[0].x == (256.0,)
    (group,), styles = prepared(run_of([record("a", "x", 128, memory_mib=0.0)]))
    assert against_length(group, MEMORY, styles) is None


def test_decode_has_bandwidth_and_sequence_passes_have_throughput():
    groups, styles = prepared(run_of(records()))
    kinds = {}
    for group in groups:
        charts = panel_of(group, [run_of([])], styles, None).charts
        kinds.setdefault(group.setting.pass_, [chart.kind for chart in charts])
        assert charts[0].kind == "time"
    assert "gbs" in kinds["decode"]
    assert "tflops" not in kinds["decode"]
    assert "tflops" in kinds["fwd"]
    assert "gbs" not in kinds["fwd"]


def test_every_chart_has_its_place_among_the_pictures():
    assert {quantity.kind for quantity in QUANTITIES} <= set(ORDER)


def test_bytes_a_token_are_flat_for_a_state_and_grow_for_a_cache():
    (quantity,) = (each for each in QUANTITIES if each.kind == "bytes")
    rows = [
        record("linear_attention", "x", T, **{"pass": "decode", "gbs": 4.0, "tokens_per_s": 2e6}) for T in (512, 1024)
    ]
    rows += [
        record("attention_decode", "y", T, **{"pass": "decode", "gbs": T / 1e3, "tokens_per_s": 1e6})
        for T in (512, 1024)
    ]
    (group,), styles = prepared(run_of(rows))
    lines = {series.name: series.y for series in against_length(group, quantity, styles).series}
    assert lines["linear_attention/x"] == pytest.approx((2000 / 1024, 2000 / 1024))
    assert lines["attention_decode/y"] == pytest.approx((0.5, 1.0))


def test_colour_and_marker_belong_to_the_implementation_in_every_chart():
    groups, styles = prepared(run_of(records()))
    looks = {}
    for group in groups:
        for chart in panel_of(group, [run_of([])], styles, None).charts:
            for series in chart.series:
                if series.listed:
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
    (group,), styles = prepared(run_of([record("a", "x", 128) | {"tags": []}]))
    chart = against_length(group, TIME, styles, crossings(group))
    assert len(chart.series) == 1
    assert chart.annotations == ()


def test_an_operators_io_bound_is_a_dashed_line_at_the_copy_bandwidth_of_the_device_alone():
    gpu = {"arch": "sm_90", "name": "GPU"}
    rows = [record("a", "x", T, time_ms=T / 100) for T in (256, 512)]
    rows += [static("a", "x", T) | {"static.io_bound_bytes": 4e6 * T} for T in (256, 512)]
    rows += [static("a", "x", 256, "sm_80") | {"static.io_bound_bytes": 1.0}, static("b", "y", 256)]
    run = run_of(rows, device=gpu, ceilings={"copy": [{"bytes": 2**30, "gbs": 4000.0}]})
    (group,), styles = prepared(run)
    (bound,) = io_bounds(group, [run], styles)
    assert (bound.x, bound.y, bound.style.dash) == ((256.0, 512.0), (0.256, 0.512), "dash")
    chart = panel_of(group, [run], styles, None).charts[0]
    assert bound in chart.series
    assert chart.y.low < 0.256
    assert io_bounds(group, [run_of([], device={"arch": "sm_100"})], styles) == []
