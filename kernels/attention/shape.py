"""Shape: what a plan and a launch of these kernels depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import suite
from suite import Problem, dtypes

AUTO, POINTERS, DESCRIPTORS = "auto", "pointers", "descriptors"
WAYS = (AUTO, POINTERS, DESCRIPTORS)
# The first architecture whose copies by descriptor are done by hardware (TMA).
HAS_TMA = 90
# A descriptor's strides count in units of so many bytes.
ALIGNMENT = 16


@dataclass(frozen=True)
class Shape:
    """Sequences, tokens of the longest and of all, heads of q and of k and v, head dims, dtype, and who sees whom.

    window:   positions that a query sees on a side, its own included; 0: no limit
    dilation: tokens from one position to the next
    loads:    how tiles are read: "pointers" or "descriptors"; "auto" until `settled` has chosen
    """

    sequences: int
    longest: int
    tokens: int
    H: int
    HK: int
    K: int
    V: int
    dtype: str
    packed: bool
    causal: bool
    window: int = 0
    dilation: int = 1
    loads: str = POINTERS

    @property
    def positions(self) -> int:
        """Positions of the longest sequence: every `dilation`-th token is one."""
        return -(-self.longest // self.dilation)


def of_problem(problem: Problem, loads: str, *, causal: bool, window: int = 0, dilation: int = 1) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    return settled(
        Shape(
            p.N, longest, p.B * p.T, p.H, p.HK, p.K, p.V, p.dtype, bounds is not None, causal, window, dilation, loads
        )
    )


def settled(shape: Shape) -> Shape:
    """The shape with its way of loading chosen: by default descriptors, where hardware copies and the shape allows."""
    if shape.loads != AUTO:
        return shape
    plain = suite.target().tile_class < HAS_TMA or refuse_descriptors(shape)
    return replace(shape, loads=POINTERS if plain else DESCRIPTORS)


def refuse_descriptors(shape: Shape) -> str | None:
    """Why tiles cannot be read through descriptors, or None."""
    if shape.packed or shape.dilation > 1:
        return "descriptors read dense sequences of neighbouring tokens; use loads = pointers"
    for name, dim in (("K", shape.K), ("V", shape.V)):
        if dim * dtypes.BYTES[shape.dtype] % ALIGNMENT:
            return f"descriptors take rows of a multiple of {ALIGNMENT} bytes, not {name}{dim}; use loads = pointers"
    return None
