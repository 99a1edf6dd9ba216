"""Accuracy against speed: the error of each implementation over its time. A line joins the Pareto-optimal ones."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from suite.reporting.charts.model import Annotation, Axis, Ceiling, Chart, Series
from suite.reporting.charts.scales import figure, log_axis, place
from suite.reporting.charts.series import Styles, hover, line, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point


def pareto(group: Group, styles: Styles) -> Chart | None:
    """Error against time at the T that most implementations share, the longest of several; None below two points."""
    known = [point for point in group.points if point.error > 0]
    counts = Counter(point.T for point in known)
    T = max(counts, key=lambda each: (counts[each], each), default=0)
    points = sorted((point for point in known if point.T == T), key=lambda point: point.time_ms)
    if len(points) < 2:
        return None
    series = tuple(_dot(group, point, styles) for point in points)
    x = log_axis("time, ms", [point.time_ms for point in points])
    y = log_axis("worst error, relative RMS", [point.error for point in points], decades=1)
    best = frontier(points)
    return Chart(
        kind="pareto",
        slug=f"pareto_{group.setting.slug}",
        title=f"Accuracy against speed at T = {T:,}",
        subtitle=group.setting.title,
        x=x,
        y=y,
        series=series,
        ceilings=tuple(_steps(best)),
        annotations=tuple(_names(group, best, series, x, y)),
        caption="Lower is more accurate, left is faster. The line joins the Pareto-optimal implementations. An error "
        "is RMS error over RMS of the float64 oracle, the largest of all outputs and gradients.",
        alt=f"Error against time at T = {T:,}. "
        + listed([f"{p.label}: {figure(p.time_ms)} ms, error {p.error:.1e}" for p in points])
        + f" Pareto-optimal: {', '.join(point.label for point in best)}.",
    )


def frontier(points: Sequence[Point]) -> list[Point]:
    """Of points in the order of time, those that none before them is as exact as (the Pareto frontier)."""
    best: list[Point] = []
    for point in points:
        if not best or point.error < best[-1].error:
            best.append(point)
    return best


def _dot(group: Group, point: Point, styles: Styles) -> Series:
    return line(
        group,
        [point],
        styles,
        lambda p: p.time_ms,
        lambda p: p.error,
        lambda p: hover(p, f"error {p.error:.2e}"),
        left=(point.p20_ms,) if point.p20_ms > 0 else (),
        right=(point.p80_ms,) if point.p20_ms > 0 else (),
        line=False,
    )


def _steps(best: Sequence[Point]) -> list[Ceiling]:
    """The frontier as stairs: nothing was measured between its points."""
    found = []
    for one, other in itertools.pairwise(best):
        found.append(Ceiling("", (one.time_ms, other.time_ms), (one.error, one.error), "reference"))
        found.append(Ceiling("", (other.time_ms, other.time_ms), (other.error, one.error), "reference"))
    return found


def _names(group: Group, best: Sequence[Point], series: Sequence[Series], x: Axis, y: Axis) -> list[Annotation]:
    wanted = [Annotation(p.time_ms, p.error, p.label, of=(p.label,)) for p in best if p.label in group.shown]
    return place(wanted, x, y, [(each.x[0], each.y[0]) for each in series])
