"""Steps and drifts in a series of one figure over commits.

Where a series may change its level, PELT says (Killick, Fearnhead and Eckley 2012; the library `ruptures`). Each place
is then judged by itself: against what the noise of this series does in as many commits, and against a straight line
through the same points, which is a drift and no step. An outlier is pulled to its neighbours first: one slow run is no
change.

    found = changes([100.0] * 20 + [104.0] * 20)
    [(step.at, round(step.ratio, 2)) for step in found]      # [(20, 1.04)]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

# Commits on each side of a step, at least; points on each side of a point that it is compared with, and how many
# deviations from their median it may have.
LEAST, BESIDE, OUTLYING = 3, 2, 3.0
# The chance of a false step in a series of all its commits.
ALPHA = 0.02
# A change is no less than this: below, nobody acts on it.
SMALLEST = 0.005
# How much better than a line a step must describe its points, in log-likelihood.
PLAINLY = 2.0


@dataclass(frozen=True)
class Change:
    """One change of level.

    at:       index of the first point after it
    ratio:    the level after it over the level before it
    p:        the chance that noise makes one as large anywhere in the series
    low:      index of the earliest point that may be the first one after it; `at` is the likeliest
    high:     index of the latest
    """

    at: int
    ratio: float
    p: float
    low: int
    high: int


@dataclass(frozen=True)
class Drift:
    """A slow change: a line describes these points better than a step. ratio: its end over its beginning"""

    first: int
    last: int
    ratio: float


def changes(values: Sequence[float], alpha: float = ALPHA) -> list[Change]:
    """The steps of a series of positive values, in their order."""
    return [each for each in found_in(values, alpha) if isinstance(each, Change)]


def found_in(values: Sequence[float], alpha: float = ALPHA) -> list[Change | Drift]:
    """Steps and drifts of a series of positive values, in their order.

    alpha: the chance of a false step in the whole series
    Raises ValueError for a value that is not positive.
    """
    x = np.asarray(values, dtype=float)
    if not np.all(x > 0) or not np.all(np.isfinite(x)):
        raise ValueError("a series has values above 0 alone")
    if len(x) < 2 * LEAST:
        return []
    y = np.log(x)
    noise = noise_of(y)
    z = pulled(y, noise) / noise
    bounds = _significant(z, _bounds(z), alpha)
    return _told(y, z, bounds)


def noise_of(y: np.ndarray) -> float:
    """The deviation of single points, from differences of neighbours: a step has one of them, an outlier two."""
    steps = np.abs(np.diff(y))
    robust = float(np.median(steps)) / (float(stats.norm.ppf(0.75)) * math.sqrt(2))
    # Of a series that repeats its values exactly: what a figure with six digits cannot tell apart.
    return max(robust, 1e-6)


def pulled(y: np.ndarray, noise: float) -> np.ndarray:
    """Points that lie far from the median of their neighbours, at the distance that is allowed."""
    near = np.array([np.median(y[max(0, i - BESIDE) : i + BESIDE + 1]) for i in range(len(y))])
    return np.clip(y, near - OUTLYING * noise, near + OUTLYING * noise)


def _bounds(z: np.ndarray) -> list[int]:
    """Where PELT changes the level, at a penalty that lets more through than will be kept."""
    import ruptures

    penalty = 2 * math.log(len(z)) + 3.0
    # With a linear kernel the cost is that of squares around the level; this one is written in C.
    found = ruptures.KernelCPD(kernel="linear", min_size=LEAST).fit(z.reshape(-1, 1)).predict(pen=penalty)
    return [0, *map(int, found or [len(z)])]


def _significant(z: np.ndarray, bounds: list[int], alpha: float) -> list[int]:
    """The bounds without those that noise may have made. The least certain goes first; its neighbours are joined."""
    bounds = list(bounds)
    while len(bounds) > 2:
        chances = [_chance(z, bounds[i - 1], bounds[i], bounds[i + 1]) for i in range(1, len(bounds) - 1)]
        worst = int(np.argmax(chances))
        if chances[worst] <= alpha:
            break
        del bounds[worst + 1]
    return bounds


def _chance(z: np.ndarray, first: int, at: int, end: int) -> float:
    """The chance that noise alone makes the difference of two neighbouring segments anywhere in the series."""
    before, after = z[first:at], z[at:end]
    spread = math.sqrt(max(_variance(before, after), 1.0))
    t = abs(after.mean() - before.mean()) / (spread * math.sqrt(1 / len(before) + 1 / len(after)))
    # Each place might have been one; neighbours are not independent, so this errs on the safe side.
    return min(1.0, float(2 * stats.t.sf(t, len(before) + len(after) - 2)) * len(z))


def _variance(before: np.ndarray, after: np.ndarray) -> float:
    inner = np.concatenate([before - before.mean(), after - after.mean()])
    return float(np.sum(inner**2)) / max(len(inner) - 2, 1)


def _told(y: np.ndarray, z: np.ndarray, bounds: list[int]) -> list[Change | Drift]:
    """Bounds as steps; of neighbouring ones that a line describes better, a drift."""
    found: list[Change | Drift] = []
    i = 1
    while i < len(bounds) - 1:
        last = i
        # As many bounds to the same side as a line explains.
        while last < len(bounds) - 1 and _is_line(z, bounds[i - 1 : last + 2]):
            last += 1
        if last > i:
            first, end = bounds[i - 1], bounds[last]
            slope = np.polyfit(np.arange(first, end), y[first:end], 1)[0]
            found.append(Drift(first, end - 1, math.exp(slope * (end - 1 - first))))
            i = last
            if i >= len(bounds) - 1:
                break
            if _is_line(z, bounds[i - 1 : i + 2]):
                i += 1
                continue
        first, end = bounds[i - 1], bounds[i + 1]
        low, at, high = _place(z, first, end)
        step = float(np.median(y[at:end]) - np.median(y[first:at]))
        if abs(step) >= SMALLEST:
            found.append(Change(at, math.exp(step), _chance(z, first, bounds[i], end), low, high))
        i += 1
    return found


def _is_line(z: np.ndarray, bounds: Sequence[int]) -> bool:
    """Whether a line through these segments describes them better than their levels do."""
    first, end = bounds[0], bounds[-1]
    if len(bounds) < 3:
        return False
    part, at = z[first:end], np.arange(first, end)
    line = part - np.polyval(np.polyfit(at, part, 1), at)
    levels = sum(float(np.sum((z[a:b] - z[a:b].mean()) ** 2)) for a, b in pairwise(bounds))
    # A line has two parameters; levels have one each, and the places between them.
    parameters = 2 * len(bounds) - 3
    gain = (float(np.sum(line**2)) - levels) / 2 - (parameters - 2) * math.log(len(part)) / 2
    return gain < PLAINLY


def _place(z: np.ndarray, first: int, end: int) -> tuple[int, int, int]:
    """The likeliest place of a step, between the ends of the range of those that are nearly as likely: 95 %.

    Segments have LEAST points; a step in the last two commits is nearer to the end.
    """
    part = z[first:end]
    costs = []
    for place in range(1, len(part)):
        left, right = part[:place], part[place:]
        costs.append(float(np.sum((left - left.mean()) ** 2) + np.sum((right - right.mean()) ** 2)))
    best = first + 1 + int(np.argmin(costs))
    likely = [first + 1 + i for i, cost in enumerate(costs) if cost - min(costs) <= stats.chi2.ppf(0.95, 1)]
    return min(likely), best, max(likely)
