"""Which regime a scan runs in: host code that asks shapes and `suite.target()`, nothing else.

On chip, a program takes a whole sequence. Where sequences x blocks of channels leave SMs idle, sequences are cut into
segments of equal length, so that FILL warps an SM have work.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import suite
from suite import Problem

# Warps an SM below which sequences are cut, and up to which they are.
BUSY, FILL = 2, 4
# A segment costs states written and read: it has to be worth so many tokens, a multiple of every tile's.
LEAST, UNIT = 128, 32


@dataclass(frozen=True)
class Span:
    """The tokens of a call: sequences, tokens of the longest and of all, whether they are packed."""

    sequences: int
    longest: int
    tokens: int
    packed: bool

    @property
    def rows(self) -> int:
        """Sequences of the longest one's length that would be as much work: long among short ones counts as few."""
        return max(1, self.tokens // self.longest)


@dataclass(frozen=True)
class Cut:
    """How sequences are cut.

    segment:  tokens of a segment
    segments: segments of the longest sequence; 1 on chip
    slots:    states of all segments; packed, they follow from the sequences' offsets (see `locate` in linear_state)
    """

    segment: int
    segments: int
    slots: int

    @property
    def segmented(self) -> bool:
        return self.segments > 1

    def describe(self) -> dict[str, Any]:
        """For a record's configuration."""
        return {"regime": "segments", "segment": self.segment} if self.segmented else {"regime": "on-chip"}


def span_of(problem: Problem) -> Span:
    """The span of a problem's sequence passes."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    return Span(p.N, longest, p.B * p.T, bounds is not None)


def cut(span: Span, warps: int) -> Cut:
    """Segments for `suite.target()`, of a scan that takes so many warps a sequence."""
    sms = suite.target().sms
    if span.rows * warps >= BUSY * sms:
        return cut_into(span, span.longest)
    wanted = -(-span.rows * warps * span.longest // (FILL * sms))
    return cut_into(span, max(LEAST, -(-wanted // UNIT) * UNIT))


def cut_into(span: Span, segment: int) -> Cut:
    """The cut into segments of so many tokens."""
    segments = -(-span.longest // segment)
    slots = span.tokens // segment + span.sequences if span.packed else span.sequences * segments
    return Cut(segment, segments, slots)


def power_of_2(size: int) -> int:
    """The smallest power of 2 that holds `size`."""
    return 1 << (size - 1).bit_length()
