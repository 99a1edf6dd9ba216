"""Data for the page's script: JSON, compressed, as text that stands in an HTML element."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from typing import Any

# Digits that are kept of a measured figure: far below what repeats, and half the size.
DIGITS = 6
LONGEST_TEXT = 4000


def packed(data: Any) -> str:
    """JSON, gzip, base64; the same data gives the same text. Not for data with NaN: see `sane`."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), compresslevel=6, mtime=0)).decode()


def sane(value: Any) -> Any:
    """Data that JSON can hold: figures with DIGITS digits, what is no finite number as a word, long text cut."""
    if isinstance(value, float):
        return short(value) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}…"
    if isinstance(value, int) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(name)[:LONGEST_TEXT]: sane(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [sane(each) for each in value]
    return sane(str(value))


def short(value: float, digits: int = DIGITS) -> float:
    """A finite figure with that many significant digits."""
    return float(f"{value:.{digits}g}")
