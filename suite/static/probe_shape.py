"""The small problem at which issued traffic is counted, and the smaller GPU that host code sees there.

One sequence and one group of heads over a few chunks. As the problem has fewer heads and sequences, the GPU has fewer
SMs: host code that compares its blocks with the SMs then chooses as it would at full size. T grows until it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from suite.problem import Problem, Value
from suite.targets import Target

SMALLEST_T = 256
LARGEST_T = 2048
CHUNKS = 4


def small(problem: Problem, T: int) -> Problem:
    """The problem at T tokens, with one sequence and one group of heads."""
    heads = {name: getattr(problem, name) // problem.groups for name in ("H", "HK", "HV")}
    return problem.replace(B=1, T=T, **heads)


def lengths(problem: Problem, tunables: Mapping[str, Value]) -> Iterator[int]:
    """The T to try, shortest first: at least four chunks, at most the problem's own."""
    T = max(SMALLEST_T, CHUNKS * int(tunables.get("chunk", 0)))
    while T <= LARGEST_T and T < problem.T:
        yield T
        T *= 2
    if problem.T <= LARGEST_T:
        yield problem.T


def shrunk(target: Target, problem: Problem, counted: Problem) -> Target:
    """The target with as many fewer SMs as the counted problem has fewer heads and sequences."""
    share = counted.B * counted.HS / (problem.B * problem.HS)
    # n blocks fill x SMs exactly when they fill ceil(x), n being whole.
    return replace(target, sms=max(1, math.ceil(target.sms * share)))
