"""From which T is a linear implementation faster than a quadratic one, or needs less memory? Measured and predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from suite.crossover import Meeting, Shared, Verdict, predicted_ms, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from suite.reporting.data.frame import Run
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Floor, Point


KINDS = ("linear", "quadratic")


@dataclass(frozen=True)
class Crossing:
    """How a linear and a quadratic implementation of one run compare at `pairs`: both measured at one T, in its order.

    run:      where ceilings are taken from, for the prediction; None where they are not known
    computed: what static profiles say of the group's cases on the run's device
    """

    pairs: tuple[tuple[Point, Point], ...]
    dtype: str
    run: Run | None
    computed: tuple[Floor, ...] = ()

    @property
    def linear(self) -> str:
        return self.pairs[0][0].label

    @property
    def quadratic(self) -> str:
        return self.pairs[0][1].label

    @property
    def longest(self) -> int:
        """The longest T that both have."""
        return self.pairs[-1][0].T

    @property
    def total_ms(self) -> float:
        """The sum of their times there."""
        return self.pairs[-1][0].time_ms + self.pairs[-1][1].time_ms

    @cached_property
    def shared(self) -> tuple[Shared, ...]:
        """The times that `time` judges."""
        return tuple(Shared(a.T, a.time_ms, a.low_ms, a.high_ms, b.time_ms, b.low_ms, b.high_ms) for a, b in self.pairs)

    @cached_property
    def time(self) -> Verdict:
        """What was measured of the time."""
        return verdict(self.shared)

    @cached_property
    def memory(self) -> Verdict | None:
        """What was measured of the memory; None where either recorded none."""
        return self._exact(lambda point: point.memory_mib)

    @cached_property
    def from_code(self) -> bool:
        """Whether the time of each case is predicted from its machine code."""
        return all(from_code(point, self.computed) > 0 for pair in self.pairs for point in pair)

    @cached_property
    def predicted(self) -> Verdict | None:
        """What machine code, else cost model and ceilings, say of the time at the same T; None without either."""
        if self.from_code:
            return self._exact(lambda point: from_code(point, self.computed))
        run = self.run
        return self._exact(lambda point: at_the_roof(point, self.dtype, run)) if run else None

    @property
    def predicted_how(self) -> str:
        return "from machine code" if self.from_code else "at the roofline"

    def _exact(self, value: Callable[[Point], float]) -> Verdict | None:
        """The verdict on figures without noise, over the T at which both have one."""
        known = [(a.T, value(a), value(b)) for a, b in self.pairs]
        shared = [Shared(T, x, x, x, y, y, y) for T, x, y in known if x > 0 and y > 0]
        return verdict(shared) if shared else None

    @property
    def meeting(self) -> Meeting | None:
        """Where the linear one becomes the faster one for good; None when it never does, or is so from the start."""
        return self.time.last


def crossings(group: Group, runs: Sequence[Run] = ()) -> list[Crossing]:
    """Every pair of a linear and a quadratic line of one run that share a T, the fastest at the longest T first.

    runs: where ceilings are taken from, for the prediction
    """
    linear, quadratic = ([line for line in group.lines.values() if getattr(line[0], kind)] for kind in KINDS)
    found = [_compare(group, runs, fast, slow) for fast in linear for slow in quadratic if fast[0].run == slow[0].run]
    return sorted((each for each in found if each), key=lambda each: (-each.longest, each.total_ms))


def _compare(group: Group, runs: Sequence[Run], fast: list[Point], slow: list[Point]) -> Crossing | None:
    by_T = {point.T: point for point in slow}
    pairs = tuple((point, by_T[point.T]) for point in fast if point.T in by_T)
    run = runs[fast[0].run] if fast[0].run < len(runs) else None
    arch = run.part("device").get("arch") if run else None
    computed = tuple(floor for floor in group.floors if floor.arch == arch)
    return Crossing(pairs, group.setting.dtype, run, computed) if pairs else None


def from_code(point: Point, computed: Iterable[Floor]) -> float:
    """The milliseconds that are predicted from a case's machine code; NaN where they are not."""
    key = point.name, point.T, point.tunables
    found = (each.predicted_ms for each in computed if (each.name, each.T, each.tunables) == key)
    return next(found, math.nan)


def at_the_roof(point: Point, dtype: str, run: Run) -> float:
    """The milliseconds that executed FLOPs and compulsory bytes take at the run's ceilings; NaN if one is unknown."""
    if not (point.intensity > 0 and point.flops_alg > 0):
        return math.nan
    flops = point.flops_exec if point.flops_exec > 0 else point.flops_alg
    llc = _whole(run.part("device").get("llc_bytes"))
    return predicted_ms(flops, point.flops_alg / point.intensity, dtype, dict(run.part("ceilings")), llc)


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def distinct(found: Iterable[Crossing], apart: float = 1.15) -> list[tuple[tuple[str, str], Meeting]]:
    """The meetings from which on a linear one is faster, with both labels, without those next to an earlier one."""
    kept: list[tuple[tuple[str, str], Meeting]] = []
    for each in found:
        if each.meeting and not any(_near(each.meeting, other, apart) for _, other in kept):
            kept.append(((each.linear, each.quadratic), each.meeting))
    return kept


def _near(one: Meeting, other: Meeting, apart: float) -> bool:
    pairs = ((one.T, other.T), (one.value, other.value))
    return all(max(a, b) / min(a, b) < apart for a, b in pairs)
