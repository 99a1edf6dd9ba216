"""Time over a tunable such as the chunk size: the fastest value that was measured beside the one that is predicted.

The prediction is the static floor of the same case where this device's architecture was profiled, and else what its
executed FLOPs and compulsory bytes take at the measured ceilings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from suite.reporting.charts.model import Annotation, Chart, Series
from suite.reporting.charts.scales import figure, length, log_axis, place, plain
from suite.reporting.charts.series import Styles, along, hover, line, listed
from suite.reporting.data.crossings import at_the_roof
from suite.reporting.data.groups import MOST_LINES

if TYPE_CHECKING:
    from suite.reporting.data.frame import Run
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

# Lengths drawn of one implementation: the longest ones, where a chunk size matters most.
MOST_LENGTHS = 3


@dataclass(frozen=True)
class Swept:
    """One implementation at one T with several values of one tunable; predicted_ms has NaN where nothing is known."""

    tunable: str
    points: tuple[tuple[float, Point], ...]
    predicted_ms: tuple[float, ...]

    @property
    def T(self) -> int:
        return self.points[0][1].T

    @property
    def label(self) -> str:
        return self.points[0][1].label

    @property
    def best(self) -> float:
        """The value with the least time."""
        return min(self.points, key=lambda each: each[1].time_ms)[0]

    @property
    def predicted(self) -> float | None:
        """The value with the least predicted time; None where the prediction does not tell values apart."""
        known = [(time, value) for time, (value, _) in zip(self.predicted_ms, self.points, strict=True) if time == time]
        if len(known) < len(self.points) or len({time for time, _ in known}) < 2:
            return None
        return min(known)[1]


def swept(group: Group, runs: Sequence[Run]) -> dict[str, list[Swept]]:
    """By tunable: what was measured at two values or more, all other tunables alike, the longest lengths last."""
    found: dict[str, list[Swept]] = {}
    for name in sorted({name for point in group.cases for name, _ in point.settings}):
        alike: dict[tuple[Any, ...], list[tuple[float, Point]]] = {}
        for point in group.cases:
            value = dict(point.settings).get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
                others = tuple(str(each) for each in point.settings if each[0] != name)
                alike.setdefault((point.label, point.run, others, point.T), []).append((float(value), point))
        lines = [_swept(name, each, group, runs) for each in alike.values() if len({value for value, _ in each}) > 1]
        if lines:
            found[name] = _longest(lines)
    return found


def _swept(name: str, found: Iterable[tuple[float, Point]], group: Group, runs: Sequence[Run]) -> Swept:
    points = tuple(sorted(found, key=lambda each: each[0]))
    return Swept(name, points, tuple(_predicted(point, group, runs) for _, point in points))


def _predicted(point: Point, group: Group, runs: Sequence[Run]) -> float:
    run = runs[point.run] if point.run < len(runs) else None
    arch = run.part("device").get("arch") if run else None
    for floor in group.floors:
        if (floor.name, floor.T, floor.tunables, floor.arch) == (point.name, point.T, point.tunables, arch):
            return floor.predicted_ms if floor.is_predicted else floor.time_ms
    return at_the_roof(point, group.setting.dtype, run) if run else math.nan


def _longest(lines: list[Swept]) -> list[Swept]:
    kept = []
    for label in dict.fromkeys(each.label for each in lines):
        kept += sorted((each for each in lines if each.label == label), key=lambda each: each.T)[-MOST_LENGTHS:]
    return kept


def sweeps(group: Group, runs: Sequence[Run], styles: Styles) -> list[Chart]:
    """A chart a tunable that was swept."""
    return [_chart(group, name, lines, styles) for name, lines in swept(group, runs).items()]


def _chart(group: Group, name: str, lines: Sequence[Swept], styles: Styles) -> Chart:
    measured = [_measured(group, each, styles, lines) for each in lines]
    computed = [_computed(each, one) for each, one in zip(lines, measured, strict=True) if each.predicted is not None]
    everything = [*measured, *computed]
    values = sorted({value for each in lines for value, _ in each.points})
    ticks = tuple((value, plain(value)) for value in values[:: math.ceil(len(values) / 8)])
    x = replace(log_axis(name, values, pad=0.12), ticks=ticks)
    y = log_axis("time, ms", [value for each in everything for value in (*each.y, *each.low, *each.high)])
    shown = [(each, one) for each, one in zip(lines, measured, strict=True) if one.owner.shown]
    notes = [note for each, one in shown for note in _optima(each, one)]
    return Chart(
        kind="sweep",
        slug=f"sweep_{name}_{group.setting.slug}",
        title=f"Time against {name}",
        subtitle=group.setting.title,
        x=x,
        y=y,
        series=tuple(everything),
        annotations=tuple(place(notes, x, y, along(everything))),
        caption=f"A ring is the fastest {name} that was measured. Dashed: time predicted from the static floor of the "
        "same launch, or from executed FLOPs and the measured ceilings.",
        alt=f"Time against {name}. {listed([_told(each) for each in lines])}",
    )


def _measured(group: Group, each: Swept, styles: Styles, lines: Sequence[Swept]) -> Series:
    """The times of one line. Of many lines the shorter lengths hide until their operator is selected."""
    value_of = {point.tunables: value for value, point in each.points}
    points = [point for _, point in each.points]
    banded = all(point.p20_ms > 0 and point.p80_ms > 0 for point in points)
    longest = max(other.T for other in lines if other.label == each.label) == each.T
    found = line(
        group,
        points,
        styles,
        lambda p: value_of[p.tunables],
        lambda p: p.time_ms,
        hover,
        name=f"{each.label}, T = {length(each.T)}",
        low=tuple(p.p20_ms for p in points) if banded else (),
        high=tuple(p.p80_ms for p in points) if banded else (),
    )
    return found if longest or len(lines) <= MOST_LINES else replace(found, owner=replace(found.owner, shown=False))


def _computed(each: Swept, measured: Series) -> Series:
    text = tuple(f"{measured.name}\npredicted: {figure(time)} ms" for time in each.predicted_ms)
    return replace(
        measured,
        y=each.predicted_ms,
        text=text,
        low=(),
        high=(),
        hollow=True,
        listed=False,
        name=f"{measured.name}: predicted",
        style=replace(measured.style, dash="dash"),
    )


def _optima(each: Swept, measured: Series) -> list[Annotation]:
    """A ring at the fastest value measured, and a label at the one that was predicted."""
    of = (each.label,)
    time = dict(zip((value for value, _ in each.points), measured.y, strict=True))
    found = [Annotation(each.best, time[each.best], plain(each.best), ring=True, of=of)]
    if each.predicted is not None:
        at = dict(zip((value for value, _ in each.points), each.predicted_ms, strict=True))
        found.append(Annotation(each.predicted, at[each.predicted], f"predicted {plain(each.predicted)}", of=of))
    return found


def _told(each: Swept) -> str:
    said = f"{each.label} at T = {each.T:,}: fastest at {plain(each.best)}"
    return said if each.predicted is None else f"{said}, predicted {plain(each.predicted)}"
