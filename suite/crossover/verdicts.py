"""Where two lines cross, and the interval of that length.

At each length r = log(one / other), with bounds from both intervals. Where the bounds lie on one side of 0 a winner can
be told; elsewhere it is a tie. Each change of winner brackets a meeting: r is taken as straight in log T between the
lengths measured, so the meeting is where r passes 0, and its interval runs from where the one bound passes 0 to where
the other does. Only lengths at which winners can be told make crossings: noise makes none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Shared:
    """Both lines at one length: each a value with the bounds of its interval, in one unit, above 0."""

    T: int
    one: float
    one_low: float
    one_high: float
    other: float
    other_low: float
    other_high: float

    @property
    def log_ratio(self) -> float:
        return math.log(self.one / self.other)

    @property
    def least(self) -> float:
        return math.log(self.one_low / self.other_high)

    @property
    def most(self) -> float:
        return math.log(self.one_high / self.other_low)

    @property
    def winner(self) -> int:
        """-1 where `one` is less, 1 where `other` is, 0 where that cannot be told."""
        return -1 if self.most < 0 else 1 if self.least > 0 else 0


@dataclass(frozen=True)
class Meeting:
    """Where two lines meet: T with its interval, the value there, and whether `one` is less from there on."""

    T: float
    low: float
    high: float
    value: float
    one_after: bool


@dataclass(frozen=True)
class Verdict:
    """All meetings in the order of T, and the finding in words, always with the range it holds for."""

    meetings: tuple[Meeting, ...]
    says: str

    @property
    def last(self) -> Meeting | None:
        """The meeting from which on `one` is less for good, where there is one."""
        return self.meetings[-1] if self.meetings and self.meetings[-1].one_after else None


def verdict(shared: Sequence[Shared]) -> Verdict:
    """How two lines compare over the lengths that both have, at least one, in the order of T."""
    told = [each for each in shared if each.winner]
    meetings = tuple(_meet(shared, a, b) for a, b in pairwise(told) if a.winner != b.winner)
    return Verdict(meetings, f"{_finding(shared, told, meetings)} ({_range(shared)})")


def _finding(shared: Sequence[Shared], told: Sequence[Shared], meetings: Sequence[Meeting]) -> str:
    if not told:
        return "no difference can be told"
    tied = "" if shared[-1].winner else f"; no difference can be told beyond T = {told[-1].T:,}"
    if not meetings:
        # A tie at the shortest lengths hides where the lines meet.
        where = "at every length" if shared[0].winner else f"from at most T = {told[0].T:,}"
        return (where if told[0].winner < 0 else "not in range") + tied
    last = meetings[-1]
    if not last.one_after:
        spans = f"up to T = {_size(last.T)}"
        if len(meetings) > 1:
            spans = f"from T = {_size(meetings[-2].T)} to {_size(last.T)}"
        return f"only {spans}{_interval(last)}{_several(meetings)}{tied}"
    return f"from T = {_size(last.T)}{_interval(last)}{_several(meetings)}{tied}"


def _several(meetings: Sequence[Meeting]) -> str:
    return f", the last of {len(meetings)} crossings" if len(meetings) > 1 else ""


def _interval(meeting: Meeting) -> str:
    """The interval in words; figures without noise have none."""
    low, high = _size(meeting.low), _size(meeting.high)
    return "" if meeting.low == meeting.high else f", 95 % interval {low} to {high}"


def _size(T: float) -> str:
    return f"{float(f'{T:.3g}'):,.0f}" if T >= 100 else f"{T:.3g}"


def _range(shared: Sequence[Shared]) -> str:
    first, last = shared[0].T, shared[-1].T
    return f"measured at T = {first:,}" if first == last else f"measured from T = {first:,} to {last:,}"


def _meet(shared: Sequence[Shared], before: Shared, after: Shared) -> Meeting:
    """The meeting between two lengths at which the winner differs; ties lie between them, or nothing."""
    part = [each for each in shared if before.T <= each.T <= after.T]
    T = _zero(part, [each.log_ratio for each in part])
    ends = sorted((_zero(part, [each.least for each in part]), _zero(part, [each.most for each in part])))
    return Meeting(T, ends[0], ends[1], _value_at(part, T), after.winner < 0)


def _zero(part: Sequence[Shared], values: Sequence[float]) -> float:
    """The last T at which values that are straight in log T pass 0; they do, since the ends differ in sign."""
    found = float(part[-1].T)
    for (a, x), (b, y) in pairwise(zip(part, values, strict=True)):
        if x == y or (x > 0) == (y > 0):
            continue
        found = a.T * (b.T / a.T) ** (x / (x - y))
    return found


def _value_at(part: Sequence[Shared], T: float) -> float:
    for a, b in pairwise(part):
        if a.T <= T <= b.T:
            return a.one * (b.one / a.one) ** (math.log(T / a.T) / math.log(b.T / a.T))
    return part[-1].one
