"""When to stop sampling: on the width of the median's confidence interval, or at a time limit.

The interval is the one of order statistics: with n samples the ranks come from the binomial distribution (n, 1/2), so
nothing is assumed of the samples' distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

CONFIDENCE = 0.95
SMALLEST = 10


@lru_cache(maxsize=4096)
def _ranks(n: int) -> tuple[int, int]:
    from scipy.stats import binom

    low = int(binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)) - 1
    low = max(low, 0)
    return low, n - 1 - low


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median; the extremes when there are too few samples for one."""
    ordered = sorted(samples)
    low, high = _ranks(len(ordered))
    return ordered[low], ordered[high]


@dataclass(frozen=True)
class Stopping:
    """A rule: stop when the interval's half-width is at most `relative` of the median, or at the limit.

    relative: half-width over median, 0.01 for 1 %
    limit_ms: time spent in samples after which sampling stops whatever the interval
    smallest: samples that are taken in any case
    """

    relative: float = 0.01
    limit_ms: float = 500.0
    smallest: int = SMALLEST

    def reason(self, samples: Sequence[float]) -> str | None:
        """`interval` or `time_limit` when sampling may stop, else None. Samples are in ms."""
        if len(samples) < self.smallest:
            return None
        low, high = median_interval(samples)
        if (high - low) / 2 <= self.relative * median(samples):
            return "interval"
        return "time_limit" if sum(samples) >= self.limit_ms else None
