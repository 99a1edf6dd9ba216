"""How a step is launched: host code that depends on shapes and `suite.target()`, never on lengths.

So one launch serves every step of a batch as its caches grow, and can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import suite
from kernels.attention.attention_decode.tiles import DIMS, ROWS, Tile, class_of, tile_of
from kernels.common.heads import unpaired
from kernels.common.shapes import power_of_2
from suite import Problem, dtypes
from suite.problem import Value
from suite.tuning import Config, choice

SPLIT, STREAM = "split", "stream"
MAX_DIM = max(DIMS)
# A stream's programs hold all lengths in registers.
MAX_SEQUENCES = 8192
# What a split costs beside its tiles, in tiles, and the most rounds of programs that are considered.
SPLIT_COST, ROUNDS = 1, 8
# Columns of o that a program combines, and partial results that it loads at a time.
WIDTH, MANY = 64, 16
WIDTHS = (32, 64, 128)


@dataclass(frozen=True)
class Shape:
    """What a launch depends on. T: rows that a sequence's pages hold; page: 0 where caches are contiguous."""

    B: int
    Q: int
    T: int
    H: int
    HK: int
    K: int
    V: int
    dtype: str
    page: int

    @property
    def dim(self) -> int:
        """The larger head dim."""
        return max(self.K, self.V)

    @property
    def itemsize(self) -> int:
        return dtypes.BYTES[self.dtype]

    @property
    def rows(self) -> int:
        """Query rows of a kv head."""
        return self.Q * self.H // self.HK

    @property
    def block(self) -> int:
        """Query rows of a program; more are taken in blocks, each with a stream of keys and values of its own."""
        return min(self.rows, ROWS[class_of(self.dim), self.itemsize])

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)

    @property
    def pairs(self) -> int:
        """Sequences x kv heads x blocks of rows: what a split or a stream shares out."""
        return self.B * self.HK * self.blocks


def shape_of(problem: Problem) -> Shape:
    """The shape that a problem's step is planned for."""
    p, page = problem, int(problem.axis("page"))
    T = -(-p.T // page) * page if page else p.T
    return Shape(p.B, int(p.axis("queries")), T, p.H, p.HK, p.K, p.V, p.dtype, page)


def key(shape: Shape, schedule: str) -> str:
    """The key of a config in tuning tables: the schedule, and everything that changes which config is fastest."""
    s = shape
    cache = f"page{s.page}" if s.page else "contiguous"
    return f"attention_decode/{schedule}/K{s.K}/V{s.V}/{s.dtype}/R{power_of_2(s.block)}/{cache}"


def table_tile(shape: Shape) -> Tile:
    """The table's tile. With pages its pipeline has one more stage, for the look-up in the block table."""
    tile = tile_of(suite.target().tile_class, shape.dim, shape.itemsize, shape.block)
    return replace(tile, stages=tile.stages + (shape.page > 0))


def plan(shape: Shape, schedule: str) -> tuple[Tile, int]:
    """The tile, and how many splits a pair is cut into (split) or how many programs share all tiles (stream)."""
    tile = table_tile(shape)
    if config := choice(key(shape, schedule)):
        tile = replace(tile, **config)
    tiles = -(-shape.T // tile.width)
    fits = suite.target().sms * tile.resident
    if schedule == STREAM:
        return tile, min(fits, tiles * shape.pairs)
    return tile, splits(shape.pairs, tiles, fits)


@cache
def splits(pairs: int, tiles: int, fits: int) -> int:
    """The smallest number of splits that ends soonest, if programs run in rounds of `fits`.

    A split takes its tiles, and SPLIT_COST more for filling its pipeline and for being written and combined.
    """
    most = min(tiles, max(1, ROUNDS * fits // pairs))
    return min(range(1, most + 1), key=lambda s: -(-pairs * s // fits) * (-(-tiles // s) + SPLIT_COST))


def describe(shape: Shape, schedule: str) -> dict[str, Any]:
    """The plan, as a record's `configuration` holds it."""
    tile, number = plan(shape, schedule)
    return {schedule: {**asdict(tile), "parts" if schedule == SPLIT else "programs": number}}


def candidates(shape: Shape, schedule: str) -> dict[str, list[Config]]:
    """Configs worth trying, the table's first: tiles half and twice as long, other pipelines, more programs per SM."""
    tile = table_tile(shape)
    others = [
        replace(tile, stages=tile.stages + 1),
        replace(tile, stages=2, resident=tile.resident + 1),
        replace(tile, resident=tile.resident + 1),
        replace(tile, warps=8),
        *(replace(tile, width=width, stages=2) for width in WIDTHS if width != tile.width),
    ]
    distinct = dict.fromkeys([tile, *others])
    return {key(shape, schedule): [asdict(each) for each in distinct]}


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"the kernels take head dims up to {MAX_DIM}"
    if problem.B > MAX_SEQUENCES:
        return f"the kernels take up to {MAX_SEQUENCES} sequences"
    return unpaired(problem)
