"""Draws a chart as PNG, SVG or PDF, with matplotlib: what a crowded chart shows before a reader selects."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from suite.reporting.charts.model import as_shown
from suite.reporting.renderers.interactive import FULL, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from suite.reporting.charts.model import Annotation, Axis, Ceiling, Chart, Heat, Series

FORMATS = ("png", "svg", "pdf")
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "star": "*",
    "hexagon": "h",
    "pentagon": "p",
    "x": "X",
    "cross": "P",
}
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3))}
CEILINGS = {"measured": ("-", "#333333"), "datasheet": ("--", "#777777"), "reference": ("-", "#999999")}
ANCHORS = {
    "right": ((7, 0), "left", "center"),
    "left": ((-7, 0), "right", "center"),
    "above": ((0, 7), "center", "bottom"),
    "below": ((0, -7), "center", "top"),
    "above right": ((5, 5), "left", "bottom"),
    "below right": ((5, -5), "left", "top"),
    "above left": ((-5, 5), "right", "bottom"),
    "below left": ((-5, -5), "right", "top"),
}
# 2000 pixels across: 300 dots an inch on the 17 cm between the margins of a page of A4.
SIZE, DPI = (10, 6), 200
# The axes' place in the figure, with room for the legend at the right and caption and footer at the bottom.
PLACE = (0.085, 0.255, 0.60, 0.60)
# The same where rows have names: those stand at the left and no legend is needed.
WITH_NAMES = (0.34, 0.255, 0.62, 0.60)
MOST_IN_LEGEND = 30
# Slower, as fast, faster: orange against blue is told apart by all kinds of colour vision.
HEAT = LinearSegmentedColormap.from_list("speed", ["#b35806", "#f7f7f7", "#2166ac"])


def draw(chart: Chart, path: Path, footer: Sequence[str]) -> None:
    """Write one chart to `path`, as its suffix says; `footer` says where its figures come from, a line each.

    The same chart gives the same bytes: no date goes into the file.
    """
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    with matplotlib.rc_context({"svg.hashsalt": chart.slug, "svg.fonttype": "none", "pdf.fonttype": 42}):
        compose(chart, footer).savefig(path, metadata=undated)


def compose(chart: Chart, footer: Sequence[str]) -> Figure:
    """What the chart shows before a reader selects, as a matplotlib figure."""
    chart = as_shown(chart)
    figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(WITH_NAMES if chart.y.names else PLACE)
    _axis(axes.xaxis, axes.set_xscale, axes.set_xlim, chart.x)
    _axis(axes.yaxis, axes.set_yscale, axes.set_ylim, chart.y)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    for ceiling in chart.ceilings:
        _ceiling(axes, ceiling)
    handles = [_series(axes, series) for series in chart.series]
    for note in chart.annotations:
        _annotation(axes, note)
    if chart.heat:
        _heat(axes, chart.heat)
    listed = [(handle, each.name) for handle, each in zip(handles, chart.series, strict=True) if each.listed]
    _legend(figure, [handle for handle, _ in listed], [name for _, name in listed])
    _words(figure, chart, footer)
    return figure


def plain(text: str) -> str:
    """Text that matplotlib draws as it stands: no mathematics, and no label that a legend would skip."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def _axis(axis: Any, set_scale: Any, set_limits: Any, wanted: Axis) -> None:
    set_scale("log" if wanted.log else "linear")
    set_limits(wanted.low, wanted.high)
    axis.set_major_locator(FixedLocator([tick for tick, _ in wanted.ticks]))
    axis.set_major_formatter(FixedFormatter([plain(text) for _, text in wanted.ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_label_text(plain(wanted.label))
    if wanted.names:
        lines = sum(text.count("\n") + 1 for _, text in wanted.ticks)
        axis.set_tick_params(labelsize=max(3.0, min(8.5, 250 / max(1, lines))))


def _series(axes: Any, series: Series) -> Line2D:
    style = series.style
    (line,) = axes.plot(
        series.x,
        series.y,
        linestyle=DASHES[style.dash] if series.line else "none",
        color=style.colour,
        linewidth=1.6,
        marker=MARKERS[style.marker],
        markersize=6,
        markerfacecolor="white" if series.hollow else style.colour,
        markeredgecolor=style.colour,
        markeredgewidth=1.3 if series.hollow else 0.4,
        markevery=[len(series.x) - 1] if series.last_only else None,
    )
    if len(series.low) > 1:
        axes.fill_between(series.x, series.low, series.high, color=style.colour, alpha=0.18, linewidth=0)
    elif series.low:
        axes.vlines(series.x, series.low, series.high, color=style.colour, linewidth=1.2)
    if series.left:
        axes.hlines(series.y, series.left, series.right, color=style.colour, linewidth=1.2)
    return line


def _ceiling(axes: Any, ceiling: Ceiling) -> None:
    dash, colour = CEILINGS[ceiling.kind]
    axes.plot(ceiling.x, ceiling.y, linestyle=dash, color=colour, linewidth=1.3, zorder=1.5)
    (x0, y0), (x1, y1) = axes.transData.transform(list(zip(ceiling.x, ceiling.y, strict=True)))
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    end = -1 if ceiling.at_end else 0
    axes.annotate(
        plain(ceiling.label),
        (ceiling.x[end], ceiling.y[end]),
        xytext=_beside(angle, -6 if ceiling.at_end else 10, 3 if ceiling.above else -3),
        textcoords="offset points",
        rotation=angle,
        rotation_mode="anchor",
        ha="right" if ceiling.at_end else "left",
        va="bottom" if ceiling.above else "top",
        fontsize=7.5,
        color=colour,
    )


def _beside(angle: float, along: float, across: float) -> tuple[float, float]:
    """An offset along and across a line of this angle, in points."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return along * cos - across * sin, along * sin + across * cos


def _annotation(axes: Any, note: Annotation) -> None:
    colour = note.style.colour if note.style else "#222222"
    if note.ring:
        axes.plot([note.x], [note.y], marker="o", markersize=11, markerfacecolor="none", markeredgecolor=colour)
    offset, ha, va = ANCHORS[note.anchor]
    axes.annotate(
        plain(note.text),
        (note.x, note.y),
        xytext=offset,
        textcoords="offset points",
        ha=ha,
        va=va,
        fontsize=8,
        color="#222222",
    )


def _heat(axes: Any, heat: Heat) -> None:
    values = [[math.log2(v) if v == v else math.nan for v in row.values] for row in heat.rows]
    scale = Normalize(-math.log2(FULL), math.log2(FULL))
    axes.grid(visible=False)
    axes.imshow(values, cmap=HEAT, norm=scale, aspect="auto", interpolation="nearest")
    size = max(4.0, min(8.0, 110 / max(1, len(heat.rows)), 90 / max(1, len(heat.columns))))
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if value == value:
                ink = "white" if abs(value) > 0.65 * math.log2(FULL) else "#222222"
                axes.text(j, i, ratio(2**value), ha="center", va="center", fontsize=size, color=ink)


def _legend(figure: Figure, handles: list[Line2D], names: list[str]) -> None:
    labels = ["\n".join(textwrap.wrap(plain(name), 38)) for name in names]
    if len(labels) > MOST_IN_LEGEND:
        labels = [*labels[:MOST_IN_LEGEND], f"and {len(labels) - MOST_IN_LEGEND} more: see the page"]
        handles = [*handles[:MOST_IN_LEGEND], Line2D([], [], linestyle="none")]
    size = 8.5 if len(labels) <= 18 else 6.5
    figure.legend(handles, labels, loc="upper left", bbox_to_anchor=(0.695, 0.87), frameon=False, fontsize=size)


def _words(figure: Figure, chart: Chart, footer: Sequence[str]) -> None:
    left = PLACE[0] if not chart.y.names else 0.03
    figure.text(left, 0.945, plain(chart.title), fontsize=13, fontweight="bold")
    figure.text(left, 0.905, plain(chart.subtitle), fontsize=9, color="#444444")
    caption = textwrap.wrap(plain(chart.caption), 165)[:3]
    figure.text(left, 0.155, "\n".join(caption), fontsize=7.5, color="#444444", va="top")
    figure.text(left, 0.02, plain("\n".join(footer)), fontsize=6.5, color="#777777", va="bottom")
