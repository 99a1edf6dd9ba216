"""Decisions: numbers in, a verdict with its reason out. docs/gate.md is the same as prose and formulas."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from suite.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from suite.gating.estimates import Estimate

Verdict = Literal["faster", "same", "slower", "inconclusive", "broken", "missing", "new", "unchanged"]
FAILING = frozenset({"slower", "broken", "missing"})
JUDGED = frozenset({"faster", "same", "slower"})
# What two revisions' machine code may be made to fail on, whatever the predicted time.
FAIL_ON = ("spills", "occupancy", "tensor")
# How sure a `slower` and a `same` must be; docs/gate.md says why they differ.
SLOWER_LEVEL = 0.995
SAME_LEVEL = 0.95
# More rounds than anyone would wait for.
MANY = 1000
# The largest change, a fraction, that is worth telling as one that could have been seen.
LARGEST_TOLD = 9.0
# Logarithms beyond it are no floats.
LARGEST_LOG = 700.0


@dataclass(frozen=True)
class Limits:
    """What counts as worse.

    margin:   relative slowdown that is allowed
    min_difference_us: difference in time that is allowed, microseconds
    rounds:   replicates that a side must have
    memory, memory_mib: relative and absolute growth that is allowed, both
    own:      whether the margin is the case's own, measured by gating it against itself
    """

    margin: float = 0.02
    min_difference_us: float = 2.0
    rounds: int = 8
    memory: float = 0.01
    memory_mib: float = 1.0
    own: bool = False

    def widened(self, floor: float) -> Limits:
        """These limits for a case whose A/A floor is known: the margin is that floor where it is the wider one."""
        return replace(self, margin=floor, own=True) if floor > self.margin else self


@dataclass(frozen=True)
class Decision:
    """A verdict, its reason, and the figures it rests on; ratios are after over before, None where unknown."""

    verdict: Verdict
    reason: str
    ratio: float | None = None
    lower: float | None = None
    upper: float | None = None
    margin: float | None = None
    rounds: int | None = None
    smallest_detectable: float | None = None

    @property
    def exit(self) -> Exit:
        """The exit code that this decision alone would give."""
        if self.verdict in FAILING:
            return Exit.REGRESSION
        return Exit.INCONCLUSIVE if self.verdict == "inconclusive" else Exit.PASS


def judge_status(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> Decision | None:
    """Decide from (status, reason) of each replicate alone; None when the numbers have to decide."""
    failed = [each for each in after if each[0] != "ok"]
    if not before:
        if wrong := [each for each in failed if each[0] == "incorrect"]:
            return Decision("broken", f"not in the baseline, and {_told(wrong, of=len(after))}")
        return Decision("new", _told(failed) if failed else "not in the baseline")
    if all(status != "ok" for status, _ in before):
        if after and not failed:
            return Decision("new", f"has a number now; before {_told(before)}")
        return Decision("unchanged", f"no number to lose: before {_told(before)}; now {_told(failed) or 'no record'}")
    if not after:
        return Decision("missing", "had a number before, no record now")
    if not failed:
        return None
    if flaky := [each for each in before if each[0] != "ok"]:
        return Decision("inconclusive", f"fails at times on both sides: before {_told(flaky)}; now {_told(failed)}")
    return Decision("broken", f"ok before, now {_told(failed, of=len(after))}")


def _told(replicates: Sequence[tuple[str, str]], of: int = 0) -> str:
    """`crashed (2 of 8 launches): signal 11`, for the first status among the replicates; empty without any."""
    if not replicates:
        return ""
    status, reason = replicates[0]
    count = f" ({len(replicates)} of {of} launches)" if of > len(replicates) else ""
    return f"{status}{count}: {reason}" if reason else f"{status}{count}"


def judge_time(
    time: Estimate,
    before_ms: float,
    limits: Limits,
    cycles: Estimate | None = None,
    level: float = SLOWER_LEVEL,
) -> Decision:
    """Decide about time.

    time:      the log-ratio of times, after over before
    before_ms: the time before, by which a ratio becomes a difference in time
    cycles:    the log-ratio of clock cycles, where a clock is known
    level:     how sure a `slower` must be
    """
    low, high, edge = time.lower(level), time.upper(SAME_LEVEL), math.log1p(limits.margin)

    def negligible(log_ratio: float) -> bool:
        return abs(math.expm1(min(log_ratio, LARGEST_LOG))) * before_ms * 1e3 <= limits.min_difference_us

    def decided(verdict: Verdict, why: str = "") -> Decision:
        return _time_decision(verdict, why, time, low, high, limits)

    if time.rounds < limits.rounds:
        return decided("inconclusive", f"{time.rounds} of the {limits.rounds} launches that each side needs")
    if low > edge:
        if negligible(time.mean):
            return decided("same", f"at most the allowed {limits.min_difference_us:g} µs")
        if cycles is not None and cycles.lower(level) <= edge:
            return decided("inconclusive", f"in cycles {_percent(cycles.mean)}: the clock may have fallen")
        return decided("slower")
    if high < -edge and not negligible(time.mean):
        return decided("faster")
    if high <= edge:
        return decided("same")
    if negligible(high):
        return decided("same", f"at most {limits.min_difference_us:g} µs")
    return decided("inconclusive", "the noise is too large to decide")


def undecided_time(time: Estimate, limits: Limits, why: str) -> Decision:
    """`inconclusive` about time for a reason that is not in the figures; they are told as they are."""
    return _time_decision("inconclusive", why, time, time.lower(SLOWER_LEVEL), time.upper(SAME_LEVEL), limits)


def smallest_detectable(time: Estimate, margin: float) -> float | None:
    """The slowdown, a fraction, that about 95 of 100 such comparisons would see.

    None where the noise is unknown, or too large for any slowdown of LARGEST_TOLD.
    """
    change = math.log1p(margin) + time.reach(SLOWER_LEVEL) + time.reach(SAME_LEVEL)
    return math.expm1(change) if change <= math.log1p(LARGEST_TOLD) else None


def rounds_to_see(time: Estimate, margin: float, change: float) -> int | None:
    """Rounds, or replicates per side, after which the smallest detectable change is `change`; None when MANY do not do.

    The noise is taken to stay as it is.
    """
    if time.rounds < 2 or change <= margin:
        return None

    def sees(rounds: int) -> bool:
        seen = smallest_detectable(time.after(rounds), margin)
        return seen is not None and seen <= change

    found = 2 + bisect_left(range(2, MANY + 1), True, key=sees)
    return found if found <= MANY else None


def _time_decision(verdict: Verdict, why: str, time: Estimate, low: float, high: float, limits: Limits) -> Decision:
    known = math.isfinite(time.se)
    detectable = smallest_detectable(time, limits.margin)
    interval = f", {_percent(low)} to {_percent(high)}" if known else ""
    reason = f"time {_percent(time.mean)}{interval}" + (f"; {why}" if why else "")
    if verdict == "inconclusive":
        reason += f"; smallest change it could have seen: {_detectable(time, detectable, limits)}"
    if limits.own:
        reason += f"; margin {limits.margin:.1%}, its own A/A floor"
    return Decision(
        verdict,
        reason,
        math.exp(time.mean),
        math.exp(low) if known else None,
        math.exp(min(high, LARGEST_LOG)) if known else None,
        limits.margin,
        time.rounds,
        detectable,
    )


def _detectable(time: Estimate, detectable: float | None, limits: Limits) -> str:
    """`+6.1%; 24 rounds would see +4.0%`: twice the margin is what leaves room for both mistakes on either side."""
    if detectable is None:
        return "unknown"
    goal = 2 * limits.margin
    enough = rounds_to_see(time, limits.margin, goal)
    if enough is None or enough <= time.rounds:
        return f"+{detectable:.1%}"
    return f"+{detectable:.1%}; {enough} rounds would see +{goal:.1%}"


def _percent(log_ratio: float) -> str:
    """`+5.1%`, and `times 43` where a percentage would be long."""
    if log_ratio > math.log1p(LARGEST_TOLD):
        return f"times {math.exp(min(log_ratio, LARGEST_LOG)):.3g}"
    return f"{math.expm1(log_ratio):+.1%}"


def judge_memory(before: float | None, after: float | None, limits: Limits) -> Decision:
    """Decide about peak memory, MiB; None where it was not measured."""
    if before is None:
        return Decision("new", f"{after:.1f} MiB, not measured before", margin=limits.memory)
    if after is None:
        return Decision("inconclusive", f"{before:.1f} MiB before, not measured now", margin=limits.memory)
    reason = f"{before:.1f} MiB before, {after:.1f} now"
    verdict: Verdict = "same"
    if _larger(after, before, limits):
        verdict, reason = "slower", f"larger: {reason}"
    elif _larger(before, after, limits):
        verdict, reason = "faster", f"smaller: {reason}"
    return Decision(verdict, reason, after / before if before > 0 else None, margin=limits.memory)


def _larger(one: float, other: float, limits: Limits) -> bool:
    return one > other * (1 + limits.memory) and one - other > limits.memory_mib


def judge_error(before: Mapping[str, float], after: Mapping[str, float], limit: float | None) -> Decision:
    """Decide about the errors of outputs and gradients by name, held to `limit`; the worst one decides."""
    if gone := [name for name in before if name not in after]:
        return Decision("missing", f"{gone[0]} was checked before and is not now")
    if not before:
        return Decision("new", "not checked before")
    if limit is None:
        return Decision("inconclusive", "the limit that the errors were held to is not recorded on both sides")
    judged = [_judge_one(name, error, after[name], limit) for name, error in before.items()]
    order = ("slower", "faster", "same")
    return min(judged, key=lambda each: (order.index(each.verdict), -(each.ratio or 0.0)))


def _judge_one(name: str, before: float, after: float, limit: float) -> Decision:
    reason = f"error of {name} {before:.1e} before, {after:.1e} now, limit {limit:.1e}"
    verdict: Verdict = "same"
    if _less_exact(after, before, limit):
        verdict, reason = "slower", f"less exact: {reason}"
    elif _less_exact(before, after, limit):
        verdict, reason = "faster", f"more exact: {reason}"
    return Decision(verdict, reason, after / before if before > 0 else None)


def _less_exact(one: float, other: float, limit: float) -> bool:
    return (one > 1.1 * other and one > limit / 2) or (one > 2 * other and one > limit / 10)
