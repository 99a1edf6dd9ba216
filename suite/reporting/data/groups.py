"""Groups: which measurements share a chart.

A group is everything of a problem but its operator and its T, and how it was timed: cases that do the same job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from suite.problem import STANDARD
from suite.reporting.data.frame import Row, by, clean
from suite.reporting.data.points import Failure, Floor, Point, failures_of, fastest, floors_of, points_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Everything of a problem but its T: its standard axes by name.
SETTING = tuple(name for name in STANDARD if name != "T")
PASS_NAMES = {"fwd": "forward", "bwd": "backward", "fwdbwd": "forward and backward", "decode": "decode"}
# In the order in which a title has them.
FACETS = ("pass", "dtype", "head dims", "shape")
MOST_LINES = 12


@dataclass(frozen=True)
class Setting:
    """What the cases of a group have in common.

    axes: the standard axes of SETTING by name; a size that a damaged record lacks is 0
    """

    axes: Mapping[str, Any]
    mode: str

    @property
    def pass_(self) -> str:
        return self.axes["pass"]

    @property
    def dtype(self) -> str:
        return self.axes["dtype"]

    @property
    def rest(self) -> str:
        """Everything that is neither pass, dtype, head dims nor mode."""
        return self.facets["shape"]

    @cached_property
    def facets(self) -> dict[str, str]:
        """What a reader selects by: the labels of the standard axes, joined where they share a facet; the mode."""
        labels: dict[str, list[str]] = {facet: [] for facet in FACETS}
        for name in SETTING:
            axis = STANDARD[name]
            if text := axis.label(self.axes[name], self.axes):
                labels.setdefault(axis.facet, []).append(clean(text))
        return {facet: ", ".join(texts) for facet, texts in labels.items()} | {"timing": clean(self.mode)}

    @cached_property
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
        Group(_setting(key), tuple(points_of(each)), floors.get(key[:-1], ()), failures_of(each))
        for key, each in timed.items()
    ]
    covered = {key[:-1] for key in timed}
    groups += [Group(_setting((*key, "static")), floors=found) for key, found in floors.items() if key not in covered]
    return sorted(groups, key=lambda group: _rank(group.setting))


def _setting(key: tuple[Any, ...]) -> Setting:
    """The setting of the values of SETTING and a mode."""
    *values, mode = key
    return Setting(dict(zip(SETTING, values, strict=True)), mode)


def _rank(setting: Setting) -> tuple[Any, ...]:
    passes = list(PASS_NAMES)
    order = passes.index(setting.pass_) if setting.pass_ in passes else len(passes)
    sizes = [setting.axes[name] for name in ("K", "V", "B", "H")]
    return (order, setting.mode == "static", setting.dtype, *sizes, setting.title)
