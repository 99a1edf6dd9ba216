"""Draws a chart for the page: a plotly figure as plain data, coloured for light and dark by the page's script.

Plotly's own classes would check every property of every trace, at three times the cost of the whole page; that the data
is a figure they accept is checked in tests. `meta` is this project's: whose a trace is, for the page's selectors.
"""

from __future__ import annotations

import html
import math
import textwrap
from typing import TYPE_CHECKING, Any

from suite.reporting.renderers.packing import short

if TYPE_CHECKING:
    from collections.abc import Iterable

    from suite.reporting.charts.model import Annotation, Axis, Ceiling, Chart, Heat, Owner, Series

ANCHORS = {
    "right": "middle right",
    "left": "middle left",
    "above": "top center",
    "below": "bottom center",
    "above right": "top right",
    "below right": "bottom right",
    "above left": "top left",
    "below left": "bottom left",
}
CEILING_DASH = {"measured": "solid", "datasheet": "dash", "reference": "solid"}
# Stands for the page's ink in either scheme; the page's script puts the real colour in its place.
INK = "#808080"
# Characters of a legend's line: what fits on a narrow screen.
NAME_WIDTH = 40
# The ratio at which a heat map's colours are full.
FULL = 16.0


def figure(chart: Chart) -> dict[str, Any]:
    """The figure as JSON-ready data: plotly's `data` and `layout`, and `rows` where its height depends on them."""
    data = [_ceiling(ceiling) for ceiling in chart.ceilings]
    for series in chart.series:
        data += [_band(series)] if series.low else []
        data.append(_series(series))
    data += [_notes(chart.annotations)] if chart.annotations else []
    data += [_heat(chart.heat)] if chart.heat else []
    found: dict[str, Any] = {"data": data, "layout": _layout(chart)}
    if chart.rows:
        found["rows"] = [_whose(owner) for owner in chart.rows]
    return found


def plain(text: str) -> str:
    """Text that plotly shows as it stands; newlines stay line breaks."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def shorts(values: Iterable[float]) -> list[float]:
    """Figures with as many digits as a screen can show."""
    return [value if float(value).is_integer() else short(value, 4) for value in values]


def _layout(chart: Chart) -> dict[str, Any]:
    return {
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y) | {"automargin": True},
        "margin": {"l": 62, "r": 24, "t": 8, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": any(series.listed for series in chart.series),
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "annotations": [_ceiling_label(ceiling) for ceiling in chart.ceilings if ceiling.label],
    }


def _axis(axis: Axis) -> dict[str, Any]:
    bounds = [math.log10(axis.low), math.log10(axis.high)] if axis.log else [axis.low, axis.high]
    return {
        "type": "log" if axis.log else "linear",
        "range": bounds,
        "title": {"text": plain(axis.label), "standoff": 8},
        "tickvals": [tick for tick, _ in axis.ticks],
        "ticktext": [plain(text) for _, text in axis.ticks],
        "zeroline": False,
        "tickangle": 0,
    }


def _whose(owner: Owner) -> dict[str, Any]:
    return {
        "line": owner.label,
        "operator": owner.operator,
        "device": owner.machine,
        "quadratic": owner.quadratic,
        "shown": owner.shown,
    }


def _series(series: Series) -> dict[str, Any]:
    style = series.style
    size = [0] * (len(series.x) - 1) + [10] if series.last_only else 9
    found = {
        "type": "scatter",
        "x": shorts(series.x),
        "y": shorts(series.y),
        "name": plain("\n".join(textwrap.wrap(series.name, NAME_WIDTH))),
        "legendgroup": plain(series.owner.label or series.name),
        "showlegend": series.listed,
        "mode": "lines+markers" if series.line else "markers",
        "line": {"color": style.colour, "dash": style.dash, "width": 2},
        "marker": {
            "color": style.colour,
            "symbol": style.marker + ("-open" if series.hollow else ""),
            "size": size,
            "line": {"width": 1.6 if series.hollow else 0, "color": style.colour},
        },
        "hovertext": [plain(text) for text in series.text],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {"dark": style.dark, **_whose(series.owner)},
    }
    return found | ({"error_x": _interval(series)} if series.left else {})


def _interval(series: Series) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": shorts(right - x for right, x in zip(series.right, series.x, strict=True)),
        "arrayminus": shorts(x - left for left, x in zip(series.left, series.x, strict=True)),
        "color": series.style.colour,
        "thickness": 1.5,
        "width": 3,
    }


def _band(series: Series) -> dict[str, Any]:
    """The band as one closed outline; a single point's is a vertical line."""
    return {
        "type": "scatter",
        "x": shorts([*series.x, *reversed(series.x)]),
        "y": shorts([*series.high, *reversed(series.low)]),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": _clear(series.style.colour),
        "line": {"color": series.style.colour, "width": 0 if len(series.x) > 1 else 2},
        "legendgroup": plain(series.owner.label or series.name),
        "showlegend": False,
        "hoverinfo": "skip",
        "meta": _whose(series.owner),
    }


