"""The palette: colour and marker of an implementation, dash to the run and variant, in all charts of a report."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.colors import to_hex, to_rgb

from suite.reporting.charts.model import DASHES, MARKERS, Style

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COLOURS = tuple(matplotlib.color_sequences["petroff10"])
# Least relative luminance that has a contrast of 3:1 against the page's dark ground.
LEAST_ON_DARK = 0.14
# Most relative luminance that has a contrast of 2.5:1 against white, which keeps pale lines apart from the grid.
MOST_ON_LIGHT = 0.37


def assign(names: Iterable[str], variants: Iterable[str] = ("",)) -> dict[tuple[str, str], Style]:
    """A style for each (implementation, variant): ten colours, ten markers, a hundred pairs before one comes again.

    A name asks for a look of its own, the same in every report, and gets the nearest of those that are used least: by
    its operator, then by all.
    """
    dashes = {variant: DASHES[i % len(DASHES)] for i, variant in enumerate(sorted(set(variants)))}
    colours: Counter[tuple[str, int]] = Counter()
    looks: Counter[tuple[int, int]] = Counter()
    styles = {}
    for name in sorted(set(names)):
        operator = name.partition("/")[0]
        wish = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big")
        hue = _least(wish, len(COLOURS), lambda i, op=operator: (colours[op, i], colours["", i]))
        mark = _least(wish // len(COLOURS), len(MARKERS), lambda i, hue=hue: (looks[hue, i], looks[-1, i]))
        colours.update([(operator, hue), ("", hue)])
        looks.update([(hue, mark), (-1, mark)])
        colour = on_light(to_hex(COLOURS[hue]))
        for variant, dash in dashes.items():
            styles[name, variant] = Style(colour, on_dark(to_hex(COLOURS[hue])), MARKERS[mark], dash)
    return styles


def _least(wish: int, count: int, used: Callable[[int], tuple[int, int]]) -> int:
    """Of `count` places the least used one, of several the first from the one that is wished for on."""
    return min((used((wish + step) % count), step, (wish + step) % count) for step in range(count))[2]


def on_dark(colour: str) -> str:
    """The colour, mixed with as much white as it needs to be seen on a dark ground."""
    return _mixed(colour, 1.0, lambda rgb: luminance(rgb) >= LEAST_ON_DARK)


def on_light(colour: str) -> str:
    """The colour, mixed with as much black as it needs to be seen on white."""
    return _mixed(colour, 0.0, lambda rgb: luminance(rgb) <= MOST_ON_LIGHT)


def _mixed(colour: str, shade: float, enough: Callable[[tuple[float, ...]], bool]) -> str:
    red, green, blue = to_rgb(colour)
    for part in (step / 20 for step in range(21)):
        mixed = tuple(channel + (shade - channel) * part for channel in (red, green, blue))
        if enough(mixed):
            return to_hex((mixed[0], mixed[1], mixed[2]))
    raise AssertionError("white is light and black is dark enough")


def luminance(rgb: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
