"""Durations before the first timed call: compiling and autotuning, one row per implementation."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from suite.reporting.charts.model import Chart, Series
from suite.reporting.charts.scales import figure, log_axis, rows_axis
from suite.reporting.charts.series import Styles, line, listed, owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

WORDS = {"compile_s": "first calls, with compiling", "tuning_s": "autotuning"}


def durations(group: Group, styles: Styles) -> Chart | None:
    """Seconds of the first calls and of autotuning, median over lengths with the least and most; None without any."""
    lines = {label: points for label, points in group.lines.items() if any(p.compile_s > 0 for p in points)}
    if not lines:
        return None
    ranked = sorted(lines.values(), key=lambda points: (_seconds(points, "compile_s") or (0.0,))[-1])
    series = [
        _dot(group, points, place, field, styles)
        for place, points in enumerate(ranked)
        for field in WORDS
        if _seconds(points, field)
    ]
    values = [value for each in series for value in (*each.left, *each.right)]
    return Chart(
        kind="durations",
        slug=f"durations_{group.setting.slug}",
        title="Compiling and tuning",
        subtitle=group.setting.title,
        x=log_axis("seconds", values, decades=1),
        y=rows_axis("", [points[0].label for points in ranked]),
        series=tuple(series),
        rows=tuple(owner(group, points[0]) for points in ranked),
        caption="Filled: seconds of the first two calls, which compile or load kernels. Hollow: seconds spent on "
        "trying configurations. Markers are medians over lengths; bars go from the minimum to the maximum.",
        alt="Seconds before the first timed call. " + listed([f"{s.name}: {figure(s.x[0])} s" for s in series]),
    )


def _seconds(points: Sequence[Point], field: str) -> tuple[float, float, float] | None:
    """Least, median and most over lengths, of those above 0."""
    known = [value for point in points if (value := getattr(point, field)) > 0]
    return (min(known), median(known), max(known)) if known else None


def _dot(group: Group, points: Sequence[Point], place: int, field: str, styles: Styles) -> Series:
    least, middle, most = _seconds(points, field) or (0.0, 0.0, 0.0)
    return line(
        group,
        points[:1],
        styles,
        lambda _: middle,
        lambda _: place,
        lambda p: f"{p.label}\n{WORDS[field]}: {figure(middle)} s ({figure(least)} to {figure(most)})",
        name=f"{points[0].label}: {WORDS[field]}",
        left=(least,),
        right=(most,),
        hollow=field == "tuning_s",
        listed=False,
        line=False,
    )
