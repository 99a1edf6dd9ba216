import pytest

from suite.reporting.charts.kept import kept
from suite.reporting.charts.roofline import floors, roofline
from suite.reporting.renderers.interactive import figure
from tests.suite.reporting.synthetic import CEILINGS, H200, on_h200, prepared, record, run_of, static


def drawn(run):
    (group,), styles = prepared(run)
    return roofline(group, [run], styles)


def test_a_point_of_known_intensity_lies_there_in_the_description_and_in_the_figure():
    row = record("a", "x", 256, time_ms=1.0) | {"flops_alg": 6.4e9, "bytes_compulsory": 2e8}
    row |= {"intensity": 32.0, "tflops": 6.4, "roof_pct": 61.0, "bound": "memory"}
    chart = drawn(run_of([row]))
    (series,) = chart.series
    assert (series.x, series.y, series.hollow) == ((32.0,), (6.4,), True)
    said = series.text[0]
    assert all(word in said for word in ("32.0 FLOP/byte", "6.40 TFLOP/s", "61.0 % of the roofline", "by memory"))
    trace = next(trace for trace in figure(chart)["data"] if trace.get("name") == "a/x")
    assert (trace["x"], trace["y"]) == ([32.0], [6.4])
    assert trace["marker"]["symbol"].endswith("-open")


def test_the_roof_bends_where_bandwidth_reaches_the_matrix_throughput():
    chart = drawn(on_h200())
    slope, flat = (each for each in chart.ceilings if each.kind == "measured")
    assert (slope.x[1], slope.y[1]) == pytest.approx((720e12 / 4100e9, 720))
    assert (flat.x[0], flat.y[0]) == pytest.approx((720e12 / 4100e9, 720))
    assert slope.y[0] / slope.x[0] == pytest.approx(4.1)
    assert "4,100 GB/s" in slope.label
    assert "720 TFLOP/s" in flat.label


def test_measured_ceilings_are_solid_and_the_datasheets_are_dashed_with_its_clock():
    chart = drawn(on_h200())
    sheet = [each for each in chart.ceilings if each.kind == "datasheet"]
    assert [each.label for each in sheet] == ["datasheet: 4,800 GB/s", "datasheet: 989 TFLOP/s, dense, 1,830 MHz"]
    traces = {
        trace["name"]: trace["line"]["dash"] for trace in figure(chart)["data"] if "datasheet" in str(trace.get("name"))
    }
    assert set(traces.values()) == {"dash"}
    solid = next(trace for trace in figure(chart)["data"] if str(trace.get("name")).startswith("matrix"))
    assert solid["line"]["dash"] == "solid"


def test_a_cache_has_a_roof_of_its_own_where_it_is_much_faster():
    chart = drawn(run_of([record("a", "x", 128)]))
    assert [each.label for each in chart.ceilings] == [
        "copy of 1 GiB: 20.0 GB/s",
        "copy of 256 KiB: 110 GB/s",
        "matrix product: 0.400 TFLOP/s",
    ]
    flat = dict(CEILINGS, copy=[{"bytes": size, "gbs": 20.0 + size} for size in (1, 2)])
    chart = drawn(run_of([record("a", "x", 128)], ceilings=flat))
    assert len(chart.ceilings) == 2


@pytest.mark.parametrize(
    "ceilings", [{}, {"copy": [], "matmul": {}}, {"copy": [{"gbs": None}], "matmul": {"float32": None}}, None]
)
def test_without_ceilings_the_points_are_drawn_and_that_is_said(ceilings):
    chart = drawn(run_of([record("a", "x", 128)], ceilings=ceilings))
    assert chart.ceilings == ()
    assert "No ceiling is stored" in chart.caption
    assert len(chart.series) == 1


def test_every_point_and_roof_lies_inside_the_axes():
    chart = drawn(on_h200())
    for each in (*chart.series, *chart.ceilings):
        assert all(chart.x.low <= x <= chart.x.high * 1.0001 for x in each.x)
        assert all(chart.y.low * 0.9999 <= y <= chart.y.high for y in each.y)


