"""Ranges, ticks and label places on logarithmic axes, and figures as people write them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from suite.reporting.charts.model import Anchor, Annotation, Axis

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A label's extent and its distance from its point, as parts of the plot's width and height.
CHARACTER, LINE, GAP = 0.0135, 0.045, 0.012
# In the order of preference.
ANCHORS: tuple[Anchor, ...] = (
    "right",
    "above",
    "left",
    "below",
    "above right",
    "below right",
    "above left",
    "below left",
)
Box = tuple[float, float, float, float]


def figure(value: float) -> str:
    """Three significant digits, thousands separated, no exponent: 0.0123, 1.23, 12,300; a dash for no value."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}"


def size(count: float) -> str:
    """Bytes in the largest binary unit that they fill: 256 KiB, 1 GiB."""
    power = min(3, max(0, math.floor(math.log(max(count, 1), 1024))))
    return f"{count / 1024**power:,.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def length(T: float) -> str:
    """A sequence length: 500, 2k, 128k."""
    tokens = round(T)
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens:,}"


def log_axis(label: str, values: Iterable[float], pad: float = 0.06, decades: float = 0.5) -> Axis:
    """A logarithmic axis around positive values, padded by a part of its span, at least `decades` long."""
    logs = [math.log10(value) for value in values]
    low, high = min(logs), max(logs)
    span = max(high - low, decades)
    middle = (low + high) / 2
    low, high = middle - span * (0.5 + pad), middle + span * (0.5 + pad)
    return Axis(label, 10**low, 10**high, tuple((tick, plain(tick)) for tick in ticks(10**low, 10**high)))


def length_axis(label: str, lengths: Iterable[float]) -> Axis:
    """A logarithmic axis over sequence lengths whose ticks are lengths that were measured, thinned until they fit."""
    known = sorted(set(lengths))
    axis = log_axis(label, known, pad=0.05)
    gap = (math.log10(axis.high) - math.log10(axis.low)) / 11
    kept: list[float] = []
    for T in known:
        if not kept or math.log10(T / kept[-1]) >= gap:
            kept.append(T)
    return Axis(label, axis.low, axis.high, tuple((T, length(T)) for T in kept))


def rows_axis(label: str, names: Sequence[str]) -> Axis:
    """Rows with a name each, the first at the top."""
    return Axis(label, len(names) - 0.5, -0.5, tuple(enumerate(names)), log=False, names=True)


def ticks(low: float, high: float) -> list[float]:
    """1-2-5 ticks over a short range, decades over a long one, fewer than ten in all."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    span = last - first
    steps: Sequence[int] = (1, 2, 5) if span <= 3 else (1,)
    every = max(1, math.ceil(span / 9))
    found = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    return [tick for tick in found if low <= tick <= high]


def plain(tick: float) -> str:
    """A tick's text: 0.01, 5, 1,000; from a million on in powers of ten."""
    if tick >= 1e6 or tick < 1e-4:
        mantissa, exponent = f"{tick:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{tick:,.10f}".rstrip("0").rstrip(".")


def position(axis: Axis, value: float) -> float:
    """Where a value lies on an axis, 0 at its low end and 1 at its high one."""
    if axis.log:
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)


def place(wanted: Iterable[Annotation], x: Axis, y: Axis, obstacles: Iterable[tuple[float, float]]) -> list[Annotation]:
    """The annotations that fit, each anchored where it covers no other label and as few points as possible.

    Earlier ones have the first choice. A label that would cover another one everywhere is left out; one with `ring`
    keeps its ring.
    """
    points = np.array([(position(x, px), position(y, py)) for px, py in obstacles]).reshape(-1, 2)
    wanted = list(wanted)
    taken = [_ring(position(x, note.x), position(y, note.y)) for note in wanted if note.ring]
    placed: list[Annotation] = []
    for note in wanted:
        px, py = position(x, note.x), position(y, note.y)
        boxes: dict[Anchor, Box] = {anchor: _box(px, py, note.text, anchor) for anchor in ANCHORS}
        free: list[Anchor] = [anchor for anchor in ANCHORS if _free(boxes[anchor], taken)]
        if free:
            anchor = min(free, key=lambda each, boxes=boxes: _covered(points, boxes[each]))
            taken.append(boxes[anchor])
            placed.append(replace(note, anchor=anchor))
        elif note.ring:
            placed.append(replace(note, text=""))
    return placed


def _ring(px: float, py: float) -> Box:
    return px - GAP, py - GAP, px + GAP, py + GAP


def _box(px: float, py: float, text: str, anchor: Anchor) -> Box:
    width = CHARACTER * len(text)
    words = anchor.split()
    left = px + GAP if "right" in words else px - GAP - width if "left" in words else px - width / 2
    bottom = py + GAP if "above" in words else py - GAP - LINE if "below" in words else py - LINE / 2
    return left, bottom, left + width, bottom + LINE


def _free(box: Box, taken: Iterable[Box]) -> bool:
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= 1.0 and box[3] <= 1.0
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
    )


def _covered(points: np.ndarray, box: Box) -> int:
    """How many of the points [n, 2] lie in a box."""
    px, py = points[:, 0], points[:, 1]
    return int(np.count_nonzero((px >= box[0]) & (px <= box[2]) & (py >= box[1]) & (py <= box[3])))
