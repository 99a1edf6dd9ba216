"""Tables of tiles: what every family's `tiles.py` looks up in its own data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")
# (height, work, kernel, or "" for all others)
Key = tuple[int, str, str]
# The least height that tables have.
LEAST = 64


def newest(tables: Mapping[int, Entry], capability: int) -> Entry:
    """The table of the newest known architecture that is not newer than the device; of an older device, the oldest."""
    return tables[max((each for each in tables if each <= capability), default=min(tables))]


def row(tables: Mapping[int, Mapping[Key, Entry]], capability: int, height: int, work: str, kernel: str) -> Entry:
    """A kernel's own row of a height and work, or the one of all others; heights are powers of 2, of LEAST at least."""
    rows, height = newest(tables, capability), max(LEAST, height)
    return rows.get((height, work, kernel)) or rows[height, work, ""]
