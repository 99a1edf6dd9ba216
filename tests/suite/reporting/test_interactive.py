import json

import plotly.graph_objects as go
import pytest

from suite.reporting.frame import tidy
from suite.reporting.groups import gather
from suite.reporting.interactive import figure, plain
from suite.reporting.palette import assign
from suite.reporting.rendering import charts_of
from tests.suite.reporting.synthetic import on_h200, record, records, run_of, static


def charts(run):
    rows = tidy([run])
    styles = assign((row["name"] for row in rows), (row["variant"] for row in rows))
    return [chart for group in gather(rows) for chart in charts_of(group, [run], styles, None)]


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
        drawn = figure(chart)
        traces = [trace for trace in drawn["data"] if "hovertemplate" in trace]
        assert len(traces) == len(chart.series)
        for trace, series in zip(traces, chart.series, strict=True):
            assert (tuple(trace["x"]), tuple(trace["y"])) == (series.x, series.y)
            assert trace["line"]["color"] == series.style.colour
            assert trace["marker"]["symbol"].removesuffix("-open") == series.style.marker
            assert len(trace["text"]) == len(series.x)
        assert drawn["layout"]["xaxis"]["type"] == "log"
        assert 10 ** drawn["layout"]["xaxis"]["range"][0] == pytest.approx(chart.x.low)
        assert len(drawn["layout"]["annotations"]) == len(chart.ceilings)


def test_the_band_goes_along_the_upper_side_and_back_along_the_lower_one(time_chart):
    (band,) = [trace for trace in figure(time_chart)["data"] if trace.get("fill") == "toself"]
    (series,) = time_chart.series
    assert band["x"] == [128, 256, 256, 128]
    assert band["y"] == [*series.high, *reversed(series.low)]


def test_marks_of_plotlys_own_language_are_escaped():
    assert plain("<b>a</b> & b\nc") == "&lt;b&gt;a&lt;/b&gt; &amp; b<br>c"
    (chart, *_) = charts(run_of([record("<i>", "x", 128)]))
    names = [trace["name"] for trace in figure(chart)["data"] if "hovertemplate" in trace]
    assert names == ["&lt;i&gt;/x"]
