"""Comparisons: our fastest implementation against each peer, over the problems that both serve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from suite.analysis.entries import Entry, best, by_problem


@dataclass(frozen=True)
class Contest:
    """Ours against one implementation of one operator's pass.

    ratios:  its time over ours, problem by problem: above 1, ours is faster
    refused: problems of ours that it does not serve, and the reason that it gives most often
    """

    operator: str
    pass_: str
    rival: str
    origin: str
    ratios: tuple[float, ...]
    refused: int
    reason: str

    @property
    def mean(self) -> float:
        """Geometric mean of the ratios; NaN without any."""
        return geometric(self.ratios)

    @property
    def won(self) -> int:
        return sum(ratio > 1 for ratio in self.ratios)


def geometric(ratios: Sequence[float]) -> float:
    """Geometric mean; NaN of nothing."""
    return math.exp(fmean(math.log(each) for each in ratios)) if ratios else math.nan


def contests(found: Sequence[Entry], origins: Sequence[str] = ("peer",)) -> list[Contest]:
    """All contests over problems that ours serve, in the order of the records. Of tunables, the best count."""
    problems = by_problem(found)
    ours = {name: mine for name, each in problems.items() if (mine := best(e for e in each if e.origin == "ours"))}
    rivals = dict.fromkeys((e.operator, e.pass_, e.implementation, e.origin) for e in found if e.origin in origins)
    return [
        made
        for operator, pass_, rival, origin in rivals
        if (made := _contest(problems, ours, operator, pass_, rival, origin)) is not None
    ]


def _contest(
    problems: dict[str, list[Entry]], ours: dict[str, Entry], operator: str, pass_: str, rival: str, origin: str
) -> Contest | None:
    ratios, reasons = [], Counter[str]()
    for name, mine in ours.items():
        if (mine.operator, mine.pass_) != (operator, pass_):
            continue
        theirs = [each for each in problems[name] if each.implementation == rival]
        fastest = best(theirs)
        if fastest:
            ratios.append(fastest.time_ms / mine.time_ms)
        elif theirs:
            reasons[f"{theirs[0].status}: {theirs[0].reason.partition(chr(10))[0]}"] += 1
    if not ratios and not reasons:
        return None
    reason = reasons.most_common(1)[0][0] if reasons else ""
    return Contest(operator, pass_, rival, origin, tuple(ratios), reasons.total(), reason)
