"""Regime and tiles of S4D's scan: host code that depends on shapes and `suite.target()` alone.

A program takes a block of channels and walks over tokens, `rows` chunks at a time. Tiles follow from what the compiler
reports, not from timing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import suite
from kernels.common.shapes import next_power_of_2
from kernels.scan.plan import BUSY, Cut, Plan, Span, chosen, cut, span_of
from suite import Problem

KERNELS = {"fwd": ("local", "output"), "bwd": ("local_reverse", "inputs", "sums")}
# Tokens of a chunk, and of the shortest segment: a segment's state is as large as 2 N tokens of a channel.
CHUNK, LEAST = 32, 512
# The fewest rows and columns that a matrix product takes, and the most by tile class: for sm_100 Triton 3.6 compiles
# no product of 64 rows in these kernels.
SMALLEST, MOST = 16, {100: 32}


@dataclass(frozen=True)
class Tile:
    """width: channels of a program; rows: chunks of a step; modes: pairs at a time; warps of a program."""

    width: int
    rows: int
    modes: int
    warps: int


# By pairs of modes: of the scan, and of the sums, which hold two inputs and twice the states.
SCAN = {16: Tile(4, 64, 16, 8), 32: Tile(4, 64, 32, 8), 64: Tile(2, 64, 32, 8), 128: Tile(1, 64, 32, 8)}
SUMS = {16: Tile(1, 64, 16, 8), 32: Tile(1, 64, 32, 8), 64: Tile(1, 64, 32, 8), 128: Tile(1, 64, 32, 8)}


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


def plan(shape: Shape) -> Plan[Tile]:
    """Segments where blocks of channels do not keep the GPU busy."""
    scan, sums = SCAN[shape.size], SUMS[shape.size]
    # A program an SM keeps it busy: its warps take turns at one channel after the other.
    made = cut(shape.span, BUSY * -(-shape.channels // scan.width), LEAST)
    own = dict.fromkeys(("local", "output", "local_reverse", "inputs"), scan) | {"sums": sums}
    tiles = {name: chosen(key(shape, made, name), _fitting(tile, made)) for name, tile in own.items()}
    return Plan(made, tiles, KERNELS)


def _fitting(tile: Tile, made: Cut) -> Tile:
    """No more rows than a segment has chunks, nor than the architecture takes."""
    rows = min(next_power_of_2(-(-made.segment_size // CHUNK)), MOST.get(suite.target().tile_class, tile.rows))
    return replace(tile, rows=max(SMALLEST, min(tile.rows, rows)))


def key(shape: Shape, made: Cut, name: str) -> str:
    """The key of a kernel's config in tuning tables."""
    regime = "segments" if made.segmented else "on-chip"
    return f"s4d/{name}/M{shape.pairs}/{shape.dtype}/{regime}"


def search(shape: Shape, pass_: str) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of a pass, the table's own first."""
    made = plan(shape)

    def more(name: str, own: Tile) -> list[Tile]:
        return [
            replace(own, width=width, modes=modes, warps=warps)
            for width in (own.width, max(1, own.width // 2), 2 * own.width if name == "sums" else own.width)
            for modes in (SMALLEST, min(2 * SMALLEST, shape.size))
            for warps in (4, 8)
        ]

    return made.search(pass_, partial(key, shape, made.cut), more)


def of_problem(problem: Problem) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    return Shape(span_of(problem), problem.HS * problem.V, problem.K // 2, problem.dtype)
