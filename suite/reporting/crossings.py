"""From which T on is a linear implementation faster, or smaller, than a quadratic one? Measured beside predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite.crossover import Meeting, Shared, Verdict, predicted_ms, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from suite.reporting.frame import Run
    from suite.reporting.groups import Group, Point


@dataclass(frozen=True)
class Crossing:
    """How a linear and a quadratic implementation of one run compare over the T that both were measured at.

    time, memory: what was measured; memory is None where either recorded none
    predicted:    what cost model and ceilings say of the time at the same T; None without ceilings
    longest, total_ms: the longest T that both have, and the sum of their times there
    shared:       the times that `time` judges
    """

    linear: str
    quadratic: str
    time: Verdict
    memory: Verdict | None
    predicted: Verdict | None
    longest: int
    total_ms: float
    shared: tuple[Shared, ...]

    @property
    def meeting(self) -> Meeting | None:
        """Where the linear one becomes the faster one for good; None when it never does, or is so from the start."""
        return self.time.last


def crossings(group: Group, runs: Sequence[Run] = ()) -> list[Crossing]:
    """Every pair of a linear and a quadratic line of one run that share a T, the fastest at the longest T first.

    runs: where ceilings are taken from, for the prediction
    """
    lines = group.lines()
    found = [
        _compare(group, runs, lines[linear], lines[quadratic])
        for linear in lines
        for quadratic in lines
        if lines[linear][0].linear and lines[quadratic][0].quadratic and lines[linear][0].run == lines[quadratic][0].run
    ]
    return sorted((each for each in found if each), key=lambda each: (-each.longest, each.total_ms))


def _compare(group: Group, runs: Sequence[Run], fast: list[Point], slow: list[Point]) -> Crossing | None:
    by_T = {point.T: point for point in slow}
    pairs = [(point, by_T[point.T]) for point in fast if point.T in by_T]
    if not pairs:
        return None
    shared = tuple(Shared(a.T, a.time_ms, a.low_ms, a.high_ms, b.time_ms, b.low_ms, b.high_ms) for a, b in pairs)
    return Crossing(
        fast[0].label, slow[0].label, verdict(shared), _exact(pairs, lambda point: point.memory_mib),
        _predicted(group, runs, pairs), shared[-1].T, shared[-1].one + shared[-1].other, shared,
    )  # fmt: skip


def _exact(pairs: Sequence[tuple[Point, Point]], value: Callable[[Point], float]) -> Verdict | None:
    """The verdict on figures without noise, over the T at which both have one."""
    known = [(a.T, value(a), value(b)) for a, b in pairs if value(a) > 0 and value(b) > 0]
    return verdict([Shared(T, x, x, x, y, y, y) for T, x, y in known]) if known else None


def _predicted(group: Group, runs: Sequence[Run], pairs: Sequence[tuple[Point, Point]]) -> Verdict | None:
    run = pairs[0][0].run
    if run >= len(runs):
        return None
    ceilings, llc = dict(runs[run].part("ceilings")), _whole(runs[run].part("device").get("llc_bytes"))

    def at_the_roof(point: Point) -> float:
        if not (point.intensity > 0 and point.flops_alg > 0):
            return math.nan
        flops = point.flops_exec if point.flops_exec > 0 else point.flops_alg
        return predicted_ms(flops, point.flops_alg / point.intensity, group.setting.dtype, ceilings, llc)

    return _exact(pairs, at_the_roof)


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def distinct(found: Iterable[Crossing], apart: float = 1.15) -> list[Meeting]:
    """The meetings from which on a linear one is faster, without those that lie next to an earlier one."""
    kept: list[Meeting] = []
    for each in found:
        if each.meeting and not any(_near(each.meeting, other, apart) for other in kept):
            kept.append(each.meeting)
    return kept


def _near(one: Meeting, other: Meeting, apart: float) -> bool:
    pairs = ((one.T, other.T), (one.value, other.value))
    return all(max(a, b) / min(a, b) < apart for a, b in pairs)