def test_first_and_last_length_of_a_line_are_labelled():
    assert {note.text for note in drawn(on_h200()).annotations} >= {"T=1k", "T=32k", "floor, not measured"}


def test_floors_of_this_devices_architecture_are_unjoined_and_called_what_they_are():
    (floor,) = [series for series in drawn(on_h200()).series if not series.line]
    assert floor.name == "linear_attention/triton_chunk: floor, not measured"
    assert floor.hollow
    assert "not measured" in floor.text[0]


def test_a_predicted_time_is_drawn_in_place_of_the_floor():
    floor = static("a", "y", 128, arch="sm_100")
    words = {"predicted_ms": 4.0, "predicted_low_ms": 3.0, "predicted_high_ms": 5.0, "predicted_bound": "chain"}
    row = floor | {f"static.{name}": value for name, value in words.items()}
    run = run_of([record("a", "x", 128), row])
    (group,), styles = prepared(run)
    (chart,) = floors(group, [run], styles)
    (series,) = chart.series
    assert (chart.title, series.name) == (
        "Predicted, not measured: sm_100, NVIDIA H200",
        "a/y: predicted, not measured",
    )
    assert series.y[0] == pytest.approx(row["flops_alg"] / 4e9)
    assert "predicted 4.00 ms (3.00 to 5.00)" in series.text[0]
    assert "predicted to be bound by chain" in series.text[0]
    assert "at least" in series.text[0]


def test_what_is_kept_for_the_backward_pass_is_a_chart_of_ours_and_peers():
    rows = [static("a", name, T, **{"pass": "bwd"}) | {"static.kept_bytes": T * scale * 2**20}
            for name, scale in (("ours", 1), ("peer", 4), ("none", 0)) for T in (128, 256)]  # fmt: skip
    (group,), styles = prepared(run_of(rows))
    chart = kept(group, styles)
    assert [series.name for series in chart.series] == ["a/peer", "a/ours"]
    assert chart.series[1].y == (128.0, 256.0)
    assert "512 MiB kept, computed" in chart.series[0].text[0]
    assert "not measured" in chart.title
    (group,), styles = prepared(run_of([static("a", "ours", 128)]))
    assert kept(group, styles) is None


def test_floors_of_another_architecture_have_a_chart_of_their_own():
    run = run_of([record("a", "x", 128), static("a", "y", 128, arch="sm_90"), static("a", "y", 128, arch="sm_100")])
    (group,), styles = prepared(run)
    assert all(series.line for series in roofline(group, [run], styles).series)
    assert [chart.title for chart in floors(group, [run], styles)] == [
        "Floors, not measured: sm_100, NVIDIA H200",
        "Floors, not measured: sm_90, NVIDIA H200",
    ]
    h200 = on_h200()
    (group,), styles = prepared(h200)
    assert floors(group, [h200], styles) == []


def counted(T, ratio, name="x", **changes):
    """A record at a known place, whose counted bytes are `ratio` times the compulsory ones."""
    row = record("a", name, T, time_ms=1.0, **changes) | {"flops_alg": 6.4e9, "bytes_compulsory": 2e8}
    row |= {"intensity": 32.0, "tflops": 6.4}
    return row | ({"profile.dram_bytes": ratio * 2e8, "profile.dram_ratio": ratio} if ratio else {})


