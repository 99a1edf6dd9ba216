"""Regime and tiles of S4D's scan: host code that depends on shapes and `suite.target()` alone.

A program takes a channel and walks over tokens, `rows` chunks at a time. Tiles follow from what the compiler reports
and from predicted time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kernels.common.shapes import next_power_of_2
from kernels.common.tiles import stages_of
from kernels.scan.plan import BUSY, Cut, Plan, Span, chosen, cut, cut_into, span_of
from suite import Problem
from suite.dtypes import BYTES

KERNELS = {"fwd": ("local", "output"), "bwd": ("local_reverse", "inputs", "sums")}
# Tokens of a chunk by itemsize, and of the shortest segment: a segment's state is as large as 2 N tokens of a channel.
CHUNKS = {2: 64, 4: 32}
LEAST = 512
# The fewest rows and modes of a matrix product.
SMALLEST = 16


@dataclass(frozen=True)
class Tile:
    """rows: chunks of a step; modes: pairs at a time; warps of a program; stages of its load pipeline."""

    rows: int
    modes: int
    warps: int
    stages: int


# By itemsize: the most of the scan, and of the sums, whose rows are also what lies between two states that are kept.
SCAN = {2: Tile(64, 64, 4, 1), 4: Tile(64, 32, 4, 1)}
SUMS = {2: Tile(128, 32, 4, 1), 4: Tile(64, 32, 4, 1)}


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: tokens, channels, pairs of modes, dtype."""

    span: Span
    channels: int
    pairs: int
    dtype: str

    @property
    def size(self) -> int:
        """Pairs as the kernels have them."""
        return max(SMALLEST, next_power_of_2(self.pairs))

    @property
    def chunk(self) -> int:
        """Tokens of a chunk."""
        return CHUNKS[BYTES[self.dtype]]


class S4dPlan(Plan[Tile]):
    """Rows of the sums are also the distance at which the scans keep states."""

    def block(self, chunk: int) -> int:
        """Tokens between two states that are kept."""
        block = self.tiles["sums"].rows * chunk
        return min(block, self.cut.segment_size) if self.cut.segmented else block


def plan(shape: Shape) -> S4dPlan:
    """Segments where channels do not keep the GPU busy."""
    size = BYTES[shape.dtype]
    # A program an SM keeps it busy: its warps take turns.
    made = cut(shape.span, BUSY * shape.channels, LEAST)
    rows = _rows(shape, made.segment_size)
    own = dict.fromkeys(("local", "output", "local_reverse", "inputs"), _fitting(SCAN[size], shape, rows))
    own |= {"sums": _fitting(SUMS[size], shape, rows)}
    if made.segmented:
        # A segment is one block, or some whole ones.
        unit = shape.chunk if made.segment_size <= own["sums"].rows * shape.chunk else own["sums"].rows * shape.chunk
        made = cut_into(shape.span, -(-made.segment_size // unit) * unit)
    tiles = {name: chosen(key(shape, made, name), tile) for name, tile in own.items()}
    return S4dPlan(made, tiles, KERNELS)


def _rows(shape: Shape, segment: int) -> int:
    """No more rows than a segment has chunks."""
    return max(SMALLEST, next_power_of_2(-(-segment // shape.chunk)))


def _fitting(tile: Tile, shape: Shape, rows: int) -> Tile:
    # The loop of a scan carries the sum of one product to another.
    stages = stages_of(tile.stages, carries=True)
    return replace(tile, rows=min(tile.rows, rows), modes=min(tile.modes, shape.size), stages=stages)


def key(shape: Shape, made: Cut, name: str) -> str:
    """The key of a kernel's config in tuning tables."""
    regime = "segments" if made.segmented else "on-chip"
    return f"s4d/{name}/N{2 * shape.pairs}/{shape.dtype}/{regime}"


def search(shape: Shape, pass_: str) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of a pass, the table's own first."""
    made = plan(shape)

    def more(name: str, own: Tile) -> list[Tile]:
        # The rows of the sums are the distance of the kept states, which a tile of a scan does not pass.
        most = made.tiles["sums"].rows
        rows = (own.rows,) if name == "sums" else [each for each in (32, 64, 128) if each <= most]
        modes = [each for each in (16, 32, 64) if each <= shape.size]
        stages = (1,) if name == "sums" else [each for each in (1, 2) if each == stages_of(each, carries=True)]
        return [Tile(each, few, 4, deep) for each in rows for few in modes for deep in stages]

    return made.search(pass_, partial(key, shape, made.cut), more)


def of_problem(problem: Problem) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    return Shape(span_of(problem), problem.HS * problem.V, problem.K // 2, problem.dtype)
