"""How far a predicted time may be off: by published timings of the same family, else of all on that architecture.

`subquad validate --write` makes the file from timings that may be looked at. docs/predicted-time.md shows the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from suite.discovery import ROOT
from suite.errors import StoreError

FILE = ROOT / "results" / "published" / "spreads.json"
# Timings of a family below which its spread says nothing.
FEWEST = 4


@dataclass(frozen=True)
class Uncertainty:
    """What published timings say of predictions like one.

    family: of what they are: OPERATOR/IMPLEMENTATION, an architecture, or "all"
    count:  how many they are
    median: of measured over predicted
    spread: its geometric standard deviation
    """

    family: str = "none"
    count: int = 0
    median: float = 1.0
    spread: float = 1.5

    def low(self, ms: float) -> float:
        """The least that a predicted time may turn out to be."""
        return ms * min(1.0, self.median) / self.spread

    def high(self, ms: float) -> float:
        """The most."""
        return ms * max(1.0, self.median) * self.spread

    @property
    def of_change(self) -> float:
        """The factor by which two predictions of one family may differ and still be of equal times.

        Both are off by the spread, independently; what the family is off by as a whole is in both.
        """
        return self.spread ** math.sqrt(2)


def uncertainty_of(name: str, arch: str, pass_: str, file: Path = FILE) -> Uncertainty:
    """What is known of OPERATOR/IMPLEMENTATION on an architecture in a pass, the closest first."""
    known = _read(file)
    for key in ((name, arch, pass_), (name, arch, ""), ("", arch, pass_), ("", arch, ""), ("", "", "")):
        if key in known:
            return known[key]
    return Uncertainty()


@cache
def _read(file: Path) -> Mapping[tuple[str, str, str], Uncertainty]:
    try:
        rows: Sequence[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["families"]
        found = {
            (row["name"], row["arch"], row["pass"]): Uncertainty(
                row["name"] or row["arch"] or "all", int(row["count"]), float(row["median"]), float(row["spread"])
            )
            for row in rows
        }
        for key, each in found.items():
            if not (0 < each.median < math.inf and 1 <= each.spread < math.inf):
                raise ValueError(f"{'/'.join(key)} has the median {each.median} and the spread {each.spread}")
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({error}); take it from git, or run `subquad validate --write`") from error
    return {key: each for key, each in found.items() if each.count >= FEWEST}
