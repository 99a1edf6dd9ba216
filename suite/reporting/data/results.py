"""Results: of each problem the fastest implementation, and how many times as long the others take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from suite.reporting.data.groups import gather
from suite.store.text import time_text

if TYPE_CHECKING:
    from suite.reporting.data.frame import Row
    from suite.reporting.data.points import Point

COLUMNS = (
    "operator",
    "setting",
    "T",
    "implementation",
    "tunables",
    "time_ms",
    "times_fastest",
    "roof_pct",
    "memory_mib",
    "error",
)

FASTEST = "fastest"
SUMMARY = ("operator", "setting", "T", FASTEST, "time", "of roof", "others, times as long")


@dataclass(frozen=True)
class Result:
    """The timed implementations of one problem, fastest first, each with its fastest tunables.

    setting: everything of the problem but its operator and T, in words
    """

    operator: str
    setting: str
    T: int
    points: tuple[Point, ...]

    @property
    def fastest(self) -> Point:
        return self.points[0]

    @property
    def others(self) -> list[tuple[Point, float]]:
        """The slower ones, with their time over that of the fastest."""
        return [(point, point.time_ms / self.fastest.time_ms) for point in self.points[1:]]


def results(rows: Sequence[Row]) -> list[Result]:
    """One of each operator, setting and T that has a time, in the order of a report."""
    found = []
    for group in gather([row for row in rows if row["kind"] == "timed"]):
        for operator in dict.fromkeys(point.operator for point in group.points):
            own = [point for point in group.points if point.operator == operator]
            for T in sorted({point.T for point in own}):
                ranked = sorted((point for point in own if point.T == T), key=lambda point: point.time_ms)
                found.append(Result(operator, group.setting.title, T, tuple(ranked)))
    return found


def table(found: Iterable[Result]) -> pd.DataFrame:
    """Results as a frame: a row for each implementation of each problem, columns COLUMNS.

    times_fastest: its time over that of the fastest, 1.0 for that one itself; error: as in `Point`
    """
    rows = [
        (
            result.operator,
            result.setting,
            result.T,
            name_of(point),
            point.tunables,
            point.time_ms,
            point.time_ms / result.fastest.time_ms,
            point.roof_pct,
            point.memory_mib,
            point.error,
        )
        for result in found
        for point in result.points
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summary(found: Iterable[Result]) -> pd.DataFrame:
    """Results as a frame for reading: a row for each problem, texts with units, columns SUMMARY."""
    rows = [
        (
            result.operator,
            result.setting,
            f"{result.T:,}",
            told(result.fastest),
            time_text(result.fastest.time_ms),
            f"{result.fastest.roof_pct:.0f} %" if result.fastest.roof_pct == result.fastest.roof_pct else "-",
            ", ".join(f"{told(point)} {ratio_text(ratio)}" for point, ratio in result.others) or "-",
        )
        for result in found
    ]
    return pd.DataFrame(rows, columns=list(SUMMARY))


def ratio_text(ratio: float) -> str:
    """How many times as long: "1.03x", "2.4x", "41x"."""
    return f"{ratio:.2f}x" if ratio < 1.095 else f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:,.0f}x"


def told(point: Point) -> str:
    """The implementation with its tunables."""
    return f"{name_of(point)} ({point.tunables})" if point.tunables else name_of(point)


def name_of(point: Point) -> str:
    """The implementation without its operator, with what sets it apart from others of its name."""
    name = point.name.partition("/")[2]
    return f"{name} ({point.variant})" if point.variant else name
