"""Charts as data: what is drawn, decided once, before any renderer is asked.

A renderer (png, interactive) turns a `Chart` into pixels and decides nothing about its content: series, ranges, ticks,
label places, caption and the text for a reader who does not see the chart are all here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Anchor = Literal["right", "left", "above", "below", "above right", "below right", "above left", "below left"]
CeilingKind = Literal["measured", "datasheet", "reference"]

MARKERS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon", "pentagon", "x", "cross",
)  # fmt: skip
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
    """An axis with its range and ticks in data units; `log` says whether its scale is logarithmic."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = True


@dataclass(frozen=True)
class Series:
    """Points of one implementation, in the order of x or of T.

    low, high: the band around y, or empty
    T:         the lengths the points were measured at, where x is none
    text:      what hovering over each point says; lines are separated by newlines
    line:      whether the points are joined
    hollow:    whether markers are outlines
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style
    text: tuple[str, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    T: tuple[int, ...] = ()
    line: bool = True
    hollow: bool = False


@dataclass(frozen=True)
class Ceiling:
    """A straight segment that bounds or refers, with its label on it."""

    label: str
    x: tuple[float, float]
    y: tuple[float, float]
    kind: CeilingKind
    above: bool = True
    at_end: bool = False


@dataclass(frozen=True)
class Annotation:
    """A short text beside a point; `ring` draws a small circle at the point itself."""

    x: float
    y: float
    text: str
    anchor: Anchor = "right"
    style: Style | None = None
    ring: bool = False


@dataclass(frozen=True)
class Chart:
    """One chart, renderer-neutral.

    kind:    time, memory, tflops, tokens, gbs, speedup, roofline or floors
    slug:    unique in a report, and safe as a file name
    alt:     what the chart shows, computed from its data, for readers who do not see it
    """

    kind: str
    slug: str
    title: str
    subtitle: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    ceilings: tuple[Ceiling, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    caption: str = ""
    alt: str = ""
