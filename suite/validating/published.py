"""Published timings as rows, and the cases that predict them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.discovery import ROOT
from suite.dtypes import SHORT
from suite.errors import UsageError
from suite.hardware.gpus import known
from suite.problem import PASSES, Case, Problem
from suite.registry import Registry
from suite.static.tasks import Task
from suite.static.timing.machines import machine_of

FOLDER = ROOT / "results" / "published"
# What sources name that is, or is taken for, a GPU with a machine table.
ALIASES = {"A100": "NVIDIA A100-SXM4-80GB", "NVIDIA H800": "NVIDIA H100 80GB HBM3"}
_SIZES = ("B", "T", "H", "HV", "K", "V")
_DTYPES = {short: name for name, short in SHORT.items()}


@dataclass(frozen=True)
class Point:
    """One published timing. `row` has the columns of its file; milliseconds."""

    file: str
    line: int
    row: dict[str, str]

    @property
    def gpu(self) -> str:
        return self.row["gpu"]

    @property
    def name(self) -> str:
        """OPERATOR/IMPLEMENTATION."""
        return f"{self.row['operator']}/{self.row['implementation']}"

    @property
    def pass_(self) -> str:
        return self.row["pass"]

    @property
    def ms(self) -> float:
        return float(self.row["ms"])

    @property
    def held_out(self) -> bool:
        """Whether nothing may be chosen by looking at it."""
        return self.row["held_out"] == "1"

    @property
    def shape(self) -> str:
        return " ".join([*(f"{name}{self.row[name]}" for name in _SIZES), self.row["dtype"], self.row["options"]])


def points(folder: Path = FOLDER) -> list[Point]:
    """All rows of the folder's files.

    Raises UsageError where the folder is missing, as in an installation without the repository's results, and where a
    file cannot be read, lacks a column, or has a value that is none of its column.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is missing: published timings come with a checkout of the repository; run it there")
    found = list[Point]()
    for path in sorted(folder.glob("*.csv")):
        line = 1
        try:
            with path.open(newline="", encoding="utf-8") as opened:
                for row in (rows := csv.DictReader(opened)):
                    line = rows.line_num
                    _check(row)
                    found.append(Point(path.name, line, row))
        except (csv.Error, KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: line {line} or what follows is damaged ({error}); compare it with README.md beside it"
            ) from error
    return found


def _check(row: Mapping[str, str]) -> None:
    """Raises KeyError, TypeError or ValueError where a row lacks a column, or has a value that is none of it."""
    for name in ("gpu", "implementation", "operator", "dtype", "lengths", "options", "note", "source"):
        if row[name] is None:
            raise ValueError(f"{name} is missing")
    for name in _SIZES:
        if int(row[name]) < 1:
            raise ValueError(f"{name} is {row[name]}")
    if not 0 < float(row["ms"]) < math.inf:
        raise ValueError(f"ms is {row['ms']}")
    for name, allowed in (("pass", PASSES), ("held_out", ("0", "1"))):
        if row[name] not in allowed:
            raise ValueError(f"{name} is {row[name]}, none of {', '.join(allowed)}")


def why_not(point: Point, registry: Registry) -> str:
    """Why a published timing cannot be compared with a prediction, or ""."""
    row = point.row
    if "host" in row["note"]:
        return "it is bound by the host"
    if not row["implementation"]:
        return "its implementation is not registered here"
    if machine_of(gpu_of(point)) is None:
        return f"there is no machine table for {point.gpu}"
    if row["dtype"] not in _DTYPES:
        return "its dtype is not stated"
    if row["lengths"]:
        return "it is of several packed sequences"
    operator = registry.operators.get(row["operator"])
    made = operator.implementations.get(row["implementation"]) if operator else None
    if made is None:
        return "its implementation is not registered here"
    return "its library is not installed here" if made.missing() else ""


def task_of(point: Point, registry: Registry) -> Task:
    """The case that a published timing is of. A call of one packed sequence is taken for a dense one."""
    row = point.row
    operator = registry.operator(row["operator"])
    made = operator.implementations[row["implementation"]]
    sizes: dict[str, Any] = {name: int(row[name]) for name in _SIZES}
    states = "initial and final state" in row["options"]
    problem = Problem(**sizes, dtype=_DTYPES[row["dtype"]], pass_=row["pass"], initial_state=states)
    case = Case(
        operator.name, made.name, operator.complete(problem), tuple(made.default_tunables.items()), operator.axes
    )
    gpu = known(gpu_of(point))
    assert gpu is not None
    return Task(case, gpu.arch, gpu.name, issued=False)


def gpu_of(point: Point) -> str:
    """The GPU whose machine table stands for that of a timing."""
    return ALIASES.get(point.gpu, point.gpu)


def comparable(found: Sequence[Point], registry: Registry) -> tuple[list[Point], dict[str, int]]:
    """The timings that can be compared with a prediction, and how many cannot, by why."""
    good, left = list[Point](), dict[str, int]()
    for point in found:
        if reason := why_not(point, registry):
            left[reason] = left.get(reason, 0) + 1
        else:
            good.append(point)
    return good, left
