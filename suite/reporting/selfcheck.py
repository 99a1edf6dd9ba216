"""What a report must never show: figures above the roofline, charts without data, points outside of their axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from suite.reporting.charts.against_length import QUANTITIES
from suite.reporting.charts.scales import figure, position
from suite.reporting.data.frame import clean
from suite.roof import IMPLAUSIBLE

if TYPE_CHECKING:
    from suite.reporting.charts.model import Axis, Chart
    from suite.reporting.data.content import Panel
    from suite.reporting.data.frame import Row

# How far outside of its axis a point may lie by rounding, as a part of the axis.
NEAR = 1e-6


def faults(rows: Sequence[Row], panels: Sequence[Panel]) -> list[str]:
    """What is wrong with a report, a line each; empty when it may be shown."""
    return [*above_the_roof(rows), *_empty(panels), *_lacking(panels)]


def above_the_roof(rows: Sequence[Row]) -> list[str]:
    """Timed records that are ok, and above what the device can do."""
    ok = (row for row in rows if row["kind"] == "timed" and row["status"] == "ok")
    return [
        f"{clean(row['case_id'], 120)} is ok with {figure(row['roof_pct'])} % of the roofline: more than "
        f"{IMPLAUSIBLE:.0%} means wrong FLOPs, a wrong shape or wrong timing"
        for row in ok
        if row["roof_pct"] > 100 * IMPLAUSIBLE
    ]


def _empty(panels: Sequence[Panel]) -> list[str]:
    return [
        f"the chart '{chart.title}' ({chart.subtitle}) {wrong}"
        for panel in panels
        for chart in panel.charts
        if (wrong := wrong_with(chart))
    ]


def wrong_with(chart: Chart) -> str:
    """Why a chart may not be shown; empty when it may."""
    if chart.heat is not None:
        return "" if any(math.isfinite(v) for row in chart.heat.rows for v in row.values) else "has no data"
    points = [(x, y) for series in chart.series for x, y in zip(series.x, series.y, strict=True)]
    if not points:
        return "has no data"
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        return "has a point that is not a finite number"
    outside = _outside(chart.x, (x for x, _ in points)) or _outside(chart.y, (y for _, y in points))
    return "has a point outside of its axes" if outside else ""


def _outside(axis: Axis, values: Iterable[float]) -> bool:
    return any(not -NEAR <= position(axis, value) <= 1 + NEAR for value in values)


def _lacking(panels: Sequence[Panel]) -> list[str]:
    """Settings whose cases have a figure that no chart shows."""
    found = []
    for panel in panels:
        kinds = {chart.kind for chart in panel.charts}
        for quantity in QUANTITIES:
            has = any(getattr(point, quantity.field) > 0 for point in panel.group.points)
            if has and quantity.serves(panel.group.setting.pass_) and quantity.kind not in kinds:
                found.append(f"{panel.group.setting.title} has times but no {quantity.kind} chart")
    return found
