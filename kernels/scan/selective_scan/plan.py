"""Regime and tiles of the selective scan: host code that depends on shapes and `suite.target()` alone.

A program is one warp. The narrower its block of channels, the more threads share a channel's modes, and the more
programs there are. Tiles follow from what the compiler reports, not from timing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import suite
from kernels.common.shapes import next_power_of_2
from kernels.scan import plan as scan
from kernels.scan.plan import Cut, Span, chosen, cut, span_of
from suite import Problem

KERNELS = {"fwd": ("local", "output"), "bwd": ("local_reverse", "gradients")}


@dataclass(frozen=True)
class Tile:
    """width: channels of a program; rows: tokens of a step; warps of a program."""

    width: int
    rows: int
    warps: int


# Channels of a program from wide to narrow, by modes: at most 64 fp32 a thread for each of the state and A.
WIDTHS = {16: (32, 16, 8), 32: (32, 16, 8), 64: (32, 16, 8), 128: (16, 8), 256: (8, 4)}
ROWS = 4
# Warps an SM below which sequences are cut, and up to which they are.
BUSY, FILL = 6, 10
# Of the gradients, channels and tokens of a step. A step's states are kept in registers; its tokens are also what lies
# between two checkpoints of the forward pass.
GRADIENT_TILES = {16: Tile(16, 4, 1), 32: Tile(8, 4, 1), 64: Tile(4, 4, 1), 128: Tile(4, 2, 1), 256: Tile(2, 2, 1)}


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: tokens, groups and the channels of each, modes, dtype."""

    span: Span
    groups: int
    channels: int
    modes: int
    dtype: str

    @property
    def size(self) -> int:
        """Modes as the tables have them."""
        return max(16, next_power_of_2(self.modes))


class Plan(scan.Plan[Tile]):
    """The tokens of a step of the gradients are also what lies between two checkpoints of the forward pass."""

    @property
    def interval(self) -> int:
        """Tokens between checkpoints."""
        return self.tiles["gradients"].rows


def blocks_of(shape: Shape, tile: Tile) -> int:
    """Blocks of channels of a group."""
    return -(-shape.channels // tile.width)


def plan(shape: Shape) -> Plan:
    """The widest tile whose programs keep the GPU busy; where none does, segments in the widest.

    A segment's exponentials are computed twice, in the local pass and in the last one. That costs less than warps that
    wait for one another: a step is a long chain.
    """
    sms = suite.target().sms
    tiles = [Tile(width, ROWS, 1) for width in WIDTHS[shape.size]]
    busy = [t for t in tiles if shape.span.rows * shape.groups * blocks_of(shape, t) >= BUSY * sms]
    own = (busy or tiles)[0]
    made = cut(shape.span, shape.groups * blocks_of(shape, own), busy=BUSY, fill=FILL)
    table = dict.fromkeys(("local", "output", "local_reverse"), own) | {"gradients": GRADIENT_TILES[shape.size]}
    return Plan(made, {name: chosen(key(shape, made, name), tile) for name, tile in table.items()}, KERNELS)


def key(shape: Shape, made: Cut, name: str) -> str:
    """The key of a kernel's config in tuning tables."""
    regime = "segments" if made.segmented else "on-chip"
    return f"selective_scan/{name}/N{shape.modes}/{shape.dtype}/{regime}"


def search(shape: Shape, pass_: str) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of a pass, the table's own first.

    Of the gradients only the width is free: their tokens are the distance of the checkpoints.
    """
    made = plan(shape)

    def more(name: str, own: Tile) -> list[Tile]:
        if name == "gradients":
            return [Tile(width, own.rows, 1) for width in (own.width // 2, 2 * own.width)]
        return [Tile(width, rows, 1) for width in WIDTHS[shape.size] for rows in (4, 8)]

    return made.search(pass_, partial(key, shape, made.cut), more)


def of_problem(problem: Problem) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    p = problem
    return Shape(span_of(p), p.H, p.HS // p.H * p.V, p.K, p.dtype)
