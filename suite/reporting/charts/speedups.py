"""How many times as fast as a baseline: lines over T, and a heat map of the same ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.reporting.charts.model import Axis, Ceiling, Chart, Heat, HeatRow, Series
from suite.reporting.charts.scales import figure, length, length_axis, log_axis, rows_axis
from suite.reporting.charts.series import Styles, alt_text, by_last, hover, length_label, line, listed, owner
from suite.reporting.data.frame import clean

if TYPE_CHECKING:
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

MOST_COLUMNS = 16


@dataclass(frozen=True)
class Ratios:
    """Each line's speed-up over a baseline by T, best at the longest T first."""

    baseline: str
    lines: tuple[tuple[tuple[Point, float], ...], ...]


def baseline_of(group: Group, asked: str | None) -> str | None:
    """The implementation that others are compared with: the one asked for, or, where none was, what a user has now.

    That is a quadratic implementation before a linear one, a peer or plain PyTorch before ours, then the one with most
    lengths, then the fastest at the longest. None when the one asked for has no time in this group.
    """
    lines = group.lines
    if asked is not None:
        return asked if any(points[0].name == asked for points in lines.values()) else None

    def rank(points: list[Point]) -> tuple[bool, bool, int, float]:
        return points[0].quadratic, points[0].origin != "ours", len(points), -points[-1].time_ms

    return max(lines.values(), key=rank)[0].name if lines else None


def ratios_of(group: Group, asked: str | None) -> Ratios | None:
    """The baseline's time over each implementation's, at each T that both have in one run; None without any."""
    name = baseline_of(group, asked)
    if name is None:
        return None
    base = {(p.run, p.T): p.time_ms for p in group.points if p.name == name and _plain(p, group, name)}
    lines = []
    for points in group.lines.values():
        shared = tuple((p, base[p.run, p.T] / p.time_ms) for p in points if (p.run, p.T) in base)
        if shared and points[0].name != name:
            lines.append(shared)
    lines.sort(key=lambda shared: (-shared[-1][0].T, -shared[-1][1]))
    return Ratios(name, tuple(lines)) if lines else None


def _plain(point: Point, group: Group, name: str) -> bool:
    """Whether a point is of its implementation's first variant in that run: the one at default axes, if measured."""
    return point.variant == min(p.variant for p in group.points if p.name == name and p.run == point.run)


def speedup(group: Group, asked: str | None, styles: Styles) -> Chart | None:
    """Speed-up over the baseline against T; None where nothing can be compared."""
    found = ratios_of(group, asked)
    if found is None:
        return None
    shown = clean(found.baseline)
    series = by_last(_line(group, shared, styles, shown) for shared in found.lines)
    x = length_axis(length_label(group), (value for each in series for value in each.x))
    # The reference's label goes to the end at which lines are farther from it.
    first, last = (min(abs(math.log(each.y[i])) for each in series) for i in (0, -1))
    reference = Ceiling(shown, (x.low, x.high), (1.0, 1.0), "reference", at_end=last > first)
    return Chart(
        kind="speedup",
        slug=f"speedup_{group.setting.slug}",
        title=f"Speed-up over {shown}",
        subtitle=group.setting.title,
        x=x,
        y=log_axis("speed-up, times", [1.0, *(value for each in series for value in each.y)]),
        series=series,
        ceilings=(reference,),
        caption=f"Time of {shown}{_chosen(asked)} over that of each implementation at the same T. Above 1 is faster.",
        alt=alt_text(f"Speed-up over {shown}", "times", series),
    )


def _line(group: Group, shared: tuple[tuple[Point, float], ...], styles: Styles, shown: str) -> Series:
    ratio = {point.T: value for point, value in shared}
    return line(
        group,
        [point for point, _ in shared],
        styles,
        lambda p: p.T,
        lambda p: ratio[p.T],
        lambda p: hover(p, f"{figure(ratio[p.T])} times as fast as {shown}"),
    )


def _chosen(asked: str | None) -> str:
    return "" if asked else " (chosen from the data: choose another with --baseline)"


def heatmap(group: Group, asked: str | None) -> Chart | None:
    """The same ratios as a heat map: implementations down, T across; None where nothing can be compared."""
    found = ratios_of(group, asked)
    if found is None:
        return None
    shown = clean(found.baseline)
    lengths = sorted({point.T for shared in found.lines for point, _ in shared})[-MOST_COLUMNS:]
    rows = tuple(_row(group, shared, lengths, shown) for shared in found.lines)
    names = tuple(length(T) for T in lengths)
    return Chart(
        kind="heatmap",
        slug=f"heatmap_{group.setting.slug}",
        title=f"Speed-up over {shown}, by length",
        subtitle=group.setting.title,
        x=Axis(length_label(group), -0.5, len(names) - 0.5, tuple(enumerate(names)), log=False),
        y=rows_axis("", [row.owner.label for row in rows]),
        heat=Heat(names, rows),
        rows=tuple(row.owner for row in rows),
        caption=f"Times as fast as {shown}{_chosen(asked)}. Blue is faster, orange is slower, empty was not measured.",
        alt=f"Speed-up over {shown} by implementation and T. " + listed([_best(row, names) for row in rows]),
    )


def _row(group: Group, shared: tuple[tuple[Point, float], ...], lengths: list[int], shown: str) -> HeatRow:
    by_T = {point.T: (point, ratio) for point, ratio in shared}
    known = [by_T.get(T) for T in lengths]
    return HeatRow(
        owner(group, shared[0][0]),
        tuple(each[1] if each else math.nan for each in known),
        tuple(hover(each[0], f"{figure(each[1])} times as fast as {shown}") if each else "" for each in known),
    )


def _best(row: HeatRow, names: tuple[str, ...]) -> str:
    known = [(value, name) for value, name in zip(row.values, names, strict=True) if value == value]
    value, name = max(known)
    return f"{row.owner.label}: at most {figure(value)} times, at T = {name}"