def _clear(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": shorts(ceiling.x),
        "y": shorts(ceiling.y),
        "mode": "lines",
        "line": {"color": INK, "dash": CEILING_DASH[ceiling.kind], "width": 1.5},
        "name": plain(ceiling.label),
        "showlegend": False,
        "hoverinfo": "name" if ceiling.label else "skip",
        "meta": {"ink": True, "labelled": bool(ceiling.label), "of": [ceiling.of] if ceiling.of else []},
    }


def _ceiling_label(ceiling: Ceiling) -> dict[str, Any]:
    """A label on the line. The page's script turns it to the slope that the line has on the reader's screen."""
    end = -1 if ceiling.at_end else 0
    x, y = ceiling.x[end], ceiling.y[end]
    return {
        "x": math.log10(x),
        "y": math.log10(y),
        "text": plain(ceiling.label),
        "showarrow": False,
        "xanchor": "right" if ceiling.at_end else "left",
        "yanchor": "bottom" if ceiling.above else "top",
        "name": f"{'slope' if ceiling.y[0] != ceiling.y[1] else 'flat'} {'above' if ceiling.above else 'below'}",
    }


def _notes(notes: tuple[Annotation, ...]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": shorts(note.x for note in notes),
        "y": shorts(note.y for note in notes),
        "mode": "markers+text",
        "text": [plain(note.text) for note in notes],
        "textposition": [ANCHORS[note.anchor] for note in notes],
        "textfont": {"size": 11},
        "marker": {
            "symbol": "circle-open",
            "size": [14 if note.ring else 9 for note in notes],
            "opacity": [1 if note.ring else 0 for note in notes],
            "color": INK,
        },
        "showlegend": False,
        "hoverinfo": "skip",
        "cliponaxis": False,
        "meta": {"ink": True, "notes": [list(note.of) for note in notes]},
    }


def _heat(heat: Heat) -> dict[str, Any]:
    """Cells coloured by the logarithm of their ratio; the page's script sets the colours of its scheme."""
    known = [[value if value == value else None for value in row.values] for row in heat.rows]
    return {
        "type": "heatmap",
        "z": [[None if value is None else short(math.log2(value)) for value in row] for row in known],
        "x": list(range(len(heat.columns))),
        "y": list(range(len(heat.rows))),
        "text": [[ratio(value) if value else "" for value in row] for row in known],
        "texttemplate": "%{text}",
        "hovertext": [[plain(text) for text in row.text] for row in heat.rows],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "zmin": -math.log2(FULL),
        "zmax": math.log2(FULL),
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
        "hoverongaps": False,
        "meta": {"rows": [_whose(row.owner) for row in heat.rows]},
    }


def ratio(value: float) -> str:
    """A ratio in as few characters as tell it: 0.03, 0.8, 3.2, 120."""
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"
