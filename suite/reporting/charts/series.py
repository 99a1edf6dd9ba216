"""What charts have in common: lines from points, hover texts, the order of legends, alternative texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from suite.reporting.charts.model import Owner, Series, Style
from suite.reporting.charts.scales import figure

if TYPE_CHECKING:
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Floor, Point

Styles = Mapping[tuple[str, str], Style]


def line(
    group: Group,
    points: Sequence[Point],
    styles: Styles,
    x: Callable[[Point], float],
    y: Callable[[Point], float],
    text: Callable[[Point], str],
    **more: Any,
) -> Series:
    """One implementation's points as a series. `more`: other fields of Series, or another name for the legend."""
    first = points[0]
    given: dict[str, Any] = {"name": first.label, "style": styles[first.name, first.variant]} | more
    return Series(
        x=tuple(float(x(point)) for point in points),
        y=tuple(float(y(point)) for point in points),
        text=tuple(text(point) for point in points),
        owner=owner(group, first),
        **given,
    )


def owner(group: Group, point: Point) -> Owner:
    """Whose a point is, and whether a crowded chart draws it before a reader selects."""
    return Owner(point.label, point.operator, point.machine, point.quadratic, point.label in group.shown)


def named(styles: Styles, name: str) -> Style:
    """An implementation's look, in its first variant."""
    return next(style for (each, _), style in styles.items() if each == name)


def floor_owner(group: Group, floor: Floor) -> Owner:
    """Whose a floor is: it comes from no machine, so no selection of machines hides it."""
    measured = {points[0].name for points in group.lines.values()}
    hidden = floor.name in measured and floor.name not in {label.partition(" · ")[0] for label in group.shown}
    return Owner(floor.name, floor.operator, shown=not hidden)


def hover(point: Point, *facts: str) -> str:
    """What hovering says of a point: name, T, tunables, time with its band, and facts."""
    band = f" (p20 {figure(point.p20_ms)}, p80 {figure(point.p80_ms)})" if math.isfinite(point.p20_ms) else ""
    head = [point.label, f"T = {point.T:,}" + (f", {point.tunables}" if point.tunables else "")]
    return "\n".join([*head, f"{figure(point.time_ms)} ms{band}", *facts])


def by_last(series: Iterable[Series]) -> tuple[Series, ...]:
    """Series ordered as their lines end, highest first, so that a legend reads like the chart."""
    return tuple(sorted(series, key=lambda each: (-each.x[-1], -each.y[-1])))


def along(series: Iterable[Series], steps: int = 8) -> list[tuple[float, float]]:
    """The points of lines, and places between them that are evenly spaced on logarithmic axes."""
    found = []
    for each in series:
        points = list(zip(each.x, each.y, strict=True))
        found += points
        for (x0, y0), (x1, y1) in pairwise(points) if each.line else ():
            parts = [step / steps for step in range(1, steps)]
            found += [(x0 * (x1 / x0) ** part, y0 * (y1 / y0) ** part) for part in parts]
    return found


def listed(parts: Sequence[str], most: int = 8) -> str:
    """Parts of a sentence, of which the first few are told and the others counted."""
    more = f"; and {len(parts) - most} more" if len(parts) > most else ""
    return f"{'; '.join(parts[:most])}{more}."


def alt_text(title: str, unit: str, series: Sequence[Series]) -> str:
    """A chart over T in words, for readers who do not see it."""
    parts = [
        f"{each.name}: {figure(each.y[0])} {unit} at T = {each.x[0]:,.0f}"
        + (f" to {figure(each.y[-1])} {unit} at T = {each.x[-1]:,.0f}" if len(each.x) > 1 else "")
        for each in series
    ]
    return f"{title} against T on logarithmic axes. {listed(parts)}"


def length_label(group: Group) -> str:
    """What T is in this group."""
    return "context length T" if group.setting.pass_ == "decode" else "sequence length T, tokens"
