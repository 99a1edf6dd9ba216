"""Estimates of a log-ratio of times, from two runs' replicates or from paired rounds. docs/gate.md has the formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# The bias correction of the serial correlation needs more rounds than this.
UNCORRECTED = 4
# Above it, rounds determine next to nothing, and the formulas divide by differences of nearly equal numbers.
LARGEST_RHO = 0.97


@dataclass(frozen=True)
class Estimate:
    """A log-ratio: mean, standard error (infinite where the noise is unknown), degrees of freedom, rounds."""

    mean: float
    se: float
    df: float
    rounds: int

    def lower(self, level: float) -> float:
        """One-sided lower bound of the log-ratio."""
        return self.mean - self.reach(level)

    def upper(self, level: float) -> float:
        """One-sided upper bound of the log-ratio."""
        return self.mean + self.reach(level)

    @property
    def noise(self) -> float:
        """Standard deviation of a round's log-ratio, where rounds are independent."""
        return self.se * math.sqrt(self.rounds)

    def after(self, rounds: int) -> Estimate:
        """What the estimate would be after so many rounds of the same noise."""
        df = self.df * (rounds - 1) / (self.rounds - 1)
        return Estimate(self.mean, self.se * math.sqrt(self.rounds / rounds), df, rounds)

    def reach(self, level: float) -> float:
        """How far a one-sided bound lies from the mean."""
        return self.se * _quantile(level, self.df) if 0 < self.se < math.inf else self.se


@dataclass(frozen=True)
class Shift:
    """How far the levels of two runs of the same code differ by themselves.

    sd: standard deviation of a run's log-level
    df: its degrees of freedom
    """

    sd: float
    df: float


def independent(before: Sequence[float], after: Sequence[float], shift: Shift | None = None) -> Estimate:
    """The log-ratio of two independent samples of positive figures, one a replicate (Welch 1947, Satterthwaite 1946).

    shift: what the level of a run differs by from that of the next run of the same code; it counts once for each sample
    """
    x, y = ([math.log(each) for each in side] for side in (before, after))
    mean, rounds = fmean(y) - fmean(x), min(len(x), len(y))
    if rounds < 2:
        return Estimate(mean, math.inf, 1.0, rounds)
    parts = [(_variance(x) / len(x), len(x) - 1.0), (_variance(y) / len(y), len(y) - 1.0)]
    if shift is not None:
        parts.append((2 * shift.sd**2, shift.df))
    total = sum(part for part, _ in parts)
    if total == 0:
        return Estimate(mean, 0.0, rounds - 1.0, rounds)
    # Parts of the whole: squares of squares of small numbers would vanish.
    return Estimate(mean, math.sqrt(total), 1 / sum((part / total) ** 2 / df for part, df in parts), rounds)


def paired(log_ratios: Sequence[float]) -> Estimate:
    """The mean of log-ratios, one a round that measured both revisions together (Student 1908)."""
    rounds = len(log_ratios)
    se = math.sqrt(_variance(log_ratios) / rounds) if rounds > 1 else math.inf
    return Estimate(fmean(log_ratios), se, max(rounds - 1.0, 1.0), rounds)


def serial(log_ratios: Sequence[float], earlier: Sequence[float] = (), least_rho: float = 0.0) -> Estimate:
    """The mean of log-ratios of rounds that resemble those just before them: an AR(1) process.

    earlier:   rounds of the same case before these; the noise is estimated from all of them together
    least_rho: what is known of the correlation of two successive rounds
    """
    rounds, every = len(log_ratios), [*earlier, *log_ratios]
    if rounds < 2:
        return paired(log_ratios)
    squares, r = _squares(every)
    rho = min(LARGEST_RHO, max(0.0, least_rho, _unbiased(r, len(every))))
    var = squares / (len(every) - len(every) / effective_rounds(len(every), rho))
    df = max(1.0, effective_rounds(len(every), rho**2) - 1)
    return Estimate(fmean(log_ratios), math.sqrt(var / effective_rounds(rounds, rho)), df, rounds)


def autocorrelation(log_ratios: Sequence[float]) -> float:
    """The correlation of two successive rounds, -1 to 1, corrected for its bias (Marriott and Pope 1954)."""
    squares, r = _squares(log_ratios)
    return max(-1.0, min(1.0, _unbiased(r, len(log_ratios)))) if squares else 0.0


def effective_rounds(rounds: int, rho: float) -> float:
    """The independent rounds that would determine a mean as well as AR(1) rounds do (Bayley and Hammersley 1946).

    With rho squared: those that would determine a variance as well.
    """
    away = 1 - rho
    return rounds / ((1 + rho) / away - 2 * rho * (1 - rho**rounds) / (rounds * away**2))


def _variance(values: Sequence[float]) -> float:
    return _squares(values)[0] / (len(values) - 1)


def _squares(values: Sequence[float]) -> tuple[float, float]:
    """The sum of squares about the mean, and the serial correlation: 0 where all values are the same."""
    mean = fmean(values)
    about = [each - mean for each in values]
    squares = math.fsum(each * each for each in about)
    if squares == 0:
        return 0.0, 0.0
    return squares, sum(one * following for one, following in pairwise(about)) / squares


def _unbiased(r: float, rounds: int) -> float:
    """A serial correlation without its bias, -(1 + 4 rho) / n; 0 where there are too few rounds to correct it."""
    return (rounds * r + 1) / (rounds - 4) if rounds > UNCORRECTED else 0.0


# Simulations ask for the same few degrees of freedom again and again.
@lru_cache(4096)
def _quantile(level: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, level))