def test_counted_bytes_fill_a_marker_and_its_segment_is_what_was_not_compulsory():
    chart = drawn(run_of([counted(128, 2.0), counted(256, 4.0), counted(512, None)]))
    hollow, filled = chart.series
    assert (hollow.name, hollow.hollow, hollow.line) == ("a/x", True, True)
    assert (filled.name, filled.hollow, filled.line) == ("a/x: DRAM bytes counted", False, False)
    assert filled.style == hollow.style
    assert (filled.x, filled.y, filled.T) == ((16.0, 8.0), (6.4, 6.4), (128, 256))
    segments = [each for each in chart.ceilings if each.kind == "reference"]
    assert [(each.x, each.y, each.label) for each in segments] == [
        ((16.0, 32.0), (6.4, 6.4), ""),
        ((8.0, 32.0), (6.4, 6.4), ""),
    ]
    assert "400 MB counted at the memory bus, 2.00 times the compulsory bytes" in hollow.text[0]
    assert "counted" not in hollow.text[2]
    assert "16.0 FLOP per counted byte" in filled.text[0]
    assert chart.x.low < 8.0
    assert "from counted DRAM bytes" in chart.caption
    assert {note.text for note in chart.annotations} == {"T=128", "T=512"}


def test_the_renderers_take_the_counted_markers(tmp_path):
    from suite.reporting.renderers.picture import draw

    chart = drawn(run_of([counted(128, 2.0), counted(256, 4.0)]))
    draw(chart, tmp_path / "chart.png", ["footer"])
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    traces = {trace.get("name"): trace for trace in figure(chart)["data"]}
    assert traces["a/x"]["marker"]["symbol"].endswith("-open")
    assert not traces["a/x: DRAM bytes counted"]["marker"]["symbol"].endswith("-open")
    assert traces["a/x: DRAM bytes counted"]["mode"] == "markers"


def test_launches_of_a_case_are_one_counted_marker():
    rows = [counted(128, ratio) | {"launch": i} for i, ratio in enumerate((2.0, 4.0, 8.0))]
    (filled,) = [each for each in drawn(run_of(rows)).series if not each.hollow]
    assert filled.x == (8.0,)


def test_without_counts_nothing_is_said_of_them():
    chart = drawn(run_of([counted(128, None)]))
    assert len(chart.series) == 1
    assert "counted" not in chart.caption
    assert not [each for each in chart.ceilings if each.kind == "reference"]


def test_the_tables_have_counted_bytes_and_all_ceilings():
    from suite.reporting.data.casedata import columns
    from suite.reporting.data.frame import normalise
    from suite.reporting.renderers.tables import ceilings

    more = CEILINGS | {
        "l2": {"bytes": 2**24, "gbs": 5500.0, "low": 5400.0, "high": 5600.0},
        "special": {"function": "exp2", "gops": 3900.0},
        "launch": {"graph": {"us": 0.9}},
    }
    run = run_of([counted(128, 2.0), counted(256, None)], ceilings=more)
    table = {column["label"]: column for column in columns(normalise([run]), [run])}
    assert table["counted / compulsory"]["values"] == [2.0, None]
    assert table["DRAM counted, bytes"]["values"] == [4e8, None]
    assert table["DRAM counted, bytes"]["kind"] == "count"
    found = {what: measured for what, measured, _ in ceilings(run)}
    assert found["reads of 16 MiB in the last-level cache"] == "5,500 GB/s (5,400 to 5,600)"
    assert found["special function, exp2"] == "3,900 10^9/s"
    assert found["launch, graph"] == "0.900 us"
    earlier = run_of([counted(128, None)])
    assert len(ceilings(earlier)) == len(CEILINGS["copy"]) + len(CEILINGS["matmul"])
    assert "counted / compulsory" not in [column["label"] for column in columns(normalise([earlier]), [earlier])]


def test_two_runs_each_bring_their_named_roof():
    row = record("a", "x", 128, dtype="bfloat16") | {"tflops": 100.0}
    slower = H200["ceilings"] | {"matmul": {"bfloat16": {"tflops": 500.0}}}
    runs = [run_of([row], "one", **H200), run_of([row], "two", ceilings=slower)]
    (group,), styles = prepared(*runs)
    chart = roofline(group, runs, styles)
    flat = {each.label for each in chart.ceilings if each.label.startswith("matrix")}
    assert flat == {"matrix product: 720 TFLOP/s (one)", "matrix product: 500 TFLOP/s (two)"}
