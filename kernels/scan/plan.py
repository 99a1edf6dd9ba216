"""Which regime a scan runs in: host code that depends on shapes and `suite.target()` alone.

On chip, a program takes a whole sequence. Where sequences x blocks of channels leave SMs idle, sequences are cut into
segments of equal length, so that FILL warps an SM have work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

import suite
from suite import Problem
from suite.problem import Value
from suite.tuning import choice

Tile = TypeVar("Tile")

# Warps an SM below which sequences are cut, and up to which they are.
BUSY, FILL = 2, 4
# Modes of a channel that kernels with states of their own hold in registers.
MAX_MODES = 256
# A segment costs states written and read: it must be worth so many tokens, a multiple of every tile's.
LEAST, UNIT = 128, 32


@dataclass(frozen=True)
class Span:
    """The tokens of a call: sequences, tokens of the longest and of all.

    packed: whether sequences lie in one row; some_empty: whether one has no tokens
    """

    sequences: int
    longest: int
    tokens: int
    packed: bool
    some_empty: bool = False

    @property
    def rows(self) -> int:
        """Sequences of the longest one's length that would be as much work: long among short ones counts as few."""
        return max(1, self.tokens // self.longest)


@dataclass(frozen=True)
class Cut:
    """How sequences are cut.

    segment_size: tokens of a segment
    segments:     segments of the longest sequence; 1 on chip
    slots:        states of all segments; packed, they follow from the sequences' offsets (see `locate`)
    """

    segment_size: int
    segments: int
    slots: int

    @property
    def segmented(self) -> bool:
        return self.segments > 1

    def describe(self) -> dict[str, Any]:
        """The plan, as a record's `configuration` holds it."""
        return {"regime": "segments", "segment": self.segment_size} if self.segmented else {"regime": "on-chip"}


@dataclass(frozen=True)
class Plan(Generic[Tile]):
    """How a call is cut, and each kernel's tile, a dataclass of the operator's own.

    kernels: names by pass, in order; those that begin with "local" are launched in segments only
    """

    cut: Cut
    tiles: Mapping[str, Tile]
    kernels: Mapping[str, Sequence[str]]

    def launched(self, pass_: str) -> list[str]:
        """The kernels of a pass that have tiles, in order."""
        passes = ("fwd", "bwd") if pass_ == "fwdbwd" else (pass_,)
        names = [name for each in passes for name in self.kernels[each]]
        return [name for name in names if self.cut.segmented or not name.startswith("local")]

    def describe(self, pass_: str) -> dict[str, Any]:
        """The plan, as a record's `configuration` holds it."""
        return {name: {**self.cut.describe(), **_fields(self.tiles[name])} for name in self.launched(pass_)}

    def search(
        self, pass_: str, key: Callable[[str], str], more: Callable[[str, Tile], Iterable[Tile]]
    ) -> dict[str, Sequence[Mapping[str, int]]]:
        """Configs worth trying for each kernel of a pass, by its key in tuning tables: its own first."""
        found: dict[str, Sequence[Mapping[str, int]]] = {}
        for name in self.launched(pass_):
            own = self.tiles[name]
            found[key(name)] = [_fields(tile) for tile in dict.fromkeys([own, *more(name, own)])]
        return found


def _fields(tile: Any) -> dict[str, Any]:
    return asdict(tile)


def chosen(key: str, own: Tile) -> Tile:
    """The tile that tuning chose for a key, else the table's own."""
    config = choice(key)
    return own if config is None else type(own)(**config)


def span_of(problem: Problem) -> Span:
    """The span of a problem's sequence passes."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    return Span(p.N, longest, p.B * p.T, bounds is not None)


def cut(span: Span, warps: int, least: int | None = None, busy: int = BUSY, fill: int = FILL) -> Cut:
    """Segments for `suite.target()`, of a scan that takes so many warps per sequence; of at least LEAST tokens.

    busy, fill: warps an SM below which sequences are cut, and up to which they are
    """
    sms = suite.target().sms
    if span.rows * warps >= busy * sms:
        return cut_into(span, span.longest)
    wanted = -(-span.rows * warps * span.longest // (fill * sms))
    return cut_into(span, max(least or LEAST, -(-wanted // UNIT) * UNIT))


def cut_into(span: Span, segment: int) -> Cut:
    """The cut into segments of so many tokens."""
    segments = -(-span.longest // segment)
    slots = span.tokens // segment + span.sequences if span.packed else span.sequences * segments
    return Cut(segment, segments, slots)


def few_modes(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a problem has too many modes for our kernels, or None: an implementation's `supports`."""
    if problem.K > MAX_MODES:
        return f"triton_chunk takes at most {MAX_MODES} modes (K)"
    return None
