"""Untrusted text, such as names and reasons, made safe for a terminal, Markdown or a spreadsheet."""

from __future__ import annotations

import math
import re

# What a terminal obeys instead of showing it: C0 and C1 without tab and line feed. What turns the direction of the text
# beside it. What ends a line in some programs alone. Halves of surrogate pairs, which nothing can print.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)
# What a spreadsheet takes for the beginning of a formula, full-width forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def harmless(text: str) -> str:
    """The text with a replacement character for each one that a terminal would obey. Tabs and line feeds stay."""
    return _CONTROL.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The text without line breaks, tabs and control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def in_markdown(text: str) -> str:
    """The text for one line or cell of Markdown: no line break, no control character, no markup, no HTML."""
    return re.sub(r"([\\`*_|\[\]<>&#~])", r"\\\1", one_line(text))


def in_plain_cell(text: str) -> str:
    """The text for a cell of a Markdown table that people read as it is too: names keep their underscores."""
    return re.sub(r"([`<\[])", r"\\\1", one_line(text).replace("|", "/"))


def in_spreadsheet(text: str) -> str:
    """The text for a CSV cell: behind an apostrophe where a spreadsheet would take it for a formula.

    A carriage return becomes a line feed: programs differ in whether an unquoted one ends the row.
    """
    mended = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{mended}" if mended.startswith(_FORMULA) else mended


# Unit -> milliseconds of one; a figure is in the largest unit of which it has at least one.
_UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def time_text(ms: float) -> str:
    """Milliseconds with three digits in a unit that suits them: "1.21 ms", "12.3 us"; two decimals below 1 ns."""
    name, size = next(((name, size) for name, size in _UNITS.items() if ms >= size), ("ns", 1e-6))
    figure = float(f"{ms / size:.3g}")
    return f"{figure:.{max(0, 2 - int(math.log10(max(figure, 1.0))))}f} {name}"
