"""Shape: what a plan and a launch of these kernels depend on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from suite import Problem


@dataclass(frozen=True)
class Shape:
    """Sequences, tokens of the longest and of all, state heads, head dims, chunk, dtype, and the kind of recurrence.

    decay:  "none", "head", "token" or "step"; see device.py
    causal: whether a token reads the state up to itself, or that of its whole sequence
    """

    sequences: int
    longest: int
    tokens: int
    heads: int
    K: int
    V: int
    chunk: int
    dtype: str
    normalised: bool
    feature_map: str
    packed: bool
    decay: str = "none"
    causal: bool = True


def of_problem(
    problem: Problem,
    chunk: int,
    *,
    normalised: bool = False,
    feature_map: str = "identity",
    decay: str = "none",
    causal: bool = True,
) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    packed = bounds is not None
    return Shape(
        p.N, longest, p.B * p.T, p.HS, p.K, p.V, chunk, p.dtype, normalised, feature_map, packed, decay, causal
    )
