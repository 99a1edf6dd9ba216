"""How far predictions are from published timings: by family, GPU and pass.

A family is an implementation of an operator. Ratios are measured over predicted, so that one above 1 was slower than
predicted. The spread is the geometric standard deviation: x1.1 says that two thirds lie within a tenth of the mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from suite.static.model import Profile
from suite.static.pool import LEFT_OUT
from suite.validating.published import Point

# A median and a spread of fewer points say nothing.
FEWEST = 4
# What is aimed at: of the median, the least and the most; of the spread; of Kendall's tau within a family.
MEDIAN, SPREAD, TAU = (0.8, 1.25), 1.25, 0.95


@dataclass(frozen=True)
class Compared:
    """One published timing beside its prediction; predicted and floor are milliseconds.

    reason: why there is no prediction, "" where there is one
    """

    point: Point
    predicted: float | None = None
    floor: float | None = None
    bound: str = ""
    reason: str = ""

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        assert self.predicted
        return self.point.ms / self.predicted


@dataclass(frozen=True)
class Family:
    """How predictions of one implementation on one GPU in one pass compare.

    median, spread, tau: of measured over predicted; floor_median: of measured over floor
    """

    name: str
    gpu: str
    pass_: str
    held_out: bool
    count: int
    median: float
    spread: float
    tau: float | None
    floor_median: float | None

    @property
    def good(self) -> bool | None:
        """Whether it is within what is aimed at; None with too few points."""
        if self.count < FEWEST:
            return None
        ordered = self.tau is None or self.tau >= TAU
        return MEDIAN[0] <= self.median <= MEDIAN[1] and self.spread <= SPREAD and ordered


def compared(point: Point, profile: Profile | None) -> Compared:
    """A published timing beside what was predicted for its case."""
    if profile is None:
        return Compared(point, reason="it is not registered")
    if profile.status == LEFT_OUT:
        return Compared(point, reason="the budget left no time for it")
    if profile.status != "ok":
        return Compared(point, reason=f"{profile.status}: {profile.reason}")
    predicted = profile.predicted
    if predicted is None or predicted.ms is None:
        return Compared(point, reason=predicted.reason if predicted else "no machine table")
    floor = profile.floor.ms if profile.floor else None
    return Compared(point, predicted.ms, floor, predicted.bound)


def families(found: Iterable[Compared]) -> list[Family]:
    """Families in the order of their names; held-out points are families of their own."""
    by: dict[tuple[str, str, str, bool], list[Compared]] = {}
    for each in found:
        if each.predicted:
            point = each.point
            by.setdefault((point.name, point.gpu, point.pass_, point.held_out), []).append(each)
    return [_family(key, by[key]) for key in sorted(by)]


def _family(key: tuple[str, str, str, bool], found: Sequence[Compared]) -> Family:
    ratios = [each.ratio for each in found]
    floors = [each.point.ms / each.floor for each in found if each.floor]
    return Family(
        *key,
        count=len(found),
        median=statistics.median(ratios),
        spread=spread(ratios),
        tau=kendall([each.point.ms for each in found], [each.predicted or 0.0 for each in found]),
        floor_median=statistics.median(floors) if floors else None,
    )


def spread(ratios: Sequence[float]) -> float:
    """The geometric standard deviation; 1 of one number."""
    logs = [math.log(each) for each in ratios]
    return math.exp(statistics.pstdev(logs))


def kendall(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b: 1 where both are in one order, -1 in the opposite one; None where one of them is all alike."""
    pairs = [
        (_sign(a - c), _sign(b - d))
        for n, (a, b) in enumerate(zip(first, second, strict=True))
        for c, d in list(zip(first, second, strict=True))[:n]
    ]
    untied = [sum(bool(pair[side]) for pair in pairs) for side in (0, 1)]
    return sum(a * b for a, b in pairs) / math.sqrt(untied[0] * untied[1]) if all(untied) else None


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def worst(found: Iterable[Compared], most: int = 10) -> list[Compared]:
    """Those furthest from their prediction, either way."""
    known = [each for each in found if each.predicted]
    return sorted(known, key=lambda each: -abs(math.log(each.ratio)))[:most]


@dataclass(frozen=True)
class Validation:
    """All that `subquad validate` found.

    left: how many published timings have no prediction, by why
    """

    compared: list[Compared]
    left: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "families": [vars(each) | {"good": each.good} for each in families(self.compared)],
            "points": [
                {**each.point.row, "predicted_ms": each.predicted, "floor_ms": each.floor, "bound": each.bound}
                for each in self.compared
                if each.predicted
            ],
            "left": self.left,
        }
