"""Estimates of a log-ratio of times, from two runs' replicates or from paired rounds. docs/gate.md has the formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Estimate:
    """A log-ratio: mean, standard error (infinite where one replicate is all there is), degrees of freedom, rounds."""

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
        """Standard deviation of a round's log-ratio."""
        return self.se * math.sqrt(self.rounds)

    def after(self, rounds: int) -> Estimate:
        """What the estimate would be after so many rounds of the same noise."""
        df = self.df * (rounds - 1) / (self.rounds - 1)
        return Estimate(self.mean, self.se * math.sqrt(self.rounds / rounds), df, rounds)

    def reach(self, level: float) -> float:
        """How far a one-sided bound lies from the mean."""
        return self.se * _quantile(level, self.df) if 0 < self.se < math.inf else self.se


def independent(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """The log-ratio of two independent samples of positive figures, one a replicate (Welch 1947)."""
    x, y = ([math.log(each) for each in side] for side in (before, after))
    mean, rounds = fmean(y) - fmean(x), min(len(x), len(y))
    if rounds < 2:
        return Estimate(mean, math.inf, 1.0, rounds)
    a, b = variance(x) / len(x), variance(y) / len(y)
    if a + b == 0:
        return Estimate(mean, 0.0, rounds - 1.0, rounds)
    df = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    return Estimate(mean, math.sqrt(a + b), df, rounds)


def paired(log_ratios: Sequence[float]) -> Estimate:
    """The mean of log-ratios, one a round that measured both revisions together (Student 1908)."""
    rounds = len(log_ratios)
    se = math.sqrt(variance(log_ratios) / rounds) if rounds > 1 else math.inf
    return Estimate(fmean(log_ratios), se, max(rounds - 1.0, 1.0), rounds)


def _quantile(level: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, level))
