"""Points: how several records become one figure per case, and which cases were only computed or failed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.reporting.data.frame import Row, by, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# field of a Point -> column of a row, of which it is the median over replicates
_MEDIANS = {
    "time_ms": "time_ms",
    "memory_mib": "memory_mib",
    "tflops": "tflops",
    "gbs": "gbs",
    "intensity": "intensity",
    "roof_pct": "roof_pct",
    "tokens_per_s": "tokens_per_s",
    "flops_alg": "flops_alg",
    "flops_exec": "flops_exec",
    "dram_bytes": "profile.dram_bytes",
    "energy_j_token": "telemetry.energy_j_token",
    "compile_s": "compile_s",
    "tuning_s": "tuning.seconds",
    "error": "error",
}
_FIRSTS = (
    "name",
    "operator",
    "axes",
    "variant",
    "run",
    "machine",
    "T",
    "tunables",
    "settings",
    "bound",
    "origin",
    "linear",
    "quadratic",
)


@dataclass(frozen=True)
class Point:
    """One implementation at one T. Figures that were not recorded are NaN.

    low_ms, high_ms: the 95 % interval of the median, the widest of its replicates; the median where none was kept
    settings:        the tunables by name; `tunables` is their text
    error:           the worst RMS error over the RMS of the oracle, of outputs and gradients
    """

    name: str
    operator: str
    axes: str
    variant: str
    run: int
    machine: str
    T: int
    tunables: str
    settings: tuple[tuple[str, Any], ...]
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
    energy_j_token: float
    compile_s: float
    tuning_s: float
    error: float

    @cached_property
    def label(self) -> str:
        """What a legend says: operator/implementation, and the variant where there is one."""
        return label(self.name, self.variant)

    @cached_property
    def kib_token(self) -> float:
        """Compulsory KiB of one token."""
        return self.gbs * 1e9 / 1024 / self.tokens_per_s if self.tokens_per_s > 0 else math.nan


@dataclass(frozen=True)
class Floor:
    """What a static profile says of a case's time: computed, never measured.

    time_ms:        the least that it can be; tflops: the most
    kept_mib:       MiB that the forward pass leaves for the backward pass; NaN in other passes
    predicted_ms, low_ms, high_ms, predicted_bound: the predicted time, its range, and its bound; NaN and "" without one
    io_bound_bytes: the least traffic of any code of the operator; NaN where none is stated
    """

    name: str
    operator: str
    T: int
    tunables: str
    arch: str
    gpu: str
    time_ms: float
    tflops: float
    intensity: float
    bound: str
    io_bound_bytes: float
    flops: float
    predicted_ms: float
    low_ms: float
    high_ms: float
    predicted_bound: str
    kept_mib: float

    @property
    def is_predicted(self) -> bool:
        return self.predicted_ms > 0

    @property
    def shown_tflops(self) -> float:
        """At the predicted time; at the floor where there is none."""
        return self.flops / self.predicted_ms / 1e9 if self.is_predicted else self.tflops


@dataclass(frozen=True)
class Failure:
    """A timed case without a time."""

    name: str
    variant: str
    T: int
    status: str

    @property
    def label(self) -> str:
        return label(self.name, self.variant)


def label(name: str, variant: str) -> str:
    """operator/implementation, and the variant where there is one."""
    return f"{clean(name)}{' · ' if variant else ''}{clean(variant)}"


def points_of(rows: Iterable[Row]) -> Iterator[Point]:
    """A point for each implementation, variant, run, T and tunables: the median over replicates."""
    timed = [row for row in rows if row["status"] == "ok" and row["time_ms"] > 0]
    for replicates in by(timed, "name", "variant", "run", "T", "tunables").values():
        yield _point(replicates)


def fastest(points: Iterable[Point]) -> tuple[Point, ...]:
    """Of several tunables at one T, the fastest."""
    best: dict[tuple[str, str, int, int], Point] = {}
    for point in points:
        key = (point.name, point.variant, point.run, point.T)
        if key not in best or point.time_ms < best[key].time_ms:
            best[key] = point
    return tuple(best.values())


def _point(replicates: Sequence[Row]) -> Point:
    """The median over replicates; the band is the widest of theirs."""
    first = replicates[0]
    figures: dict[str, Any] = {name: first[name] for name in _FIRSTS}
    figures |= {field: _of(median, replicates, column) for field, column in _MEDIANS.items()}
    figures |= {"p20_ms": _of(min, replicates, "p20_ms"), "p80_ms": _of(max, replicates, "p80_ms")}
    low, high = _of(min, replicates, "ci_low_ms"), _of(max, replicates, "ci_high_ms")
    # Launches differ by more than samples of one do.
    ends = [row["time_ms"] for row in replicates]
    known = low > 0 and high > 0
    return Point(**figures, low_ms=min([low, *ends] if known else ends), high_ms=max([high, *ends] if known else ends))


def _of(how: Callable[[list[float]], float], rows: Sequence[Row], name: str) -> float:
    known = [row[name] for row in rows if row[name] == row[name]]
    return how(known) if known else math.nan


def floors_of(rows: Iterable[Row]) -> tuple[Floor, ...]:
    """What static profiles say of these cases, of those that have FLOPs and bytes too."""
    return tuple(
        Floor(
            name=row["name"],
            operator=row["operator"],
            T=row["T"],
            tunables=row["tunables"],
            arch=clean(row["static.arch"] or row["device"]),
            gpu=clean(row["static.floor_gpu"]),
            time_ms=row["static.floor_ms"],
            tflops=row["flops_alg"] / row["static.floor_ms"] / 1e9,
            intensity=row["flops_alg"] / row["bytes_compulsory"],
            bound=clean(row["static.floor_bound"]),
            io_bound_bytes=row["static.io_bound_bytes"],
            flops=row["flops_alg"],
            predicted_ms=row["static.predicted_ms"],
            low_ms=row["static.predicted_low_ms"],
            high_ms=row["static.predicted_high_ms"],
            predicted_bound=clean(row["static.predicted_bound"]),
            kept_mib=row["static.kept_bytes"] / 2**20,
        )
        for row in rows
        if all(row[name] > 0 for name in ("static.floor_ms", "flops_alg", "bytes_compulsory"))
    )


def failures_of(rows: Iterable[Row]) -> tuple[Failure, ...]:
    """The cases that have no time, each once."""
    found = {(row["name"], row["variant"], row["T"], clean(row["status"])) for row in rows if row["status"] != "ok"}
    return tuple(Failure(*each) for each in sorted(found))
