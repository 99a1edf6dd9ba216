import json

import plotly.graph_objects as go
import pytest

from suite.reporting.renderers.interactive import figure, plain, ratio
from suite.reporting.rendering import panel_of
from tests.suite.reporting.synthetic import on_h200, prepared, record, records, run_of, static


def charts(run):
    groups, styles = prepared(run)
    return [chart for group in groups for chart in panel_of(group, [run], styles, None).charts]


@pytest.mark.parametrize("run", [on_h200(), run_of([*records(), static("linear_attention", "triton_chunk", 128)])])
def test_plotly_accepts_every_property_of_every_chart(run):
    found = charts(run)
    assert len(found) >= 6
    for chart in found:
        drawn = figure(chart)
        go.Figure(drawn)
        assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn


def test_what_the_description_says_is_what_is_drawn():
    for chart in charts(on_h200()):
        if chart.heat:
            continue
        drawn = figure(chart)
        traces = [trace for trace in drawn["data"] if "hovertemplate" in trace]
        assert len(traces) == len(chart.series)
        for trace, series in zip(traces, chart.series, strict=True):
            assert trace["x"] == pytest.approx(series.x, rel=1e-3)
            assert trace["y"] == pytest.approx(series.y, rel=1e-3)
            assert trace["line"]["color"] == series.style.colour
            assert trace["meta"]["line"] == series.owner.label
            assert trace["marker"]["symbol"].removesuffix("-open") == series.style.marker
            assert len(trace["hovertext"]) == len(series.x)
        assert drawn["layout"]["xaxis"]["type"] == "log"
        assert 10 ** drawn["layout"]["xaxis"]["range"][0] == pytest.approx(chart.x.low)
        assert len(drawn["layout"]["annotations"]) == sum(bool(ceiling.label) for ceiling in chart.ceilings)


def test_a_heat_map_is_coloured_by_the_logarithm_and_says_the_ratio():
    (chart,) = [chart for chart in charts(on_h200()) if chart.heat]
    (trace,) = [trace for trace in figure(chart)["data"] if trace["type"] == "heatmap"]
    (row,) = chart.heat.rows
    assert [2**z for z in trace["z"][0]] == pytest.approx(row.values, rel=1e-3)
    assert trace["text"][0] == [ratio(value) for value in row.values]
    assert trace["zmin"] == -trace["zmax"]


def test_intervals_around_x_keep_their_ends():
    chart = next(chart for chart in charts(run_of(records())) if chart.kind == "crossover")
    series = next(series for series in chart.series if series.left)
    trace = next(trace for trace in figure(chart)["data"] if "error_x" in trace)
    ends = [x - minus for x, minus in zip(trace["x"], trace["error_x"]["arrayminus"], strict=True)]
    assert ends == pytest.approx(series.left, rel=1e-2)


def test_the_band_goes_along_the_upper_side_and_back_along_the_lower_one(time_chart):
    (band,) = [trace for trace in figure(time_chart)["data"] if trace.get("fill") == "toself"]
    (series,) = time_chart.series
    assert band["x"] == [128, 256, 256, 128]
    assert band["y"] == pytest.approx([*series.high, *reversed(series.low)], rel=1e-3)


def test_marks_of_plotlys_own_language_are_escaped():
    assert plain("<b>a</b> & b\nc") == "&lt;b&gt;a&lt;/b&gt; &amp; b<br>c"
    (chart, *_) = charts(run_of([record("<i>", "x", 128)]))
    names = [trace["name"] for trace in figure(chart)["data"] if "hovertemplate" in trace]
    assert names == ["&lt;i&gt;/x"]
