"""Groups: which measurements share a chart.

A group is everything of a problem but its operator and its T, and how it was timed: cases that do the same job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from suite.dtypes import SHORT
from suite.reporting.data.frame import Row, by, clean
from suite.reporting.data.points import Failure, Floor, Point, failures_of, fastest, floors_of, points_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTING = (
    "pass", "dtype", "K", "V", "B", "H", "HK", "HV", "layout", "state_dtype", "initial_state",
)  # fmt: skip
PASS_NAMES = {"fwd": "forward", "bwd": "backward", "fwdbwd": "forward and backward", "decode": "decode"}
MOST_LINES = 12


@dataclass(frozen=True)
class Setting:
    """What the cases of a group have in common. Sizes may be absent from a damaged record and are then 0."""

    pass_: str
    dtype: str
    K: int
    V: int
    B: int
    H: int
    HK: int
    HV: int
    layout: str
    state_dtype: str
    initial_state: bool
    mode: str

    @property
    def heads(self) -> str:
        """The head dims: `K 64`, or `K 64, V 128`."""
        return f"K {self.K}" if self.K == self.V else f"K {self.K}, V {self.V}"

    @property
    def rest(self) -> str:
        """Everything that is neither pass, dtype, head dims nor mode."""
        parts = [f"B {self.B}", f"H {self.H}"]
        parts += [f"{name} {size}" for name, size in (("HK", self.HK), ("HV", self.HV)) if size != self.H]
        parts += [] if self.layout == "dense" else [clean(self.layout)]
        parts += [] if self.state_dtype == "float32" else [f"state {clean(self.state_dtype)}"]
        return ", ".join(parts + (["initial state"] if self.initial_state else []))

    @property
    def facets(self) -> dict[str, str]:
        """What a reader selects by."""
        dtype = clean(SHORT.get(self.dtype, self.dtype))
        return {
            "pass": clean(self.pass_),
            "dtype": dtype,
            "head dims": self.heads,
            "shape": self.rest,
            "timing": clean(self.mode),
        }

    @property
    def title(self) -> str:
        return " · ".join(text for text in self.facets.values() if text)

    @property
    def slug(self) -> str:
        """The title as a part of a file name."""
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.title.replace(" · ", "_").replace(" ", "")).strip("-")[:120]


@dataclass(frozen=True)
class Group:
    """The cases of one setting, a point for each T and tunables, and what could not be measured or was only computed.

    points: of each implementation, variant, run and T the fastest tunables
    """

    setting: Setting
    cases: tuple[Point, ...] = ()
    floors: tuple[Floor, ...] = ()
    failures: tuple[Failure, ...] = ()

    @cached_property
    def points(self) -> tuple[Point, ...]:
        return fastest(self.cases)

    @cached_property
    def lines(self) -> dict[str, list[Point]]:
        """Points by label, in the order of T."""
        found: dict[str, list[Point]] = {}
        for point in sorted(self.points, key=lambda point: (point.label, point.T)):
            found.setdefault(point.label, []).append(point)
        return found

    @cached_property
    def shown(self) -> frozenset[str]:
        """The labels drawn before a reader selects: all, or of more than MOST_LINES the fastest of each operator.

        Of several runs the same implementations are drawn, so that they can be compared.
        """
        if len(self.lines) <= MOST_LINES:
            return frozenset(self.lines)
        best: dict[str, list[Point]] = {}
        for points in sorted(self.lines.values(), key=_reach):
            best.setdefault(points[0].operator, points)
        quadratic = [points for points in best.values() if points[0].quadratic][:1]
        most = max(MOST_LINES // len({point.run for point in self.points}), 1)
        ranked = dict.fromkeys((points[0].name, points[0].axes) for points in [*quadratic, *best.values()])
        kept = set(list(ranked)[:most])
        return frozenset(label for label, points in self.lines.items() if (points[0].name, points[0].axes) in kept)


def _reach(points: list[Point]) -> tuple[int, float]:
    """Sorts lines by how far they reach, then by their time there."""
    return -points[-1].T, points[-1].time_ms


def gather(rows: Sequence[Row]) -> list[Group]:
    """The groups of those records that can be drawn, sequence passes first."""
    known = [row for row in rows if row["T"] >= 1]
    timed = by((row for row in known if row["kind"] == "timed"), *SETTING, "mode")
    static = by((row for row in known if row["kind"] == "static"), *SETTING)
    floors = {key: found for key, each in static.items() if (found := floors_of(each))}
    groups = [
        Group(Setting(*key), tuple(points_of(each)), floors.get(key[:-1], ()), failures_of(each))
        for key, each in timed.items()
    ]
    covered = {key[:-1] for key in timed}
    groups += [Group(Setting(*key, mode="static"), floors=found) for key, found in floors.items() if key not in covered]
    return sorted(groups, key=lambda group: _rank(group.setting))


def _rank(setting: Setting) -> tuple[Any, ...]:
    passes = list(PASS_NAMES)
    order = passes.index(setting.pass_) if setting.pass_ in passes else len(passes)
    return (order, setting.mode == "static", setting.dtype, setting.K, setting.V, setting.B, setting.H, setting.title)
