"""Compare: what changed between two stored runs, case by case, the largest change first.

A comparison needs no number of replicates: it shows changes beyond a threshold, and can fail on them. `suite.gating`
decides whether a small change is more than the noise between replicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.errors import Exit, worst
from suite.gating.decisions import Decision, Limits, judge_status
from suite.gating.stored import errors, memory, statuses
from suite.store.pairs import CaseKey, Mismatch, Pair, Source, pair_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.store.paths import AnyPath
    from suite.store.reading import Record

SCHEMA = "1.0"
LIMITS = Limits()


@dataclass(frozen=True)
class Time:
    """A side's time, ms: the median over its replicates, and the hull of their 95 % intervals."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """What changed in one case; None where neither side has the figure. `status` decides alone when it is not None."""

    key: CaseKey
    replicates: tuple[int, int]
    status: Decision | None = None
    before: Time | None = None
    after: Time | None = None
    time: Decision | None = None
    memory: Decision | None = None
    error: Decision | None = None

    @property
    def decisions(self) -> dict[str, Decision]:
        """The decisions by metric."""
        named = {"status": self.status, "time": self.time, "memory": self.memory, "error": self.error}
        return {name: each for name, each in named.items() if each is not None}

    @property
    def changed(self) -> bool:
        return any(each.verdict not in ("same", "unchanged") for each in self.decisions.values())

    @property
    def size(self) -> float:
        """For sorting: lost cases first, then by the largest ratio of any metric, then what has no number."""
        if self.status is not None:
            return math.inf if self.status.exit == Exit.REGRESSION else 0.0
        ratios = [each.ratio for each in self.decisions.values() if each.ratio]
        return max((abs(math.log(ratio)) for ratio in ratios), default=0.0)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.key._asdict(),
            "launches": list(self.replicates),
            "before_ms": vars(self.before) if self.before else None,
            "after_ms": vars(self.after) if self.after else None,
            "changes": {
                name: {"verdict": each.verdict, "reason": each.reason, "ratio": each.ratio}
                for name, each in self.decisions.items()
            },
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs' changes, the largest first."""

    base: Source
    candidate: Source
    mismatches: tuple[Mismatch, ...]
    threshold: float
    changes: tuple[Change, ...]

    @property
    def exit(self) -> Exit:
        """What `--fail` returns."""
        return worst(each.exit for change in self.changes for each in change.decisions.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "exit": int(self.exit),
            "base": vars(self.base),
            "candidate": vars(self.candidate),
            "environment": {"match": not self.mismatches, "differences": [vars(each) for each in self.mismatches]},
            "threshold": self.threshold,
            "cases": [each.to_json() for each in self.changes],
        }


def compare(
    base: AnyPath, candidate: AnyPath, *, threshold: float = 0.05, allow_env_mismatch: bool = False
) -> Comparison:
    """Compare two stored runs.

    threshold: the relative change in time below which a case counts as the same
    Raises IncomparableError when the fingerprints differ, unless that is allowed; StoreError when either is no run.
    """
    pairing = pair_runs(base, candidate)
    if not allow_env_mismatch:
        pairing.require_match()
    changes = sorted((change_of(pair, threshold) for pair in pairing.pairs), key=lambda each: -each.size)
    return Comparison(pairing.base, pairing.candidate, pairing.mismatches, threshold, tuple(changes))


def change_of(pair: Pair, threshold: float) -> Change:
    """What changed in one case."""
    replicates = len(pair.before), len(pair.after)
    if status := judge_status(statuses(pair.before), statuses(pair.after)):
        return Change(pair.key, replicates, status)
    before, after = ([each for each in side if each["status"] == "ok"] for side in (pair.before, pair.after))
    error = errors(before, after)
    if pair.key.kind != "timed":
        return Change(pair.key, replicates, error=error)
    x, y = _time(before), _time(after)
    return Change(pair.key, replicates, None, x, y, judge(x, y, threshold), memory(before, after, LIMITS), error)


def _time(records: Sequence[Record]) -> Time:
    return Time(
        median(each["time_ms"] for each in records),
        min(_bound(each, "ci_low_ms") for each in records),
        max(_bound(each, "ci_high_ms") for each in records),
    )


def _bound(record: Record, name: str) -> float:
    value = record.get(name)
    return record["time_ms"] if value is None else value


def judge(before: Time, after: Time, threshold: float) -> Decision:
    """A change beyond the threshold counts when the two intervals are disjoint; inconclusive when they overlap."""
    ratio = after.median / before.median
    reason = f"{before.median:.4g} ms before, {after.median:.4g} now"
    if 1 / (1 + threshold) <= ratio <= 1 + threshold:
        return Decision("same", reason, ratio, margin=threshold)
    if before.low <= after.high and after.low <= before.high:
        return Decision("inconclusive", f"{reason}; the intervals overlap", ratio, margin=threshold)
    return Decision("slower" if ratio > 1 else "faster", reason, ratio, margin=threshold)
