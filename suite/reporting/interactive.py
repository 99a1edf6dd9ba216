"""Draws a chart for the page: a plotly figure as plain data, coloured for light and dark by the page's script.

Plotly's own classes would check every property of every trace, at three times the cost of the whole page; that the data
is a figure they accept is checked in tests.
"""

from __future__ import annotations

import html
import math
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suite.reporting.charts import Annotation, Axis, Ceiling, Chart, Series

ANCHORS = {
    "right": "middle right", "left": "middle left", "above": "top center", "below": "bottom center",
    "above right": "top right", "below right": "bottom right", "above left": "top left", "below left": "bottom left",
}  # fmt: skip
CEILING_DASH = {"measured": "solid", "datasheet": "dash", "reference": "solid"}
# Stands for the page's ink in either scheme; the page's script puts the real colour in its place.
INK = "#808080"
# Characters of a legend's line: what fits on a narrow screen.
NAME_WIDTH = 40


def figure(chart: Chart) -> dict[str, Any]:
    """The figure as JSON-ready data: plotly's `data` and `layout`."""
    data = [_ceiling(ceiling) for ceiling in chart.ceilings]
    for series in chart.series:
        data += [_band(series)] if series.low else []
        data.append(_series(series))
    data += [_notes(chart.annotations)] if chart.annotations else []
    return {"data": data, "layout": _layout(chart)}


def plain(text: str) -> str:
    """Text that plotly shows as it stands; newlines stay line breaks."""
    return html.escape(text, quote=False).replace("\n", "<br>")


def _layout(chart: Chart) -> dict[str, Any]:
    return {
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y) | {"automargin": True},
        "margin": {"l": 62, "r": 24, "t": 8, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"},
        "annotations": [_ceiling_label(ceiling) for ceiling in chart.ceilings],
    }


def _axis(axis: Axis) -> dict[str, Any]:
    bounds = [math.log10(axis.low), math.log10(axis.high)] if axis.log else [axis.low, axis.high]
    return {
        "type": "log" if axis.log else "linear",
        "range": bounds,
        "title": {"text": plain(axis.label), "standoff": 8},
        "tickvals": [tick for tick, _ in axis.ticks],
        "ticktext": [text for _, text in axis.ticks],
        "zeroline": False,
        "tickangle": 0,
    }


def _series(series: Series) -> dict[str, Any]:
    style = series.style
    return {
        "type": "scatter",
        "x": list(series.x),
        "y": list(series.y),
        "name": plain("\n".join(textwrap.wrap(series.name, NAME_WIDTH))),
        "legendgroup": plain(series.name),
        "mode": "lines+markers" if series.line else "markers",
        "line": {"color": style.colour, "dash": style.dash, "width": 2},
        "marker": {
            "color": style.colour,
            "symbol": style.marker + ("-open" if series.hollow else ""),
            "size": 9,
            "line": {"width": 1.6 if series.hollow else 0, "color": style.colour},
        },
        "text": [plain(text) for text in series.text],
        "hovertemplate": "%{text}<extra></extra>",
        "meta": {"dark": style.dark},
    }


def _band(series: Series) -> dict[str, Any]:
    """The band as one closed outline; a single point's is a vertical line."""
    return {
        "type": "scatter",
        "x": [*series.x, *reversed(series.x)],
        "y": [*series.high, *reversed(series.low)],
        "mode": "lines",
        "fill": "toself",
        "fillcolor": _clear(series.style.colour),
        "line": {"color": series.style.colour, "width": 0 if len(series.x) > 1 else 2},
        "legendgroup": plain(series.name),
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _clear(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.2)"


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": list(ceiling.x),
        "y": list(ceiling.y),
        "mode": "lines",
        "line": {"color": INK, "dash": CEILING_DASH[ceiling.kind], "width": 1.5},
        "name": plain(ceiling.label),
        "showlegend": False,
        "hoverinfo": "name",
        "meta": {"ink": True},
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
        "x": [note.x for note in notes],
        "y": [note.y for note in notes],
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
        "meta": {"ink": True},
    }
