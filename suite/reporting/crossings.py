"""From which T on is a linear implementation faster than a quadratic one?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.reporting.scales import figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from suite.reporting.groups import Group, Point


@dataclass(frozen=True)
class Crossing:
    """How a linear and a quadratic implementation of one run compare over the T that both were measured at.

    T:    where the linear one becomes the faster one for good, interpolated in log-log; None when it never does, or
          when it is faster at the shortest T already
    ms:   the time at that T
    says: the verdict in words, always with the range it holds for
    longest, total_ms: the longest T that both have, and the sum of their times there
    """

    linear: str
    quadratic: str
    T: float | None
    ms: float | None
    says: str
    longest: int
    total_ms: float


def crossings(group: Group) -> list[Crossing]:
    """Every pair of a linear and a quadratic line of one run that share a T, the fastest at the longest T first."""
    lines = group.lines()
    found = [
        _compare(linear, lines[linear], quadratic, lines[quadratic])
        for linear in lines
        for quadratic in lines
        if lines[linear][0].linear and lines[quadratic][0].quadratic and lines[linear][0].run == lines[quadratic][0].run
    ]
    return sorted((each for each in found if each), key=lambda each: (-each.longest, each.total_ms))


def _compare(linear: str, fast: list[Point], quadratic: str, slow: list[Point]) -> Crossing | None:
    by_T = {point.T: point.time_ms for point in slow}
    shared = [(point.T, point.time_ms, by_T[point.T]) for point in fast if point.T in by_T]
    if not shared:
        return None
    T, ms, says = _verdict(shared)
    return Crossing(linear, quadratic, T, ms, says, longest=shared[-1][0], total_ms=shared[-1][1] + shared[-1][2])


def _verdict(shared: list[tuple[int, float, float]]) -> tuple[float | None, float | None, str]:
    first, last = shared[0][0], shared[-1][0]
    measured = f"measured at T = {first:,}" if first == last else f"measured from T = {first:,} to {last:,}"
    if shared[-1][1] >= shared[-1][2]:
        return None, None, f"not in range ({measured})"
    pairs = reversed(list(itertools.pairwise(shared)))
    change = next(((a, b) for a, b in pairs if a[1] >= a[2]), None)
    if change is None:
        return None, None, f"at every length ({measured})"
    T, ms = _meet(*change)
    times = sum((a[1] < a[2]) != (b[1] < b[2]) for a, b in itertools.pairwise(shared))
    again = f", the last of {times} crossings" if times > 1 else ""
    return T, ms, f"from T = {figure(T)} ({measured}{again})"


def _meet(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[float, float]:
    """T and ms where two lines that are straight in log-log meet between a and b, each (T, one ms, other ms)."""
    before, after = math.log(a[1] / a[2]), math.log(b[2] / b[1])
    part = before / (before + after)
    return a[0] * (b[0] / a[0]) ** part, a[1] * (b[1] / a[1]) ** part


def distinct(found: Iterable[Crossing], apart: float = 1.15) -> list[Crossing]:
    """Those that have a T, without the ones that lie next to an earlier one in T and time."""
    kept: list[Crossing] = []
    for each in found:
        if each.T and each.ms and not any(_near(each, other, apart) for other in kept):
            kept.append(each)
    return kept


def _near(one: Crossing, other: Crossing, apart: float) -> bool:
    pairs = ((one.T, other.T), (one.ms, other.ms))
    return all(a and b and max(a, b) / min(a, b) < apart for a, b in pairs)
