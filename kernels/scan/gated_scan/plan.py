"""Regime and tiles of the gated scan: host code that depends on shapes and `suite.target()` alone.

Tiles follow from what the compiler reports, not from timing: 16 bytes per thread and row, one warp, no spills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import suite
from kernels.common.shapes import next_power_of_2
from kernels.scan.plan import Cut, Plan, Span, chosen, cut, span_of
from suite import Problem
from suite.dtypes import BYTES

KERNELS = {"fwd": ("local", "output"), "bwd": ("local_reverse", "gradients")}


@dataclass(frozen=True)
class Tile:
    """width: channels of a program; rows: tokens of a step; warps of a program; stages of its load pipeline."""

    width: int
    rows: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Shape:
    """What a plan depends on."""

    span: Span
    channels: int
    dtype: str
    scaled: bool


# Itemsize -> widths from wide to narrow. A warp takes 16 bytes per thread in the widest one.
WIDTHS = {2: (256, 128, 64), 4: (128, 64)}
ROWS, STAGES = 8, 2
# Six tensors' rows and the scale's slope do not fit in registers with 8 tokens a step.
SCALED_ROWS = {"gradients": 4}


def plan(shape: Shape) -> Plan[Tile]:
    """The widest tile with which whole sequences keep the GPU busy; segments move five elements per token, not three.

    If no tile does, the widest tile whose segments fill the GPU.
    """
    widths = [min(width, next_power_of_2(shape.channels)) for width in WIDTHS[BYTES[shape.dtype]]]
    cuts = [(width, cut(shape.span, -(-shape.channels // width))) for width in widths]
    whole = [(w, c) for w, c in cuts if not c.segmented]
    filling = whole or [(w, c) for w, c in cuts if _programs(shape, w, c) >= suite.target().sms]
    width, made = filling[0] if filling else cuts[-1]
    tiles = {}
    for name in (name for names in KERNELS.values() for name in names):
        rows = SCALED_ROWS.get(name, ROWS) if shape.scaled else ROWS
        tiles[name] = chosen(key(shape, made, name), Tile(width, rows, 1, STAGES))
    return Plan(made, tiles, KERNELS)


def _programs(shape: Shape, width: int, made: Cut) -> int:
    return shape.span.rows * -(-shape.channels // width) * made.segments


def key(shape: Shape, made: Cut, name: str) -> str:
    """The key of a kernel's config in tuning tables."""
    regime = "segments" if made.segmented else "on-chip"
    scaled = "sqrt" if shape.scaled else "none"
    return f"gated_scan/{name}/D{shape.channels}/{shape.dtype}/{scaled}/{regime}"


def search(shape: Shape, pass_: str) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of a pass, the table's own first."""
    made = plan(shape)

    def more(name: str, own: Tile) -> list[Tile]:
        found = [Tile(own.width, rows, 1, stages) for rows in (own.rows, 2 * own.rows) for stages in (1, 2, 3)]
        if shape.channels >= 4 * own.width:
            found += [Tile(4 * own.width, 8, 4, stages) for stages in (1, 2)]
        if own.width >= 128:
            found.append(Tile(own.width // 2, 16, 1, 2))
        return found

    return made.search(pass_, partial(key, shape, made.cut), more)


def of_problem(problem: Problem) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    scaled = problem.axis("input_scaling") == "sqrt"
    return Shape(span_of(problem), problem.HS * problem.V, problem.dtype, scaled)
