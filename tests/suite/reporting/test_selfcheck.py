from dataclasses import replace

import pytest

from suite.reporting.data.content import Panel
from suite.reporting.data.frame import normalise
from suite.reporting.rendering import prepare
from suite.reporting.selfcheck import faults, wrong_with
from tests.suite.reporting.synthetic import on_h200, record, records, run_of


@pytest.mark.parametrize("run", [run_of(records()), on_h200(), run_of([])], ids=["cpu", "gpu", "empty"])
def test_a_right_report_passes(run):
    content = prepare([run])
    assert faults(content.rows, content.panels) == []


def test_more_than_the_roof_fails_and_the_limit_itself_does_not():
    rows = normalise([run_of([record("a", "x", 128, roof_pct=105.0), record("a", "x", 256, roof_pct=105.1)])])
    (fault,) = faults(rows, [])
    assert "_T256_" in fault


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"series": ()}, "has no data"),
        ({"y": (float("nan"), 1.0)}, "not a finite number"),
        ({"y": (1e9, 1.0)}, "outside of its axes"),
    ],
)
def test_a_chart_that_shows_nothing_or_something_wrong_is_named(time_chart, changes, words):
    (line,) = time_chart.series
    series = changes.get("series", (replace(line, y=changes.get("y", line.y)),))
    broken = replace(time_chart, series=series)
    assert words in wrong_with(broken)
    assert wrong_with(time_chart) == ""


def test_a_chart_that_is_lacking_is_named():
    content = prepare([run_of([record("a", "x", 128)])])
    (panel,) = content.panels
    without = Panel(panel.group, tuple(chart for chart in panel.charts if chart.kind != "memory"))
    (fault,) = faults(content.rows, [without])
    assert "no memory chart" in fault
