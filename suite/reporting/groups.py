"""Points and groups: which measurements share a chart, and how several records become one point.

A group is everything of a problem but its operator and its T, and how it was timed: cases that do the same job. A point
is one implementation at one T: the median over launches, of the fastest tunables.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.dtypes import SHORT
from suite.reporting.frame import Row, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SETTING = (
    "pass", "dtype", "K", "V", "B", "H", "HK", "HV", "layout", "state_dtype", "initial_state",
)  # fmt: skip
PASS_NAMES = {"fwd": "forward", "bwd": "backward", "fwdbwd": "forward and backward", "decode": "decode"}
_MEDIANS = ("time_ms", "memory_mib", "tflops", "gbs", "intensity", "roof_pct", "tokens_per_s", "flops_alg",
            "flops_exec")  # fmt: skip
_FIRSTS = ("name", "variant", "run", "T", "tunables", "bound", "origin", "linear", "quadratic")


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
class Point:
    """One implementation at one T. Figures that were not recorded are NaN.

    low_ms, high_ms: the 95 % interval of the median, the widest of its launches; the median itself where none was kept
    """

    name: str
    variant: str
    run: int
    T: int
    tunables: str
    origin: str
    linear: bool
    quadratic: bool
    bound: str
    time_ms: float
    p20_ms: float
    p80_ms: float
    low_ms: float
    high_ms: float
    memory_mib: float
    tflops: float
    gbs: float
    intensity: float
    roof_pct: float
    tokens_per_s: float
    flops_alg: float
    flops_exec: float
    dram_bytes: float

    @property
    def label(self) -> str:
        """What a legend says: operator/implementation, and the variant where there is one."""
        return f"{clean(self.name)}{' · ' if self.variant else ''}{clean(self.variant)}"


@dataclass(frozen=True)
class Floor:
    """The least time that a static profile allows a case: computed, never measured."""

    name: str
    T: int
    arch: str
    gpu: str
    time_ms: float
    tflops: float
    intensity: float
    bound: str


@dataclass(frozen=True)
class Failure:
    """A timed case without a time."""

    name: str
    T: int
    status: str


@dataclass(frozen=True)
class Group:
    """The points of one setting, and what could not be measured or was only computed there."""

    setting: Setting
    points: tuple[Point, ...] = ()
    floors: tuple[Floor, ...] = ()
    failures: tuple[Failure, ...] = ()

    def lines(self) -> dict[str, list[Point]]:
        """Points by label, in the order of T."""
        found: dict[str, list[Point]] = {}
        for point in sorted(self.points, key=lambda point: (point.label, point.T)):
            found.setdefault(point.label, []).append(point)
        return found


def gather(rows: Sequence[Row]) -> list[Group]:
    """The groups of those records that can be drawn, sequence passes first."""
    known = [row for row in rows if row["T"] >= 1]
    timed = by((row for row in known if row["kind"] == "timed"), *SETTING, "mode")
    static = by((row for row in known if row["kind"] == "static"), *SETTING)
    floors = {key: found for key, each in static.items() if (found := _floors(each))}
    groups = [
        Group(Setting(*key), tuple(_points(each)), floors.get(key[:-1], ()), _failures(each))
        for key, each in timed.items()
    ]
    covered = {key[:-1] for key in timed}
    groups += [Group(Setting(*key, mode="static"), floors=found) for key, found in floors.items() if key not in covered]
    return sorted(groups, key=lambda group: _rank(group.setting))


def by(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values in some columns, in the order of first appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found


def _rank(setting: Setting) -> tuple[Any, ...]:
    passes = list(PASS_NAMES)
    order = passes.index(setting.pass_) if setting.pass_ in passes else len(passes)
    return (order, setting.mode == "static", setting.dtype, setting.K, setting.V, setting.B, setting.H, setting.title)


def _points(rows: Iterable[Row]) -> Iterator[Point]:
    timed = [row for row in rows if row["status"] == "ok" and row["time_ms"] > 0]
    for lengths in by(timed, "name", "variant", "run", "T").values():
        cases = [_point(launches) for launches in by(lengths, "tunables").values()]
        yield min(cases, key=lambda point: point.time_ms)


def _point(launches: Sequence[Row]) -> Point:
    """The median over launches; the band is the widest of theirs."""
    first = launches[0]
    figures: dict[str, Any] = {name: first[name] for name in _FIRSTS}
    figures |= {name: _of(median, launches, name) for name in _MEDIANS}
    figures["dram_bytes"] = _of(median, launches, "profile.dram_bytes")
    figures |= {"p20_ms": _of(min, launches, "p20_ms"), "p80_ms": _of(max, launches, "p80_ms")}
    low, high = _of(min, launches, "ci_low_ms"), _of(max, launches, "ci_high_ms")
    # Launches differ by more than samples of one do.
    ends = [row["time_ms"] for row in launches]
    known = low > 0 and high > 0
    return Point(**figures, low_ms=min([low, *ends] if known else ends), high_ms=max([high, *ends] if known else ends))


def _of(how: Callable[[list[float]], float], rows: Sequence[Row], name: str) -> float:
    known = [row[name] for row in rows if row[name] == row[name]]
    return how(known) if known else math.nan


def _floors(rows: Iterable[Row]) -> tuple[Floor, ...]:
    return tuple(
        Floor(
            name=row["name"],
            T=row["T"],
            arch=clean(row["static.arch"] or row["device"]),
            gpu=clean(row["static.floor_gpu"]),
            time_ms=row["static.floor_ms"],
            tflops=row["flops_alg"] / row["static.floor_ms"] / 1e9,
            intensity=row["flops_alg"] / row["bytes_compulsory"],
            bound=clean(row["static.floor_bound"]),
        )
        for row in rows
        if all(row[name] > 0 for name in ("static.floor_ms", "flops_alg", "bytes_compulsory"))
    )


def _failures(rows: Iterable[Row]) -> tuple[Failure, ...]:
    found = {(clean(row["name"]), row["T"], clean(row["status"])) for row in rows if row["status"] != "ok"}
    return tuple(Failure(*each) for each in sorted(found))
