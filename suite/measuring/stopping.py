"""When to stop sampling: on the width of the median's confidence interval, or at a time limit.

The interval is the one of order statistics: with n figures the ranks come from the binomial distribution (n, 1/2), so
nothing is assumed of their distribution. The figures are the medians of blocks. Samples of one block are taken back to
back and share what the machine does at that moment, so they are not independent; blocks lie apart in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from statistics import median

# What the 95 % interval leaves outside on either side.
TAIL = Fraction(1, 40)
SMALLEST = 10
# The smallest number of figures whose extremes hold the median with at least 95 %: 1 - 2 / 2^6 = 96.9 %.
BLOCKS = 6


@lru_cache(maxsize=4096)
def _ranks(n: int) -> tuple[int, int]:
    # The smallest k of which P(X <= k) reaches the tail, in integers: P(X <= k) is the sum of n choose 0..k over 2^n.
    # scipy.stats knows it too, and takes a worker half as long to import as torch.
    k, least = 0, TAIL * 2**n
    ways = at_most = 1
    while at_most < least:
        ways = ways * (n - k) // (k + 1)
        k += 1
        at_most += ways
    low = max(k - 1, 0)
    return low, n - 1 - low


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the median of independent figures; their extremes when there are too few."""
    ordered = sorted(samples)
    low, high = _ranks(len(ordered))
    return ordered[low], ordered[high]


def block_interval(blocks: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The 95 % confidence interval of the median of samples that were taken in blocks, from the blocks' medians.

    It holds the median of all samples, which may lie outside where blocks differ in size.
    """
    low, high = median_interval([median(block) for block in blocks])
    middle = median([sample for block in blocks for sample in block])
    return min(low, middle), max(high, middle)


@dataclass(frozen=True)
class Stopping:
    """A rule: stop when the interval's half-width is at most `relative` of the median, or at the limit.

    relative: half-width over median, 0.01 for 1 %
    limit_ms: time that sampling takes by the wall clock, after which it stops whatever the interval
    smallest: samples that are taken in any case
    blocks:   blocks that are taken in any case
    """

    relative: float = 0.01
    limit_ms: float = 500.0
    smallest: int = SMALLEST
    blocks: int = BLOCKS

    def reason(self, blocks: Sequence[Sequence[float]], spent_ms: float) -> str | None:
        """`interval` or `time_limit` when sampling may stop, else None. Samples are in ms."""
        samples = [sample for block in blocks for sample in block]
        if len(samples) < self.smallest or len(blocks) < self.blocks:
            return None
        low, high = block_interval(blocks)
        if (high - low) / 2 <= self.relative * median(samples):
            return "interval"
        return "time_limit" if spent_ms >= self.limit_ms else None
