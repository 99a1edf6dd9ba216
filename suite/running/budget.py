"""The budget: how long a sweep may take, and whether the next problem still fits.

A problem's duration is predicted from those of its operator and pass that were measured before, with the power of T by
which the last two grew (1 to 2; 1 after a single one), so that a sweep stops before a problem and not in it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from suite.errors import UsageError
from suite.plan import Group

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# About 30 years; beyond it the functions that wait until then fail.
_LONGEST_S = 1e9


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `8m`, `1.5h` or `1h30m`."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"--budget {text}: not a duration; write 90s, 8m or 1h30m")
    seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in parts)
    if seconds <= 0:
        raise UsageError(f"--budget {text}: a budget must be longer than nothing; write 90s, 8m or 1h30m")
    if seconds > _LONGEST_S:
        raise UsageError(
            f"--budget {text[:24]}: the longest budget is {_LONGEST_S:.0f} s; remove --budget for no limit"
        )
    return seconds


@dataclass
class Budget:
    """Seconds in all, or None for no end. The clock starts when it is made.

    reserve: seconds of them that are kept for what comes after, such as writing and telling
    """

    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic
    reserve: float = 0.0
    _start: float = field(init=False)
    _spent: dict[tuple[str, str], dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._start = self.clock()

    @property
    def left(self) -> float | None:
        """Seconds left, or None without a budget."""
        return None if self.seconds is None else self.seconds - self.reserve - (self.clock() - self._start)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.left is not None and self.left <= 0

    def within(self, seconds: float) -> float:
        """So many seconds, or what is left where that is less."""
        return seconds if self.left is None else min(seconds, max(0.0, self.left))

    def cut(self, seconds: float) -> float:
        """Seconds that something is expected to take, and no more than are left."""
        left = self.left
        return seconds if left is None else min(seconds, max(0.0, left))

    def note(self, group: Group, seconds: float) -> None:
        """Remember how long a problem took."""
        self._spent.setdefault((group.operator, group.problem.pass_), {})[group.problem.T] = seconds

    def predict(self, group: Group) -> float:
        """Seconds that a problem will take, 0 when nothing like it was measured yet."""
        known = sorted(self._spent.get((group.operator, group.problem.pass_), {}).items())
        if not known:
            return 0.0
        T, seconds = known[-1]
        power = 1.0
        if len(known) > 1 and seconds > 0 and known[-2][1] > 0:
            power = math.log(seconds / known[-2][1]) / math.log(T / known[-2][0])
        longer = group.problem.T / T
        return seconds * longer ** (min(2.0, max(1.0, power)) if longer > 1 else 1.0)

    def fits(self, group: Group) -> bool:
        """Whether a problem may be started."""
        left = self.left
        return left is None or (left > 0 and self.predict(group) <= left)
