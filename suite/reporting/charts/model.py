"""Charts as data: what is drawn, decided once, before any renderer is asked.

A renderer (picture, interactive) turns a `Chart` into pixels and decides nothing about its content: series, ranges,
ticks, label places, caption and the text for a reader who does not see the chart are all here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Anchor = Literal["right", "left", "above", "below", "above right", "below right", "above left", "below left"]
CeilingKind = Literal["measured", "datasheet", "reference"]

MARKERS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "star",
    "hexagon",
    "pentagon",
    "x",
    "cross",
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


@dataclass(frozen=True)
class Style:
    """How an implementation looks in every chart of a report: colour (on light and on dark ground), marker, dash."""

    colour: str
    dark: str
    marker: str
    dash: str = "solid"


@dataclass(frozen=True)
class Axis:
    """An axis with its range and ticks in data units; `log` says whether its scale is logarithmic.

    names: the ticks are names of rows, not figures
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = True
    names: bool = False


@dataclass(frozen=True)
class Owner:
    """Whose figures these are, for a reader who selects: label, operator, machine.

    quadratic: kept beside the lines of an operator that a reader selects
    shown:     drawn before a reader selects, and in a picture; in a crowded chart only the fastest are
    """

    label: str = ""
    operator: str = ""
    machine: str = ""
    quadratic: bool = False
    shown: bool = True


@dataclass(frozen=True)
class Series:
    """Points of one implementation, in the order of x or of T.

    name:        what the legend says; series of one owner hide and show together
    low, high:   the band around y, or empty
    left, right: the interval around x, or empty
    T:           the lengths the points were measured at, where x is none
    text:        what hovering over each point says; lines are separated by newlines
    line:        whether the points are joined
    hollow:      whether markers are outlines
    listed:      whether the legend lists it
    last_only:   whether only the last point has a marker
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    text: tuple[str, ...]
    owner: Owner = Owner()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    left: tuple[float, ...] = ()
    right: tuple[float, ...] = ()
    T: tuple[int, ...] = ()
    line: bool = True
    hollow: bool = False
    listed: bool = True
    last_only: bool = False


@dataclass(frozen=True)
class Ceiling:
    """A straight segment that bounds or refers, with its label on it. `of`: the line that it belongs to, if any."""

    label: str
    x: tuple[float, float]
    y: tuple[float, float]
    kind: CeilingKind
    above: bool = True
    at_end: bool = False
    of: str = ""


@dataclass(frozen=True)
class Annotation:
    """A short text beside a point; `ring` draws a small circle at the point itself.

    of: the labels of the lines that it tells of: it hides with any of them
    """

    x: float
    y: float
    text: str
    anchor: Anchor = "right"
    style: Style | None = None
    ring: bool = False
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map: whose it is, and a value and a text a column; NaN where there is none."""

    owner: Owner
    values: tuple[float, ...]
    text: tuple[str, ...]


@dataclass(frozen=True)
class Heat:
    """A heat map of ratios: columns by name, rows from the top. 1 has no colour; above is better."""

    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]


@dataclass(frozen=True)
class Chart:
    """One chart, renderer-neutral.

    kind:    a word for what it shows: time, memory, roofline, …
    slug:    unique in a report, and safe as a file name
    alt:     what the chart shows, computed from its data, for readers who do not see it
    heat:    drawn instead of series
    rows:    where y has names: whose row each is
    """

    kind: str
    slug: str
    title: str
    subtitle: str
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    caption: str = ""
    alt: str = ""
    heat: Heat | None = None
    rows: tuple[Owner, ...] = ()


def as_shown(chart: Chart) -> Chart:
    """What a chart shows before a reader selects: hidden series and rows are gone, and their places closed up."""
    series = [each for each in chart.series if each.owner.shown]
    hidden = {each.owner.label for each in chart.series} - {each.owner.label for each in series}
    notes = [note for note in chart.annotations if not hidden.intersection(note.of)]
    ceilings = tuple(each for each in chart.ceilings if each.of not in hidden)
    if not chart.rows:
        return replace(chart, series=tuple(series), annotations=tuple(notes), ceilings=ceilings)
    kept = [i for i, owner in enumerate(chart.rows) if owner.shown]
    place = {row: i for i, row in enumerate(kept)}
    moved = [replace(each, y=tuple(y - round(y) + place[round(y)] for y in each.y)) for each in series]
    notes = [replace(note, y=float(place[round(note.y)])) for note in notes if round(note.y) in place]
    ticks = tuple((i, chart.y.ticks[row][1]) for i, row in enumerate(kept))
    heat = replace(chart.heat, rows=tuple(chart.heat.rows[row] for row in kept)) if chart.heat else None
    y = replace(chart.y, low=len(kept) - 0.5, ticks=ticks)
    rows = tuple(chart.rows[row] for row in kept)
    return replace(chart, y=y, series=tuple(moved), annotations=tuple(notes), heat=heat, rows=rows)
