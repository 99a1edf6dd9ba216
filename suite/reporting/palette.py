"""Looks: colour and marker bound to an implementation, dash to the run and variant, in all charts of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
from matplotlib.colors import to_hex, to_rgb

from suite.reporting.charts import DASHES, MARKERS, Style

if TYPE_CHECKING:
    from collections.abc import Iterable

COLOURS = tuple(matplotlib.color_sequences["petroff10"])
# Least relative luminance that has a contrast of 3:1 against the page's dark ground.
LEAST_ON_DARK = 0.14


def assign(names: Iterable[str], variants: Iterable[str] = ("",)) -> dict[tuple[str, str], Style]:
    """A style for each (implementation, variant): ten colours, ten markers, a hundred pairs before one comes again."""
    dashes = {variant: DASHES[i % len(DASHES)] for i, variant in enumerate(sorted(set(variants)))}
    styles = {}
    for i, name in enumerate(sorted(set(names))):
        colour = to_hex(COLOURS[i % len(COLOURS)])
        marker = MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]
        for variant, dash in dashes.items():
            styles[name, variant] = Style(colour, on_dark(colour), marker, dash)
    return styles


def on_dark(colour: str) -> str:
    """The colour, mixed with as much white as it needs to be seen on a dark ground."""
    red, green, blue = to_rgb(colour)
    for white in (step / 20 for step in range(21)):
        mixed = tuple(channel + (1 - channel) * white for channel in (red, green, blue))
        if luminance(mixed) >= LEAST_ON_DARK:
            return to_hex((mixed[0], mixed[1], mixed[2]))
    raise AssertionError("white has luminance 1")


def luminance(rgb: tuple[float, ...]) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
